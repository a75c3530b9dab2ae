package provisioning_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/jobs"
	"github.com/caresphere/caresphere/controlplane/provisioning"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/tenants"
)

// second is another cell with a provisioner of its own, beside the first.
func (b *bundle) second(t *testing.T) *bundle {
	t.Helper()
	ctx, o := context.Background(), *b
	o.cell = testkit.CellDB(t)
	o.cellAdmin = open(t, o.cell.Superuser(t), pg.Options{})
	o.cellWorker = open(t, o.cell.DSN("cell_worker"), pg.Options{})
	migrator, err := pg.OpenMigrator(ctx, o.cell.DSN("cell_owner"), provisioning.MigrationsAtOnce)
	require.NoError(t, err)
	t.Cleanup(migrator.Close)
	o.config.Control = open(t, b.control.DSN("provisioner"), pg.Options{ApplicationName: "provisioner"})
	o.config.Cell = open(t, o.cell.DSN("cell_owner"), pg.Options{ApplicationName: "provisioner"})
	o.config.CellDSN, o.config.Migrator, o.config.CellID, o.config.Holder = o.cell.DSN("cell_owner"), migrator, "other", "two"
	o.config.Authority = authority(t, o.cell.PG())
	o.p, err = provisioning.New(o.config)
	require.NoError(t, err)
	require.NoError(t, o.p.RegisterCell(ctx))
	b.probes.mu.Lock()
	b.probes.other = &o
	b.probes.mu.Unlock()
	return &o
}

