package main

import (
	"context"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	provers "github.com/caresphere/caresphere/controlplane/isolation"
	"github.com/caresphere/caresphere/internal/isolation"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/testkit/prove"
	"github.com/caresphere/caresphere/migrations"
	"github.com/caresphere/caresphere/tenants"
)

// gap makes whoever computes what is declared wait in the middle of it, between the
// versions that it read and the catalog that it will read, until release is called.
func (y *yard) gap() (reached func() bool, release func()) {
	y.t.Helper()
	ctx, conn := context.Background(), y.lock(y.cell.Superuser(y.t), 44)
	y.cellExec(`CREATE FUNCTION public.hold_reference() RETURNS event_trigger LANGUAGE plpgsql SET lock_timeout = 0 AS $$ BEGIN
		IF session_user = 'cell_owner' THEN PERFORM pg_advisory_xact_lock_shared(44); END IF; END $$`)
	y.cellExec(`CREATE EVENT TRIGGER hold_reference ON ddl_command_start WHEN TAG IN ('ALTER SCHEMA') EXECUTE FUNCTION public.hold_reference()`)
	reached = func() bool {
		return y.cellText(`SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND objid = 44 AND NOT granted`) != "0"
	}
	return reached, func() {
		_, err := y.cellAdmin.Exec(ctx, `DROP EVENT TRIGGER hold_reference; DROP FUNCTION public.hold_reference()`)
		require.NoError(y.t, err)
		require.NoError(y.t, conn.Close(ctx))
	}
}

// inTheGap does what happens once the run that was asked for is there.
func (y *yard) inTheGap(ask func() (provers.Status, error), what func()) provers.Status {
	y.t.Helper()
	reached, release := y.gap()
	asked, err := ask()
	require.NoError(y.t, err)
	require.Eventually(y.t, reached, 30*time.Second, 5*time.Millisecond)
	what()
	release()
	return asked
}

// shared is the migration of tenants that replaces functions and triggers, and so lets
// whoever looks at the schema look while it is under way.
const shared = 5

// upTo are the migrations of tenants up to a version.
func upTo(t *testing.T, version int64) fs.FS {
	t.Helper()
	out := fstest.MapFS{}
	names, err := fs.Glob(migrations.Tenant, "tenant/*.sql")
	require.NoError(t, err)
	for _, name := range names[:version] {
		body, err := fs.ReadFile(migrations.Tenant, name)
		require.NoError(t, err)
		out[name] = &fstest.MapFile{Data: body}
	}
	kept, err := pg.LatestVersion(out, "tenant")
	require.NoError(t, err)
	require.Equal(t, version, kept)
	return out
}

func (y *yard) migrate(id tenants.ID, set fs.FS) {
	y.t.Helper()
	_, err := pg.Migrate(context.Background(), y.cell.DSN("cell_owner"), set, "tenant", pg.MigrateOptions{
		Schema: tenants.SchemaName(id), Settings: map[string]string{"caresphere.tenant_role": tenants.RoleName(id)}})
	require.NoError(y.t, err)
}

