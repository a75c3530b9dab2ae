package testkit

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// FailAt says where a planted write fails.
type FailAt string

// Where a write fails: in its statement, or only when its transaction commits.
const (
	InStatement FailAt = "statement"
	AtCommit    FailAt = "commit"
)

// Writes counts the writes of a database and makes one of them fail, as a full disk
// would, or wait, so that the process behind it can be killed there.
type Writes struct {
	t    testing.TB
	conn *pgx.Conn
	// lock is the advisory lock that a held write waits for.
	lock int64
}

// The counters are sequences: what is rolled back stays counted. In a database
// where schemas are made meanwhile, the commands that make them count as well.
const countWrites = `
CREATE SCHEMA fault;
CREATE SEQUENCE fault.statement;
CREATE SEQUENCE fault.commit;
CREATE TABLE fault.plan (how text NOT NULL, at bigint NOT NULL, hold bigint);
CREATE TABLE fault.uncounted (role name NOT NULL);
CREATE FUNCTION fault.count(how text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
	n bigint;
	plan fault.plan;
BEGIN
	IF session_user IN (SELECT role FROM fault.uncounted) THEN
		RETURN;
	END IF;
	n := nextval(('fault.' || how)::regclass);
	SELECT p.* INTO plan FROM fault.plan p WHERE p.how = count.how AND p.at = n;
	IF plan.hold IS NOT NULL THEN
		PERFORM pg_advisory_xact_lock_shared(plan.hold);
	ELSIF FOUND THEN
		RAISE EXCEPTION 'planted: no space left on device' USING ERRCODE = '53100';
	END IF;
END $$;
CREATE FUNCTION fault.write() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
	PERFORM fault.count(TG_ARGV[0]);
	RETURN coalesce(NEW, OLD);
END $$;
CREATE FUNCTION fault.command() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
	PERFORM fault.count('statement');
END $$;
GRANT USAGE ON SCHEMA fault TO PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA fault TO PUBLIC;
`

const watchTables = `
DO $$
DECLARE t record;
BEGIN
	FOR t IN SELECT c.oid::regclass AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind = 'r' AND (n.nspname = ANY (string_to_array('SCHEMAS', ',')) OR n.nspname || '.' || c.relname = ANY (string_to_array('SCHEMAS', ','))) LOOP
		EXECUTE format('CREATE TRIGGER aaa_fault BEFORE INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION fault.write(''statement'')', t.name);
		EXECUTE format('CREATE CONSTRAINT TRIGGER zzz_fault AFTER INSERT OR UPDATE OR DELETE ON %s DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fault.write(''commit'')', t.name);
	END LOOP;
END $$;
`

// CountWrites watches every table of the schemas, the tables that are named as
// schema.table, and every command that makes or changes one. No write fails before Arm.
func CountWrites(t testing.TB, db *DB, schemas ...string) *Writes {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), db.Superuser(t))
	if err != nil {
		t.Fatalf("counting writes: %v", err)
	}
	t.Cleanup(func() {
		// A stack's database outlives the test. What a process still does there may hold
		// the tables for a moment.
		_, err := conn.Exec(context.Background(), "SET lock_timeout = '20s'; DROP EVENT TRIGGER IF EXISTS fault_command; DROP SCHEMA IF EXISTS fault CASCADE", pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			t.Errorf("taking the counting of writes away: %v", err)
		}
		_ = conn.Close(context.Background())
	})
	w := &Writes{t: t, conn: conn, lock: rand.Int64()} //nolint:gosec // no secret
	w.run(countWrites)
	w.Watch(schemas...)
	w.run("CREATE EVENT TRIGGER fault_command ON ddl_command_end EXECUTE FUNCTION fault.command()")
	return w
}

// Watch adds more schemas and tables.
func (w *Writes) Watch(schemas ...string) {
	w.t.Helper()
	w.run(strings.ReplaceAll(watchTables, "SCHEMAS", strings.Join(schemas, ",")))
}

// Except leaves out what a role writes: of a program that works beside the one that is
// looked at, as fast as the machine allows.
func (w *Writes) Except(role string) {
	w.t.Helper()
	if _, err := w.conn.Exec(context.Background(), "INSERT INTO fault.uncounted VALUES ($1)", role); err != nil {
		w.t.Fatalf("counting writes: %v", err)
	}
}

func (w *Writes) run(sql string) {
	w.t.Helper()
	if _, err := w.conn.Exec(context.Background(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
		w.t.Fatalf("counting writes: %v", err)
	}
}

// Begin counts from zero and plants nothing.
func (w *Writes) Begin() { w.t.Helper(); w.Arm(InStatement, 0) }

// Arm counts from zero and makes the n-th write fail.
func (w *Writes) Arm(how FailAt, n int) {
	w.t.Helper()
	w.run("SELECT setval('fault.statement', 1, false), setval('fault.commit', 1, false); DELETE FROM fault.plan")
	if _, err := w.conn.Exec(context.Background(), "INSERT INTO fault.plan (how, at) VALUES ($1, $2)", string(how), n); err != nil {
		w.t.Fatalf("planting a failed write: %v", err)
	}
}

// Hold counts from zero and makes the n-th write wait until release is called.
// reached tells whether somebody waits there.
func (w *Writes) Hold(how FailAt, n int) (reached func() bool, release func()) {
	w.t.Helper()
	w.Arm(how, n)
	ctx := context.Background()
	for _, sql := range []string{"SELECT pg_advisory_lock($1)", "UPDATE fault.plan SET hold = $1"} {
		if _, err := w.conn.Exec(ctx, sql, w.lock); err != nil {
			w.t.Fatalf("holding a write: %v", err)
		}
	}
	waiting := func() (n int) {
		if err := w.conn.QueryRow(ctx, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND (classid::bigint << 32) | objid::bigint = $1", w.lock).Scan(&n); err != nil {
			w.t.Fatalf("looking for a held write: %v", err)
		}
		return n
	}
	return func() bool { return waiting() > 0 }, func() {
		w.t.Helper()
		w.run("DELETE FROM fault.plan")
		if _, err := w.conn.Exec(ctx, "SELECT pg_advisory_unlock($1)", w.lock); err != nil {
			w.t.Fatalf("releasing a write: %v", err)
		}
	}
}

// Drop ends whoever waits at a held write, as a server does whose client is gone;
// without it, release lets the statement be completed for nobody.
func (w *Writes) Drop() {
	w.t.Helper()
	if _, err := w.conn.Exec(context.Background(), "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND (classid::bigint << 32) | objid::bigint = $1", w.lock); err != nil {
		w.t.Fatalf("dropping a held write: %v", err)
	}
}

// Seen is how many writes there were since.
func (w *Writes) Seen(how FailAt) int {
	w.t.Helper()
	var n int
	if err := w.conn.QueryRow(context.Background(), "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM fault."+string(how)).Scan(&n); err != nil {
		w.t.Fatalf("counting writes: %v", err)
	}
	return n
}
