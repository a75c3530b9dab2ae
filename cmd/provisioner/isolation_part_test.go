package main

import (
	"context"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/isolation"
	"github.com/caresphere/caresphere/internal/kms"
	"github.com/caresphere/caresphere/internal/testkit/prove"
	"github.com/caresphere/caresphere/tenants"
)

// TestAProofOfManyGoesOnWhereItWas kills the provisioner in the middle of a proof that
// takes a turn a tenant: the next one proves those that are left, and the report is of
// all, as one that nobody interrupted is.
func TestAProofOfManyGoesOnWhereItWas(t *testing.T) {
	y := newYard(t, 3, "CARESPHERE_ISOLATION_PART=1ns")
	requireProven(t, y.prove(""))

	ctx := context.Background()
	conn := y.holdResult(y.tenants[2])
	asked, err := y.desk.AskProof(ctx, riley, "", "")
	require.NoError(t, err)
	y.eventually(60*time.Second, "1", heldResult)
	y.running.kill(t)
	y.exec(`SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory' AND objid = 43 AND NOT granted`)
	require.NoError(t, conn.Close(ctx))
	y.exec(`DROP TRIGGER hold_result ON isolation_result`)
	const found = `SELECT string_agg(organization_id || ' ' || proved_at, ',' ORDER BY organization_id) FROM isolation_result WHERE run_id = $1 AND part IS NOT NULL`
	before := y.text(found, asked.ID)
	require.Equal(t, "2", y.text(`SELECT count(*)::text FROM isolation_result WHERE run_id = $1`, asked.ID))

	// What a quarter of an hour would do: the dead process's job is given to another.
	y.exec(`UPDATE river_job SET state = 'available' WHERE kind = 'isolation' AND state = 'running'`)
	y.running = y.start()
	file, err := y.desk.Report(ctx, riley, y.wait(asked).ID)
	require.NoError(t, err)
	key, err := isolation.ParseKey(y.isolationPub)
	require.NoError(t, err)
	r, err := isolation.Verify(file, key)
	require.NoError(t, err)
	requireProven(t, r)
	require.Len(t, r.Tenants, 3)
	require.Equal(t, before, y.text(`SELECT string_agg(organization_id || ' ' || proved_at, ',' ORDER BY organization_id) FROM isolation_result WHERE run_id = $1 AND organization_id <> $2`, asked.ID, y.tenants[2]),
		"what was found before the kill stands")
	require.Equal(t, "0", y.text(`SELECT count(*)::text FROM isolation_result WHERE part IS NOT NULL`), "the report has it all")
}

// heldResult counts the looks that wait at their record.
const heldResult = `SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND objid = 43 AND NOT granted`

// holdResult makes the look at a tenant wait at its record until the connection is closed.
func (y *yard) holdResult(id tenants.ID) *pgx.Conn {
	y.t.Helper()
	conn := y.lock(y.control.Superuser(y.t), 43)
	y.exec(`CREATE FUNCTION hold_result() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(43); RETURN NEW; END $$`)
	y.exec(`CREATE TRIGGER hold_result BEFORE INSERT ON isolation_result FOR EACH ROW WHEN (NEW.organization_id = '` + id.String() + `') EXECUTE FUNCTION hold_result()`)
	return conn
}

// TestAStoppedProofLooksAtNobodyElse asks the provisioner to end while it looks at the
// first of three: thousands of looks that are each refused would outlast its patience.
func TestAStoppedProofLooksAtNobodyElse(t *testing.T) {
	y := newYard(t, 3, "CARESPHERE_ISOLATION_EVERY=1s")
	y.eventually(60*time.Second, "true", `SELECT (max(n) = 3)::text FROM (SELECT count(*) AS n FROM isolation_result JOIN isolation_run AS r ON r.id = run_id WHERE ok GROUP BY run_id) AS x`)
	conn := y.holdResult(y.tenants[0])
	y.eventually(60*time.Second, "1", heldResult)
	y.running.signal(t, syscall.SIGTERM)
	select {
	case err := <-y.running.done:
		require.NoError(t, err)
	case <-time.After(20 * time.Second):
		t.Fatal("it does not stop")
	}
	require.NoError(t, conn.Close(context.Background()))
	log, err := os.ReadFile(y.running.log)
	require.NoError(t, err)
	require.NotContains(t, string(log), "a tenant could not be inspected")
}

// TestWhatWasAwayForAMomentIsLookedAtAgain takes the public address away while a proof
// that takes a turn a tenant looks at its first one.
func TestWhatWasAwayForAMomentIsLookedAtAgain(t *testing.T) {
	y := newYard(t, 2, "CARESPHERE_ISOLATION_PART=1ns")
	y.silent.Store(true)
	asked, err := y.desk.AskProof(context.Background(), riley, "", "")
	require.NoError(t, err)
	y.eventually(60*time.Second, "unproven", `SELECT verdict FROM isolation_result WHERE run_id = $1`, asked.ID)
	y.silent.Store(false)
	r := y.report(asked)
	requireProven(t, r)
	require.Len(t, r.Tenants, 2)
	require.Equal(t, "2", y.text(`SELECT count(*)::text FROM isolation_result WHERE run_id = $1 AND verdict = 'proven'`, asked.ID))
}

// TestATableThatTheCatalogHidesIsFound takes away the dependency by which a look at a
// tenant finds its tables, as only a superuser can.
func TestATableThatTheCatalogHidesIsFound(t *testing.T) {
	y := newYard(t, 2)
	requireProven(t, y.prove(""))
	const row = `classid = 'pg_class'::regclass AND refclassid = 'pg_namespace'::regclass AND objid = '`
	table := tenants.SchemaName(y.tenants[0]) + `.client'::regclass`
	y.cellExec(`CREATE TABLE public.kept AS SELECT * FROM pg_depend WHERE ` + row + table)
	y.cellExec(`DELETE FROM pg_depend WHERE ` + row + table)
	r := y.prove("")
	for _, one := range r.Tenants {
		require.Equal(t, isolation.Failed, one.Verdict, "it is somebody's, and nobody's look finds it")
		require.Contains(t, all(one), "relation client is not declared")
	}
	y.cellExec(`INSERT INTO pg_depend SELECT * FROM public.kept`)
	y.cellExec(`DROP TABLE public.kept`)
	requireProven(t, y.prove(""))
	prove.Plant(t, prove.IsolationDeclared, 1, 1)
}

// TestAPeersRotatedKeyRefusesAll: a wrap under another tenant's key is refused also where
// that key has no version as old as the wrap's.
func TestAPeersRotatedKeyRefusesAll(t *testing.T) {
	y := newYard(t, 2)
	ctx, other := context.Background(), kms.KeyName(y.tenants[1])
	_, err := y.keys.Rotate(ctx, other)
	require.NoError(t, err)
	requireProven(t, y.prove(y.slug(y.tenants[0])))
	require.NoError(t, y.keys.Retire(ctx, other, 2))
	requireProven(t, y.prove(y.slug(y.tenants[0])))
}