// back gives the tenant, with all that is recorded of it, the schema of a version before.
func (y *yard) back(id tenants.ID, version int64) {
	y.t.Helper()
	ctx, name := context.Background(), tenants.SchemaName(id)
	y.cellExec(`ALTER SCHEMA ` + name + ` RENAME TO newer; CREATE SCHEMA ` + name + ` AUTHORIZATION cell_owner`)
	y.migrate(id, upTo(y.t, version))
	require.NoError(y.t, pg.InTx(ctx, y.cellAdmin, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL session_replication_role = replica`); err != nil {
			return err
		}
		// The columns that there were: the newer table may have more.
		rows, err := tx.Query(ctx, `SELECT format('INSERT INTO %1$I.%2$I (%3$s) OVERRIDING SYSTEM VALUE SELECT %3$s FROM newer.%2$I ON CONFLICT DO NOTHING',
				$1::text, c.relname, string_agg(quote_ident(a.attname), ', '))
			FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
			WHERE c.relnamespace = $1::text::regnamespace AND c.relkind = 'r' AND c.relname <> 'schema_version' GROUP BY c.relname`, name)
		if err != nil {
			return err
		}
		copies, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		for _, sql := range copies {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, `DROP SCHEMA newer CASCADE`)
		return err
	}))
}

func (y *yard) requireNobodyQuarantined() {
	y.t.Helper()
	require.Equal(y.t, "0", y.text(`SELECT count(*)::text FROM organization WHERE state <> 'live'`))
}

// TestAMigrationOfTheCellWhileAProofIsMadeQuarantinesNobody commits one of a later
// release between what the proof takes for declared and its look at the catalog.
func TestAMigrationOfTheCellWhileAProofIsMadeQuarantinesNobody(t *testing.T) {
	y := newYard(t, 2)
	ctx := context.Background()
	whole := func() (provers.Status, error) { return y.desk.AskProof(ctx, riley, "", "") }
	// A new process has computed nothing yet.
	y.running.kill(t)
	y.running = y.start()
	asked := y.inTheGap(whole, func() {
		set := fstest.MapFS{}
		entries, err := fs.ReadDir(migrations.Cell, "cell")
		require.NoError(t, err)
		for _, e := range entries {
			body, err := fs.ReadFile(migrations.Cell, "cell/"+e.Name())
			require.NoError(t, err)
			set["cell/"+e.Name()] = &fstest.MapFile{Data: body}
		}
		set["cell/9000_later.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\nCREATE TABLE cell.later (a int);\n-- +goose Down\nDROP TABLE cell.later;\n")}
		n, err := pg.Migrate(ctx, y.cell.DSN("cell_owner"), set, "cell", pg.MigrateOptions{})
		require.NoError(t, err)
		require.Equal(t, 1, n)
	})
	// What a program does not know it does not judge: the job is tried again.
	y.eventually(30*time.Second, "true", `SELECT (errors[1]->>'error' LIKE '%later version than this program knows%')::text FROM river_job
		WHERE kind = 'isolation' AND args->>'run_id' = $1`, asked.ID.String())
	y.requireNobodyQuarantined()
	_, err := y.cellAdmin.Exec(ctx, `DROP TABLE cell.later; DELETE FROM public.schema_version WHERE version_id = 9000`)
	require.NoError(t, err)
	require.True(t, y.wait(asked).OK)
	y.requireNobodyQuarantined()

	// What no migration brought is found at the same place.
	y.running.kill(t)
	y.running = y.start()
	asked = y.inTheGap(whole, func() {
		_, err := y.cellAdmin.Exec(ctx, `SET ROLE cell_owner; CREATE TABLE cell.later (a int); RESET ROLE`)
		require.NoError(t, err)
	})
	for _, one := range y.report(asked).Tenants {
		require.Equal(t, isolation.Failed, one.Verdict)
		require.Contains(t, all(one), "later: kind is not declared")
		require.Equal(t, "quarantined", y.text(`SELECT state FROM organization WHERE id = $1`, one.ID))
	}
	prove.Plant(t, prove.IsolationDeclared, 1, 1)
}

// TestWhatAllShareIsLookedAtTwice mends it between the two looks.
func TestWhatAllShareIsLookedAtTwice(t *testing.T) {
	y := newYard(t, 2)
	ctx := context.Background()
	y.cellExec(`SET ROLE cell_owner; CREATE TABLE cell.later (a int); RESET ROLE`)
	seen := y.probed.Load()
	asked, err := y.desk.AskProof(ctx, riley, y.slug(y.tenants[0]), "")
	require.NoError(t, err)
	// The probe comes after the first look at it.
	require.Eventually(t, func() bool { return y.probed.Load() > seen }, 30*time.Second, time.Millisecond)
	_, err = y.cellAdmin.Exec(ctx, `DROP TABLE cell.later`)
	require.NoError(t, err)
	r := y.report(asked)
	requireProven(t, r)
	require.Empty(t, r.Shared)
	y.requireNobodyQuarantined()
}

// TestARepairTakesNothingBackThatAMigrationBrought commits a migration of the tenant
// while a repair is under way: in the middle of its plan, and between that and its
// statements.
func TestARepairTakesNothingBackThatAMigrationBrought(t *testing.T) {
	y := newYard(t, 1)
	ctx, victim := context.Background(), y.tenants[0]
	name := tenants.SchemaName(victim)
	mend := func() (provers.Status, error) { return y.desk.AskRepair(ctx, riley, y.slug(victim), true) }
	done := func(asked provers.Status) provers.Repair {
		r, err := y.desk.Repair(ctx, riley, y.wait(asked).ID)
		require.NoError(t, err)
		require.True(t, r.Applied)
		require.Equal(t, isolation.Proven, r.Proof.Verdict, all(*r.Proof))
		return r
	}
	onlyThePolicy := func(r provers.Repair) {
		require.Len(t, r.Statements, 1)
		require.Contains(t, r.Statements[0], "CREATE POLICY client_select ON "+name+".client")
	}
	drop := func() {
		_, err := y.cellAdmin.Exec(ctx, `DROP POLICY client_select ON `+name+`.client`)
		require.NoError(t, err)
	}

	latest, err := pg.LatestVersion(migrations.Tenant, "tenant")
	require.NoError(t, err)
	y.back(victim, latest-1)
	r := done(y.inTheGap(mend, func() { y.migrate(victim, migrations.Tenant) }))
	require.Empty(t, r.Differences)
	require.Empty(t, r.Statements)

	// The process knows by now what that version declares: another one does not.
	y.running.kill(t)
	y.running = y.start()
	y.back(victim, latest-1)
	r = done(y.inTheGap(mend, func() { y.migrate(victim, migrations.Tenant); drop() }))
	require.Len(t, r.Differences, 1)
	onlyThePolicy(r)

	y.back(victim, shared-1)
	drop()
	set, err := fs.Glob(migrations.Tenant, "tenant/*.sql")
	require.NoError(t, err)
	body, err := fs.ReadFile(migrations.Tenant, set[shared-1])
	require.NoError(t, err)
	up, _, _ := strings.Cut(string(body), "-- +goose Down")
	owner, err := pg.Connect(ctx, y.cell.DSN("cell_owner"), pg.Options{})
	require.NoError(t, err)
	defer func() { _ = owner.Close(ctx) }()
	tx, err := owner.Begin(ctx)
	require.NoError(t, err)
	_, err = tx.Exec(ctx, `SET LOCAL search_path = `+name+`; SET LOCAL caresphere.tenant_role = '`+name+`';`+up)
	require.NoError(t, err)
	_, err = tx.Exec(ctx, `INSERT INTO `+name+`.schema_version (version_id, is_applied) VALUES ($1, true)`, shared)
	require.NoError(t, err)
	asked, err := mend()
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		return y.cellText(`SELECT count(*)::text FROM pg_locks WHERE mode = 'ShareLock' AND NOT granted AND relation = $1::text::regclass`, name+".schema_version") != "0"
	}, 30*time.Second, 5*time.Millisecond)
	require.NoError(t, tx.Commit(ctx))
	onlyThePolicy(done(asked))
	prove.Plant(t, prove.IsolationDeclared, 2, 2)
}