// works has the bundle's provisioner do its background work until the test ends, with
// its watch or with its queues alone.
func (b *bundle) works(t *testing.T, watch bool) {
	t.Helper()
	client, err := b.p.Client(b.config.Control, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	require.NoError(t, client.Start(ctx))
	var wg sync.WaitGroup
	if watch {
		wg.Go(func() { b.p.Watch(ctx, client) })
	}
	t.Cleanup(func() {
		stop()
		wg.Wait()
		<-client.Stopped()
	})
}

func (b *bundle) eventually(t *testing.T, want, sql string, args ...any) {
	t.Helper()
	require.Eventually(t, func() bool {
		var s string
		return b.admin.QueryRow(context.Background(), sql, args...).Scan(&s) == nil && s == want
	}, time.Minute, 20*time.Millisecond, "%s was never %q", sql, want)
}

// queued inserts a job into a queue that all cells share, as before each had its own.
func (b *bundle) queued(t *testing.T, job river.JobArgs, queue string) {
	t.Helper()
	inserter, err := provisioning.Inserter(b.config.Control, nil)
	require.NoError(t, err)
	_, err = inserter.Insert(context.Background(), job, &river.InsertOpts{Queue: queue})
	require.NoError(t, err)
}

// One that takes another cell's job hands it over; it neither fails nor loses it.
func TestAnotherCellsJobIsHandedOver(t *testing.T) {
	ctx, b := context.Background(), setup(t)
	other := b.second(t)
	waits := func(kind, queue string) string {
		return b.text(t, `SELECT count(*)::text FROM river_job WHERE kind = $1 AND queue = $2 AND state = 'available'`, kind, queue)
	}
	// The first of two empty cells is chosen, and not by its own provisioner.
	org, _ := b.organization(t)
	require.NoError(t, other.p.Provision(ctx, org, true))
	require.Equal(t, "main provisioning", b.text(t, `SELECT cell_id || ' ' || state FROM organization WHERE id = $1`, org))
	require.Equal(t, "true", b.text(t, `SELECT (until < now())::text FROM provisioning_lease WHERE organization_id = $1`, org), "the other need not wait for it")
	require.Equal(t, "0", b.text(t, `SELECT count(*)::text FROM provisioning_step WHERE organization_id = $1 AND state = 'failed'`, org))
	require.Equal(t, "1", waits("provision", jobs.QueueProvision("main")))
	require.NoError(t, other.p.Provision(ctx, org, true), "placed, and fetched by the wrong one")
	require.Equal(t, "2", waits("provision", jobs.QueueProvision("main")))
	require.Equal(t, "0", other.cellText(t, `SELECT count(*)::text FROM pg_namespace WHERE nspname = $1`, tenants.SchemaName(org)))
	require.NoError(t, b.p.Provision(ctx, org, true))
	require.Equal(t, "live", b.text(t, `SELECT state FROM organization WHERE id = $1`, org))
	require.Equal(t, "2", waits("provision", jobs.QueueProvision("main")), "the twin: its own it keeps")

	b.decided(t, org, tenants.GateClosed)
	require.Equal(t, "0", waits("apply_gate", jobs.QueueGate("other")))
	before := waits("apply_gate", jobs.QueueGate("main"))
	require.NoError(t, other.p.ApplyGate(ctx, org))
	require.NotEqual(t, before, waits("apply_gate", jobs.QueueGate("main")))
	require.Equal(t, "false", b.text(t, `SELECT (gate_applied = gate_version)::text FROM organization WHERE id = $1`, org))
	b.requireGate(t, org, true)
	require.NoError(t, b.p.ApplyGate(ctx, org))
	b.requireGate(t, org, false)
}

// Without a watch to mend it, everything that was asked for through the queues of no
// cell reaches its cell.
func TestSharedQueuesServeEveryCell(t *testing.T) {
	b := setup(t)
	other := b.second(t)
	b.works(t, false)
	other.works(t, false)
	for range 6 {
		org, _ := b.organization(t)
		b.queued(t, jobs.Provision{OrganizationID: org}, jobs.AnyProvision)
	}
	b.eventually(t, "6", `SELECT count(*)::text FROM organization WHERE state = 'live' AND gate_applied = gate_version`)
	require.Equal(t, "2", b.text(t, `SELECT count(DISTINCT cell_id)::text FROM organization`))
	rows, err := b.admin.Query(context.Background(), `SELECT id FROM organization`)
	require.NoError(t, err)
	orgs, err := pgx.CollectRows(rows, pgx.RowTo[tenants.ID])
	require.NoError(t, err)
	for _, org := range orgs {
		b.decided(t, org, tenants.GateClosed)
		b.queued(t, jobs.ApplyGate{OrganizationID: org}, jobs.AnyGate)
	}
	b.eventually(t, "6", `SELECT count(*)::text FROM organization WHERE gate_applied = gate_version`)
	for _, c := range []*bundle{b, other} {
		require.Equal(t, b.text(t, `SELECT count(*)::text FROM organization WHERE cell_id = $1`, c.config.CellID),
			c.cellText(t, `SELECT count(*)::text FROM cell.tenant_credential c JOIN cell.tenant_fence f USING (tenant_id) WHERE NOT f.gate_open`))
	}
}

// Credentials of every cell are renewed, whichever provisioner leads River; and gates of
// a cell that is gone keep none of the others waiting.
func TestEachCellIsWatchedByItsOwn(t *testing.T) {
	b := setup(t)
	other := b.second(t)
	one, two := b.provisioned(t), other.provisioned(t)
	for _, c := range []*bundle{b, other} {
		require.Equal(t, "1", c.cellText(t, `SELECT count(*)::text FROM cell.tenant_credential`))
		_, err := c.cellAdmin.Exec(context.Background(), `UPDATE cell.tenant_credential SET not_after = now() + interval '1 hour'`)
		require.NoError(t, err)
	}
	b.exec(t, `INSERT INTO cell (id, open) VALUES ('gone', false)`)
	b.exec(t, `INSERT INTO organization (id, slug, legal_name, care_setting, state, cell_id, gate_version, updated_at)
		SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'gone-' || n, 'Gone', 'clinic', 'suspended', 'gone', 1, now() - interval '1 hour'
		FROM generate_series(1, 120) n`)
	b.works(t, true)
	other.works(t, true)
	for _, c := range []*bundle{b, other} {
		require.Eventually(t, func() bool {
			return c.cellText(t, `SELECT (not_after > now() + interval '1 day')::text FROM cell.tenant_credential`) == "true"
		}, time.Minute, 20*time.Millisecond, c.config.CellID)
	}
	for _, o := range []*tenant{one, two} {
		b.decided(t, o.id, tenants.GateClosed)
	}
	b.eventually(t, "2", `SELECT count(*)::text FROM organization WHERE cell_id <> 'gone' AND gate_applied = gate_version`)
	b.requireGate(t, one.id, false)
	other.requireGate(t, two.id, false)
	require.Equal(t, "120", b.text(t, `SELECT count(*)::text FROM organization WHERE cell_id = 'gone' AND gate_applied < gate_version`))
}
