package access_test

import (
	"context"
	"io"
	"log/slog"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/dataplane/access"
	"github.com/caresphere/caresphere/dataplane/dptest"
	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/tenants"
)

// logins are a cell's credentials, with what a test does meanwhile.
type logins struct {
	access.StoredCredentials
	looked atomic.Int64
	during func()
}

// Login implements access.Credentials.
func (l *logins) Login(ctx context.Context, tenant tenants.ID) (access.Login, error) {
	if l.during != nil {
		l.during()
	}
	return l.StoredCredentials.Login(ctx, tenant)
}

// Stamp implements access.Credentials.
func (l *logins) Stamp(ctx context.Context, tenant tenants.ID) (tenantdb.Stamp, error) {
	l.looked.Add(1)
	return l.StoredCredentials.Stamp(ctx, tenant)
}

// worker is a door of its own in the cell.
func worker(t *testing.T, cell *dptest.Cell, l *logins, signals *access.Signals) (*access.Door, *access.Pools) {
	t.Helper()
	l.StoredCredentials = access.StoredCredentials{Cell: dptest.Super(t, cell.DB), KMS: cell.KMS}
	pools := access.NewPools(access.PoolConfig{DSN: cell.DB.DSN("cell_worker"), Requests: 1, Opening: 1}, l)
	door := access.NewDoor(pools, signals)
	t.Cleanup(door.Close)
	return door, pools
}

// TestAFloodOfHintsDropsNothing has another tenant's login send hints about a tenant
// without end: its connections stay, and the database is asked now and then. A change
// that is among them is found.
func TestAFloodOfHintsDropsNothing(t *testing.T) {
	cell := dptest.Start(t)
	org, other := cell.Tenant(t, "harbor", tenants.Residential), cell.Tenant(t, "meadow", tenants.Residential)
	var l logins
	signals := access.NewSignals(cell.DB.DSN("cell_worker"), 10*time.Millisecond, slog.New(slog.NewJSONHandler(io.Discard, nil)))
	door, _ := worker(t, cell, &l, signals)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = signals.Run(ctx, door) }()
	defer func() { stop(); <-ended }()

	use := func() {
		_, err := door.Authorize(t.Context(), org.ID, org.Owner.ID, org.Owner.SessionID)
		require.NoError(t, err)
	}
	serving := func() bool { return door.Serves(org.ID) }
	hostile := other.Connect(t)
	hint := func() {
		_, err := hostile.Exec(t.Context(), "SELECT pg_notify($1, $2)", tenantdb.GateChannel, tenantdb.HintTag(tenantdb.GateChannel, org.ID))
		require.NoError(t, err)
	}
	use()
	began, before := time.Now(), l.looked.Load()
	require.Eventually(t, func() bool { hint(); return l.looked.Load() > before }, 30*time.Second, time.Millisecond, "the worker listens")
	for range 500 {
		hint()
		require.True(t, serving())
	}
	require.Eventually(t, func() bool { hint(); require.True(t, serving()); return l.looked.Load() >= before+3 }, 30*time.Second, time.Millisecond)
	require.LessOrEqual(t, l.looked.Load()-before, 2+int64(time.Since(began)/time.Second))

	for name, change := range map[string]string{
		"the gate":       "INSERT INTO cell.tenant_fence AS f (tenant_id, gate_version, gate_open) VALUES ($1, 1, true)",
		"the credential": "UPDATE cell.tenant_credential SET updated_at = clock_timestamp() WHERE tenant_id = $1",
	} {
		// Authorizations are forgotten last: until then one may still serve that needs no pool.
		require.Eventually(t, func() bool { use(); return serving() }, 30*time.Second, time.Millisecond)
		cell.Exec(t, change, org.ID)
		hint()
		require.Eventually(t, func() bool { return !serving() }, 30*time.Second, time.Millisecond, name)
	}
	// While the gate is closed nothing is kept, changed or not.
	cell.Exec(t, "UPDATE cell.tenant_fence SET gate_open = false WHERE tenant_id = $1", org.ID)
	for range 2 {
		use()
		hint()
		require.Eventually(t, func() bool { return !serving() }, 30*time.Second, time.Millisecond)
	}
}

// TestALoadThatWasDroppedLeavesNoPool drops a tenant while its pool is being made.
func TestALoadThatWasDroppedLeavesNoPool(t *testing.T) {
	cell := dptest.Start(t)
	org := cell.Tenant(t, "harbor", tenants.Residential)
	var l logins
	door, pools := worker(t, cell, &l, nil)
	open := func() int {
		var b strings.Builder
		require.NoError(t, pprof.Lookup("goroutine").WriteTo(&b, 2))
		return strings.Count(b.String(), "pgxpool.(*Pool).backgroundHealthCheck(")
	}
	use := func() {
		_, err := door.Authorize(t.Context(), org.ID, tenants.NewID(), tenants.NewID())
		require.True(t, tenants.IsKind(err, tenants.KindNotFound), "%v", err)
	}
	before := open()
	use()
	require.Eventually(t, func() bool { return open() == before+2 }, 30*time.Second, time.Millisecond, "a tenant's two pools")
	pools.Drop(org.ID)
	require.Eventually(t, func() bool { return open() == before }, 30*time.Second, time.Millisecond)

	drops := 0
	l.during = func() {
		if drops < 5 {
			drops++
			pools.Drop(org.ID)
		}
	}
	use()
	require.Equal(t, 5, drops)
	require.Eventually(t, func() bool { return open() == before+2 }, 30*time.Second, time.Millisecond)
	pools.Drop(org.ID)
	require.Eventually(t, func() bool { return open() == before }, 30*time.Second, time.Millisecond)
}

// TestAFullTenantHoldsNobodyUp has a tenant's request wait for one of its connections,
// all in use, where a single connection is opened at once: another tenant's is.
func TestAFullTenantHoldsNobodyUp(t *testing.T) {
	cell := dptest.Start(t)
	full, other := cell.Tenant(t, "harbor", tenants.Residential), cell.Tenant(t, "meadow", tenants.Residential)
	var l logins
	door, _ := worker(t, cell, &l, nil)
	cell.Exec(t, "INSERT INTO "+full.Role+".data_key (id, purpose, wrapped, kms_version) VALUES ($1, 'slow', '', 1)", tenants.NewID())
	cell.Exec(t, "CREATE POLICY slow ON "+full.Role+".data_key AS RESTRICTIVE FOR SELECT USING (pg_sleep(4) IS NOT NULL)")

	busy := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := door.Keys().Newest(t.Context(), full.ID, "slow")
			busy <- err
		}()
	}
	require.Eventually(t, func() bool {
		return cell.Count(t, "SELECT count(*) FROM pg_stat_activity WHERE usename = $1 AND wait_event = 'PgSleep'", full.Role) == 2
	}, 30*time.Second, time.Millisecond)
	waited := make(chan error, 1)
	go func() {
		_, err := door.Authorize(t.Context(), full.ID, full.Owner.ID, full.Owner.SessionID)
		waited <- err
	}()
	require.Eventually(t, func() bool { return door.Running(full.ID) == 1 }, 30*time.Second, time.Millisecond)
	_, err := door.Authorize(t.Context(), other.ID, other.Owner.ID, other.Owner.SessionID)
	require.NoError(t, err)
	require.Empty(t, busy, "the other tenant was served after the full one")
	require.NoError(t, <-waited)
	require.NoError(t, <-busy)
	require.NoError(t, <-busy)
}
