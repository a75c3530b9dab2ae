package placement_test

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/cptest"
	"github.com/caresphere/caresphere/controlplane/placement"
	"github.com/caresphere/caresphere/tenants"
)

var ctx = context.Background()

func version(t *testing.T, w *cptest.World) int64 {
	t.Helper()
	v, err := strconv.ParseInt(w.Value(t, "SELECT version FROM route_version"), 10, 64)
	require.NoError(t, err)
	return v
}

func gate(t *testing.T, w *cptest.World, o cptest.Organization) string {
	t.Helper()
	return w.Value(t, "SELECT concat_ws(' ', gate_mode, nullif(gate_reason, '')) FROM organization WHERE id = $1", o.ID)
}

// Each need of an open gate, taken away and given back.
func TestGateFollowsWhatItNeeds(t *testing.T) {
	t.Parallel()
	w := cptest.New(t)
	o := w.Organization(t, "haven")
	w.Decide(t, o.ID)
	assert.Equal(t, "closed baa_not_in_force", gate(t, w, o))
	assert.Equal(t, int64(1), version(t, w), "an organization without a route does not change the table")
	w.Execute(t, o)
	assert.Equal(t, "closed key_not_alive", gate(t, w, o))
	w.Super(t, "UPDATE organization SET key_alive = true WHERE id = $1", o.ID)
	w.Decide(t, o.ID)
	assert.Equal(t, "probe", gate(t, w, o), "provisioning is probed through the public route")
	w.Live(t, o)

	for _, c := range []struct{ spoil, repair, want string }{
		{"state = 'suspended'", "state = 'live'", "closed suspended"},
		{"state = 'quarantined'", "state = 'live'", "closed quarantined"},
		{"state = 'closed'", "state = 'live'", "closed organization_not_live"},
		{"state = 'read_only'", "state = 'live'", "read_only"},
		{"key_alive = false", "key_alive = true", "closed key_not_alive"},
	} {
		require.Equal(t, "open", gate(t, w, o))
		before := version(t, w)
		w.Super(t, "UPDATE organization SET "+c.spoil+" WHERE id = $1", o.ID)
		w.Decide(t, o.ID)
		assert.Equal(t, c.want, gate(t, w, o), c.spoil)
		assert.Greater(t, version(t, w), before)
		w.Super(t, "UPDATE organization SET "+c.repair+" WHERE id = $1", o.ID)
		w.Decide(t, o.ID)
	}
	assert.Equal(t, w.Value(t, "SELECT gate_version FROM organization WHERE id = $1", o.ID),
		w.Value(t, "SELECT max((args->>'version')::bigint) FROM river_job WHERE kind = 'apply_gate'"), "each mode is carried to the cell")
	assert.NotEqual(t, "0", w.Value(t, "SELECT count(*) FROM audit_entry WHERE action = 'gate.change' AND organization_id = $1", o.ID))
}

func TestProvisionerMayDecideToo(t *testing.T) {
	t.Parallel()
	w := cptest.New(t)
	o := w.Organization(t, "haven")
	w.Execute(t, o)
	w.Super(t, "INSERT INTO cell (id) VALUES ('main')")
	w.Super(t, "UPDATE organization SET cell_id = 'main', key_alive = true WHERE id = $1", o.ID)
	pool := cptest.Open(t, w.DB.DSN("provisioner"))
	tx, err := pool.Begin(ctx)
	require.NoError(t, err)
	require.NoError(t, w.Gates.Decide(ctx, tx, o.ID))
	assert.Equal(t, tenants.KindNotFound, tenants.KindOf(w.Gates.Decide(ctx, tx, tenants.NewID())))
	require.NoError(t, tx.Commit(ctx))
	assert.Equal(t, "probe", gate(t, w, o))
}

// The reconciler finds what nobody told it: here, changes made behind its back.
func TestReconcilerRepairs(t *testing.T) {
	t.Parallel()
	w := cptest.New(t)
	r := placement.NewReconciler(w.Pool, w.Gates, w.Workers)
	o, p := w.Organization(t, "haven"), w.Organization(t, "other")
	for _, x := range []cptest.Organization{o, p} {
		w.Execute(t, x)
		w.Live(t, x)
	}
	n, err := r.Once(ctx)
	require.NoError(t, err)
	assert.Zero(t, n)
	before := version(t, w)

	w.Super(t, "UPDATE organization SET key_alive = false WHERE id = $1", o.ID)
	n, err = r.Once(ctx)
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	assert.Equal(t, "closed key_not_alive", gate(t, w, o))
	assert.Equal(t, "open", gate(t, w, p))
	assert.Greater(t, version(t, w), before)

	w.Super(t, "UPDATE organization SET gate_mode = 'open', gate_reason = '' WHERE id = $1", o.ID)
	n, err = r.Once(ctx)
	require.NoError(t, err)
	assert.Equal(t, 1, n, "a gate that stands open without right is closed")
	assert.Equal(t, "closed key_not_alive", gate(t, w, o))

	w.Super(t, "UPDATE organization SET gate_until = gate_until + interval '1 year' WHERE id = $1", p.ID)
	n, err = r.Once(ctx)
	require.NoError(t, err)
	assert.Equal(t, 1, n)

	// Past its term an agreement does not wait for the sweep.
	w.Clock.Advance(4 * 365 * 24 * time.Hour)
	_, err = r.Once(ctx)
	require.NoError(t, err)
	assert.Equal(t, "closed baa_not_in_force", gate(t, w, p))
	assert.Equal(t, "executed", w.Value(t, "SELECT state FROM baa WHERE organization_id = $1", p.ID))
}

