package sealer

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/audit/audittest"
	"github.com/caresphere/caresphere/tenants"
)

// gauge reads one metric without labels; -1 if there is none.
func gauge(t *testing.T, r *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := r.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return -1 // not registered yet
}

func TestAScheduledCheckFindsWhatSealingDoesNot(t *testing.T) {
	c := newCell(t)
	n, whole := c.tenant(t), c.tenant(t)
	s, _ := c.run(t, 100*time.Millisecond)
	for _, one := range []*audittest.Tenant{n, whole} {
		conn := one.Connect(t)
		for range 5 {
			one.Record(t, conn, one.Member(tenants.RoleNurse), audit.Event{Action: "client.read"})
		}
		c.anchored(t, one, 5)
	}
	registry := prometheus.NewRegistry()
	checks := &Checks{Sealer: s, Every: 50 * time.Millisecond, Registerer: registry}
	cctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- checks.Run(cctx) }()
	t.Cleanup(func() { cancel(); require.ErrorIs(t, <-ended, context.Canceled) })
	require.Eventually(t, func() bool { return gauge(t, registry, "caresphere_audit_checked_entries_total") >= 10 }, 20*time.Second, 10*time.Millisecond)
	require.Eventually(t, func() bool { return gauge(t, registry, "caresphere_audit_check_finished_timestamp_seconds") > 0 }, 20*time.Second, 10*time.Millisecond)
	require.Zero(t, gauge(t, registry, "caresphere_audit_damaged_logs"))

	super := audittest.Connect(t, audittest.Super, c.database)
	table := n.Log().Table("audit_entry")
	audittest.Exec(t, super, "ALTER TABLE "+table+" DISABLE TRIGGER ALL")
	audittest.Exec(t, super, "UPDATE "+table+" SET action = 'client.update' WHERE seq = 2")
	require.Eventually(t, func() bool { return gauge(t, registry, "caresphere_audit_damaged_logs") == 1 }, 20*time.Second, 10*time.Millisecond)
	// Put back as it was, it is whole again.
	audittest.Exec(t, super, "UPDATE "+table+" SET action = 'client.read' WHERE seq = 2")
	require.Eventually(t, func() bool { return gauge(t, registry, "caresphere_audit_damaged_logs") == 0 }, 20*time.Second, 10*time.Millisecond)
}

func TestDamageIsAnErrorInTheLog(t *testing.T) {
	c := newCell(t)
	n := c.tenant(t)
	n.Record(t, n.Connect(t), n.Member(tenants.RoleNurse), audit.Event{Action: "client.read"})
	s, err := New(Config{Key: c.key, Logger: slog.New(slog.NewJSONHandler(&c.out, nil)), Sources: []Source{{Pool: c.pool, Logs: c.list, Anchor: c.anchor}}})
	require.NoError(t, err)
	u := s.units[0]
	require.Eventually(t, func() bool {
		// Other tests' transactions in the same server may hold the entry back for a moment.
		r, err := Log{Log: n.Log(), Pool: c.pool, Anchor: c.anchor, Signer: u.signer, Verifier: u.verifier}.Seal(ctx)
		require.NoError(t, err)
		return r.Size == 1
	}, 20*time.Second, 10*time.Millisecond)
	checks := &Checks{Sealer: s}
	require.True(t, checks.Round(ctx))
	require.Empty(t, c.out.String())
	super := audittest.Connect(t, audittest.Super, c.database)
	audittest.Exec(t, super, "ALTER TABLE "+n.Log().Table("audit_entry")+" DISABLE TRIGGER ALL")
	audittest.Exec(t, super, "TRUNCATE "+n.Log().Table("audit_entry"))
	require.False(t, checks.Round(ctx))
	require.Contains(t, c.out.String(), "AUDIT LOG DAMAGED")
	require.Contains(t, c.out.String(), n.ID.String())
	require.Contains(t, c.out.String(), "the entry is gone")
}

// The control plane's trail tells the sealer by itself, whoever writes to it.
func TestTheControlLogIsSealedAsItIsWritten(t *testing.T) {
	database, elsewhere := audittest.Control(t), audittest.Control(t)
	key, _ := audittest.Key(t, "caresphere-audit")
	l := audit.ControlLog()
	anchor := PostgresAnchor{audittest.Pool(t, "provisioner", elsewhere)}
	s, err := New(Config{Key: key, Sweep: time.Hour, Sources: []Source{{Pool: audittest.Pool(t, "provisioner", database),
		Logs: func(context.Context) ([]audit.Log, error) { return []audit.Log{l}, nil }, Anchor: anchor}}})
	require.NoError(t, err)
	rctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(rctx) }()
	t.Cleanup(func() { cancel(); require.ErrorIs(t, <-ended, context.Canceled) })
	writer := audittest.Connect(t, "controlplane", database)
	for i := range int64(3) {
		_, err := writer.Exec(ctx, audit.InsertSQL(true), audit.InsertArgs(true, tenants.Actor{Kind: tenants.ActorSystem}, audit.Event{Action: "organization.created"})...)
		require.NoError(t, err)
		written := time.Now()
		require.Eventually(t, func() bool {
			a, err := anchor.Last(ctx, l.Origin(1))
			require.NoError(t, err)
			return a != nil && a.Size == i+1
		}, 20*time.Second, 10*time.Millisecond)
		if i > 0 { // the first may be found by the look at the start
			require.Less(t, time.Since(written), 5*time.Second)
		}
	}
}
