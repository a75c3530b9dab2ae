package testkit

import (
	"context"
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

// Writes counts the writes of a database and makes one of them fail, as a full
// disk would.
type Writes struct {
	t    testing.TB
	conn *pgx.Conn
}

// The counters are sequences: what is rolled back stays counted. In a database
// where schemas are made meanwhile, the commands that make them count as well.
const countWrites = `
CREATE SCHEMA fault;
CREATE SEQUENCE fault.statement;
CREATE SEQUENCE fault.commit;
CREATE TABLE fault.plan (how text NOT NULL, at bigint NOT NULL);
CREATE FUNCTION fault.count(how text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE n bigint := nextval(('fault.' || how)::regclass);
BEGIN
	IF EXISTS (SELECT FROM fault.plan p WHERE p.how = count.how AND p.at = n) THEN
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
		WHERE c.relkind = 'r' AND n.nspname = ANY (string_to_array('SCHEMAS', ',')) LOOP
		EXECUTE format('CREATE TRIGGER aaa_fault BEFORE INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION fault.write(''statement'')', t.name);
		EXECUTE format('CREATE CONSTRAINT TRIGGER zzz_fault AFTER INSERT OR UPDATE OR DELETE ON %s DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fault.write(''commit'')', t.name);
	END LOOP;
END $$;
CREATE EVENT TRIGGER fault_command ON ddl_command_end EXECUTE FUNCTION fault.command();
`

// CountWrites watches every table of the schemas, and every command that makes or
// changes one. No write fails before Arm.
func CountWrites(t testing.TB, db *DB, schemas ...string) *Writes {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), db.Superuser(t))
	if err != nil {
		t.Fatalf("counting writes: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	w := &Writes{t: t, conn: conn}
	w.run(countWrites)
	w.run(strings.Replace(watchTables, "SCHEMAS", strings.Join(schemas, ","), 1))
	return w
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
	if _, err := w.conn.Exec(context.Background(), "INSERT INTO fault.plan VALUES ($1, $2)", string(how), n); err != nil {
		w.t.Fatalf("planting a failed write: %v", err)
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