func TestTableHoldsOnlyWhatMayBeServed(t *testing.T) {
	t.Parallel()
	w := cptest.New(t)
	live, suspended, unplaced, pending := w.Organization(t, "live"), w.Organization(t, "suspended"), w.Organization(t, "unplaced"), w.Organization(t, "pending")
	for _, o := range []cptest.Organization{live, suspended, unplaced} {
		w.Execute(t, o)
		w.Live(t, o)
	}
	require.NoError(t, w.Fleet.Suspend(ctx, cptest.Operator().Actor, suspended.ID, "for the test"))
	w.Super(t, "UPDATE organization SET placement_epoch = 0 WHERE id = $1", unplaced.ID)
	w.Decide(t, pending.ID)

	table, err := placement.Table(ctx, w.Pool)
	require.NoError(t, err)
	require.Len(t, table.Routes, 1)
	r := table.Routes[0]
	assert.Equal(t, live.ID, r.TenantID)
	assert.Equal(t, tenants.GateOpen, r.Mode)
	assert.Equal(t, int64(1), r.Epoch)
	assert.Equal(t, w.Value(t, "SELECT floor(extract(epoch FROM expires_at))::bigint FROM baa WHERE organization_id = $1", live.ID), strconv.FormatInt(r.NotAfter.Unix(), 10))
	assert.Equal(t, version(t, w), table.Version)

	require.NoError(t, w.Fleet.ReadOnly(ctx, cptest.Operator().Actor, live.ID, "for the test"))
	table, err = placement.Table(ctx, w.Pool)
	require.NoError(t, err)
	assert.Equal(t, tenants.GateReadOnly, table.Routes[0].Mode)
}

func TestWorkers(t *testing.T) {
	t.Parallel()
	w := cptest.New(t)
	one := tenants.Worker{ID: "worker-a", CellID: "main", URL: "https://127.0.0.1:8451"}
	assert.Equal(t, tenants.KindConflict, tenants.KindOf(w.Workers.Put(ctx, one)), "an unknown cell")
	w.Super(t, "INSERT INTO cell (id) VALUES ('main')")

	require.NoError(t, w.Workers.Put(ctx, one))
	v := version(t, w)
	require.NoError(t, w.Workers.Put(ctx, one))
	assert.Equal(t, v, version(t, w), "a heartbeat does not change the table")
	one.URL = "https://127.0.0.1:8452"
	require.NoError(t, w.Workers.Put(ctx, one))
	assert.Greater(t, version(t, w), v)
	require.NoError(t, w.Workers.Put(ctx, tenants.Worker{ID: "worker-b", CellID: "main", URL: "https://127.0.0.1:8453"}))

	w.Super(t, "UPDATE worker SET last_seen = now() - interval '6 minutes' WHERE id = 'worker-a'")
	n, err := w.Workers.DropStale(ctx)
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	table, err := placement.Table(ctx, w.Pool)
	require.NoError(t, err)
	assert.Equal(t, []tenants.Worker{{ID: "worker-b", CellID: "main", URL: "https://127.0.0.1:8453"}}, table.Workers)
	require.NoError(t, w.Workers.Remove(ctx, "worker-b"))
	require.NoError(t, w.Workers.Remove(ctx, "worker-b"), "leaving twice is no error")
	table, err = placement.Table(ctx, w.Pool)
	require.NoError(t, err)
	assert.Empty(t, table.Workers)

	before := w.Snapshot(t)
	for _, bad := range []tenants.Worker{
		{ID: "", CellID: "main", URL: one.URL}, {ID: "Worker", CellID: "main", URL: one.URL}, {ID: "a b", CellID: "main", URL: one.URL},
		{ID: "w", CellID: "", URL: one.URL}, {ID: "w", CellID: strings.Repeat("c", 32), URL: one.URL},
		{ID: "w", CellID: "main", URL: ""}, {ID: "w", CellID: "main", URL: "http://127.0.0.1:1"}, {ID: "w", CellID: "main", URL: "https://u@h:1"},
		{ID: "w", CellID: "main", URL: "https://h:1/path"}, {ID: "w", CellID: "main", URL: "https://h:1?q"}, {ID: "w", CellID: "main", URL: "https://"},
		{ID: "w", CellID: "main", URL: "https://h\n:1"},
	} {
		assert.Equal(t, tenants.KindInvalid, tenants.KindOf(w.Workers.Put(ctx, bad)), "%+v", bad)
	}
	assert.Equal(t, tenants.KindInvalid, tenants.KindOf(w.Workers.Remove(ctx, "../x")))
	assert.Equal(t, before, w.Snapshot(t))
}

