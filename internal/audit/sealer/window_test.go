package sealer

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/audit/audittest"
	"github.com/caresphere/caresphere/internal/testkit/prove"
)

// settled waits until no transaction of another test keeps an entry from being sealed.
func (f *fixture) settled(t testing.TB) {
	t.Helper()
	require.Eventually(t, func() (past bool) {
		require.NoError(t, f.super.QueryRow(ctx, "SELECT pg_snapshot_xmin(pg_current_snapshot()) > max(xid) FROM "+f.log.Log.Table("audit_entry")).Scan(&past))
		return past
	}, 20*time.Second, 10*time.Millisecond)
}

// The bound of what is sealed stands unsigned beside its head: moved, it must stop the
// log and not blind it. Moved back again, the log goes on.
func TestAMovedBoundStopsTheLog(t *testing.T) {
	const newest = " WHERE tree_size = 10"
	for name, test := range map[string]struct{ set, what string }{
		"far ahead":         {"xid_to = '1000000000000000000'", "the bound was moved"},
		"far ahead, open":   {"xid_to = '1000000000000000000', window_done = false", "the bound was moved"},
		"both far ahead":    {"xid_from = '1000000000000000000', xid_to = '1000000000000000000', window_done = false", "the bound was moved"},
		"over what waits":   {"xid_to = pg_snapshot_xmin(pg_current_snapshot())", "was passed over"},
		"past all entries":  {"last_seq = 1000, window_done = false", "are gone"},
		"back to the first": {"xid_to = xid_from", "has a leaf already"},
	} {
		t.Run(name, func(t *testing.T) {
			f := setup(t)
			f.log.Recent = time.Hour
			f.write(t, 4)
			f.sealTo(t, 4)
			f.write(t, 6)
			f.sealTo(t, 10)
			var from, to uint64
			var last int64
			require.NoError(t, f.super.QueryRow(ctx, "SELECT xid_from, xid_to, last_seq FROM "+f.log.Log.Table("audit_checkpoint")+newest).Scan(&from, &to, &last))
			f.write(t, 3)
			f.settled(t)
			f.alter(t, "audit_checkpoint", "UPDATE %s SET "+test.set+newest)
			_, err := f.log.Seal(ctx)
			var tampered *TamperError
			require.ErrorAs(t, err, &tampered)
			require.Contains(t, tampered.What, test.what)
			prove.State(t, prove.AuditForged, 1, 0)
			name := f.log.Log.Table("audit_checkpoint")
			audittest.Exec(t, f.super, "ALTER TABLE "+name+" DISABLE TRIGGER ALL")
			audittest.Exec(t, f.super, "UPDATE "+name+" SET xid_from = $1, xid_to = $2, last_seq = $3, window_done = true"+newest, from, to, last)
			audittest.Exec(t, f.super, "ALTER TABLE "+name+" ENABLE TRIGGER ALL")
			f.sealTo(t, 13)
		})
	}
}

// The check of all entries finds a bound that lies ahead, and one moved by little.
func TestTheCheckFindsAMovedBound(t *testing.T) {
	for set, what := range map[string]string{
		"xid_to = '1000000000000000000'":                   "the bound was moved",
		"xid_to = pg_snapshot_xmin(pg_current_snapshot())": "behind the sealer's back",
	} {
		f := setup(t)
		f.write(t, 4)
		f.sealTo(t, 4)
		f.write(t, 2)
		f.settled(t)
		f.alter(t, "audit_checkpoint", "UPDATE %s SET "+set)
		report, err := f.log.Check(ctx)
		require.NoError(t, err)
		require.NotEmpty(t, report.Findings)
		require.Contains(t, report.Findings[0].What, what)
	}
}

// A running sealer looks for what was passed over without being told.
func TestALookFindsWhatWasPassedOver(t *testing.T) {
	c := newCell(t)
	n := c.tenant(t)
	f := c.fixture(t, n)
	f.write(t, 3)
	f.sealTo(t, 3)
	f.write(t, 2)
	f.settled(t)
	f.alter(t, "audit_checkpoint", "UPDATE %s SET xid_to = pg_snapshot_xmin(pg_current_snapshot())")
	_, err := f.log.Seal(ctx)
	require.NoError(t, err, "no seal sees it that is not asked to look")
	s, _ := c.run(t, time.Hour)
	require.Eventually(t, func() bool { return s.Tampered()[n.ID.String()] != "" }, 20*time.Second, 10*time.Millisecond)
	require.Contains(t, s.Tampered()[n.ID.String()], "passed over")
}

// A sweep asks a log whose bound lies ahead, though nothing is behind it.
func TestASweepFindsABoundThatLiesAhead(t *testing.T) {
	c := newCell(t)
	n, sound := c.tenant(t), c.tenant(t)
	for _, f := range []*fixture{c.fixture(t, n), c.fixture(t, sound)} {
		f.write(t, 3)
		f.sealTo(t, 3)
		if f.Tenant == n {
			f.alter(t, "audit_checkpoint", "UPDATE %s SET xid_to = '1000000000000000000'")
		}
	}
	s, err := New(Config{Key: c.key, Sources: []Source{{Pool: c.pool, Logs: c.list, Anchor: c.anchor}}})
	require.NoError(t, err)
	behind, err := s.units[0].behind(ctx, c.logs)
	require.NoError(t, err)
	require.Len(t, behind, 1)
	require.Equal(t, n.ID, behind[0].TenantID)
}