func unsigned(t tenants.RouteTable) ([]byte, error) { return json.Marshal(t) }

func TestFeedsOfTwoControlPlanesAgree(t *testing.T) {
	t.Parallel()
	w := cptest.New(t)
	o := w.Organization(t, "haven")
	w.Execute(t, o)
	w.Live(t, o)

	run, stop := context.WithCancel(ctx)
	defer stop()
	report := func(err error) { t.Error(err) }
	feeds := []*placement.Feed{placement.NewFeed(w.Pool, unsigned), placement.NewFeed(cptest.Open(t, w.DB.DSN("controlplane")), unsigned)}
	for _, f := range feeds {
		go f.Run(run, report)
	}
	read := func(f *placement.Feed, after int64) tenants.RouteTable {
		doc, err := f.Next(ctx, after, 10*time.Second)
		require.NoError(t, err)
		require.NotNil(t, doc)
		var table tenants.RouteTable
		require.NoError(t, json.Unmarshal(doc, &table))
		return table
	}
	one, two := read(feeds[0], 0), read(feeds[1], 0)
	two.IssuedAt = one.IssuedAt
	assert.Equal(t, one, two)
	require.Len(t, one.Routes, 1)

	doc, err := feeds[0].Next(ctx, one.Version, 20*time.Millisecond)
	require.NoError(t, err)
	assert.Nil(t, doc, "nothing new")

	began := time.Now()
	require.NoError(t, w.Fleet.Suspend(ctx, cptest.Operator().Actor, o.ID, "for the test"))
	for _, f := range feeds {
		table := read(f, one.Version)
		assert.Empty(t, table.Routes)
		assert.Greater(t, table.Version, one.Version)
	}
	assert.Less(t, time.Since(began), 5*time.Second, "a closed gate is announced within seconds")

	stopped, cancel := context.WithCancel(ctx)
	cancel()
	_, err = feeds[0].Next(stopped, version(t, w), time.Minute)
	assert.ErrorIs(t, err, context.Canceled)
}

func TestFeedKeepsTheLastTableWhenTheDatabaseIsGone(t *testing.T) {
	t.Parallel()
	w := cptest.New(t)
	pool := cptest.Open(t, w.DB.DSN("controlplane"))
	f := placement.NewFeed(pool, unsigned)
	_, err := f.Next(ctx, 0, time.Millisecond)
	assert.Equal(t, tenants.KindUnavailable, tenants.KindOf(err), "no table yet")
	require.NoError(t, f.Refresh(ctx))
	pool.Close()
	require.Error(t, f.Refresh(ctx))
	doc, err := f.Next(ctx, 0, time.Millisecond)
	require.NoError(t, err)
	assert.NotNil(t, doc)

	waiting := make(chan error, 1)
	go func() {
		_, err := f.Next(ctx, 1, time.Minute)
		waiting <- err
	}()
	f.End()
	f.End()
	select {
	case err := <-waiting:
		assert.Equal(t, tenants.KindUnavailable, tenants.KindOf(err))
	case <-time.After(10 * time.Second):
		t.Fatal("a reader that waits is not sent away when the process stops")
	}

	failing := placement.NewFeed(w.Pool, func(tenants.RouteTable) ([]byte, error) { return nil, errors.New("no key") })
	require.ErrorContains(t, failing.Refresh(ctx), "no key")
}

// A gate decision and its consequences are one transaction.
func TestNoDecisionWithoutItsAuditRow(t *testing.T) {
	t.Parallel()
	w := cptest.New(t)
	o := w.Organization(t, "haven")
	w.Execute(t, o)
	w.Live(t, o)
	w.BreakAudit(t, "gate.change")
	before := w.Snapshot(t)
	require.ErrorContains(t, w.Fleet.Suspend(ctx, cptest.Operator().Actor, o.ID, "for the test"), "planted")
	assert.Equal(t, before, w.Snapshot(t))
	w.RepairAudit(t)
	require.NoError(t, w.Fleet.Suspend(ctx, cptest.Operator().Actor, o.ID, "for the test"))
}
