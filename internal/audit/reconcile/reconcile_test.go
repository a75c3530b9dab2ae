package reconcile_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/audit/audittest"
	"github.com/caresphere/caresphere/internal/audit/reconcile"
	"github.com/caresphere/caresphere/internal/devstack"
	"github.com/caresphere/caresphere/internal/testkit/prove"
	"github.com/caresphere/caresphere/tenants"
)

var ctx = context.Background()

// world is a cell with a tenant who has a client.
type world struct {
	*audittest.Tenant
	cell, dir string
	super     *pgx.Conn
	sealer    *pgxpool.Pool
	facility  tenants.ID
	nurse     tenants.Actor
	conn      *pgx.Conn
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{cell: audittest.Cell(t)}
	w.Tenant = audittest.NewTenant(t, w.cell)
	w.super = audittest.Connect(t, audittest.Super, w.cell)
	require.NoError(t, w.super.QueryRow(ctx, "SHOW log_directory").Scan(&w.dir))
	w.sealer = audittest.Pool(t, "cell_sealer", w.cell)
	w.facility = tenants.NewID()
	s := w.Role
	audittest.Exec(t, w.super, "INSERT INTO "+s+".facility (id, name) VALUES ($1, 'East')", [16]byte(w.facility))
	audittest.Exec(t, w.super, "INSERT INTO "+s+`.client (id, facility_id, given_name_sealed, family_name_sealed, birth_date_sealed, family_index, birth_date_index, created_by, updated_by)
		SELECT gen_random_uuid(), $1, '\x01', '\x01', '\x01', sha256('x'), sha256('y'), $1, $1 FROM generate_series(1, 3)`, [16]byte(w.facility))
	w.nurse = w.Member(tenants.RoleNurse)
	w.nurse.Facilities = []tenants.ID{w.facility}
	w.conn = w.Connect(t)
	return w
}

// now is the server's time, one tick past everything that was logged before.
func (w *world) now(t testing.TB) time.Time {
	t.Helper()
	var at time.Time
	require.NoError(t, w.super.QueryRow(ctx, "SELECT clock_timestamp() + interval '1 ms'").Scan(&at))
	// The log's times are whole milliseconds: what follows must be in a later one.
	audittest.Exec(t, w.super, "SELECT pg_sleep(0.003)")
	return at
}

// flushed waits until the log holds everything that was done before the call.
func (w *world) flushed(t testing.TB) {
	t.Helper()
	token := strings.ReplaceAll(tenants.NewID().String(), "-", "")
	audittest.Exec(t, w.super, "SET application_name = 'flush_"+token+"'")
	require.Eventually(t, func() bool {
		files, err := filepath.Glob(filepath.Join(w.dir, "*.json"))
		require.NoError(t, err)
		slices.Sort(files)
		content, err := os.ReadFile(files[len(files)-1])
		require.NoError(t, err)
		return strings.Contains(string(content), token)
	}, 20*time.Second, 20*time.Millisecond)
}

func (w *world) reconcile(t testing.TB, from time.Time) reconcile.Report {
	t.Helper()
	w.flushed(t)
	r, err := reconcile.Run(ctx, reconcile.Options{Cell: w.sealer, Dir: w.dir, From: from})
	require.NoError(t, err)
	return r
}

// read reads the clients as the nurse, and writes the entry if told so.
func (w *world) read(t testing.TB, entry bool) {
	t.Helper()
	require.NoError(t, w.InTx(ctx, w.conn, w.nurse, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, "SELECT id FROM client WHERE facility_id = $1", [16]byte(w.facility))
		if err != nil {
			return err
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[[16]byte])
		require.Len(t, ids, 3)
		if err != nil || !entry {
			return err
		}
		return audit.Insert(ctx, tx, w.nurse, audit.Event{Action: "client.list", RecordType: "client", FacilityID: w.facility})
	}))
}

// ours are the unmatched of this test's own making: other tests share the server,
// and what they do to it as a superuser may concern every cell.
func ours(r reconcile.Report, database string) []reconcile.Unmatched {
	return slices.DeleteFunc(slices.Clone(r.Unmatched), func(u reconcile.Unmatched) bool { return u.Database != database })
}

func TestWhatHasItsEntryIsMatchedAndWhatHasNoneIsNot(t *testing.T) {
	w := newWorld(t)
	from := w.now(t)
	for range 5 {
		w.read(t, true)
	}
	r := w.reconcile(t, from)
	require.Empty(t, ours(r, w.cell))
	require.Len(t, r.Tenants, 1)
	got := r.Tenants[0]
	require.Equal(t, w.ID, got.ID)
	require.Equal(t, 5, got.Transactions)
	require.GreaterOrEqual(t, got.Marks, 5)
	require.Equal(t, 5, got.Matched)

	w.read(t, false)
	r = w.reconcile(t, from)
	found := ours(r, w.cell)
	require.Len(t, found, 1)
	require.False(t, r.OK)
	require.Equal(t, w.Role, found[0].Role)
	require.Equal(t, []tenants.ID{w.ID}, found[0].Tenants)
	require.Equal(t, int(w.conn.PgConn().PID()), found[0].PID)
	require.Contains(t, found[0].Why, "no audit entry")
	require.Equal(t, 5, r.Tenants[0].Matched)
	require.Equal(t, 1, r.Tenants[0].Unmatched)
	prove.Plant(t, prove.AuditUnmatched, 1, r.Tenants[0].Unmatched)
}

func TestARefusalMatchesOneRolledBackTransaction(t *testing.T) {
	w := newWorld(t)
	from := w.now(t)
	reach := func() {
		tx, err := w.conn.Begin(ctx)
		require.NoError(t, err)
		audittest.Exec(t, tx, "SELECT set_config('caresphere.context', $1, true)", w.Context(w.conn, w.nurse))
		audittest.Exec(t, tx, "SELECT id FROM client")
		require.NoError(t, tx.Rollback(ctx))
	}
	reach()
	w.Record(t, w.conn, w.nurse, audit.Event{Action: "client.read", Outcome: audit.OutcomeDenied})
	r := w.reconcile(t, from)
	require.Equal(t, 1, r.Tenants[0].Refused)
	require.Zero(t, r.Tenants[0].Unmatched)
	reach()
	// Nothing that is this fresh is called unmatched before its refusal had its time.
	r = w.reconcile(t, from)
	require.Equal(t, 1, r.Tenants[0].Refused)
	require.Equal(t, 1, r.Tenants[0].Running)
}

func TestSuperusersReachIsUnmatched(t *testing.T) {
	w := newWorld(t)
	s := w.Role
	for name, c := range map[string]struct{ sql, table, shown string }{
		"select":             {"SELECT given_name_sealed FROM " + s + ".client WHERE family_index = 'secret-value'", "client", "family_index = ?"},
		"extended":           {"SELECT count(*) FROM " + s + ".shift_note", "shift_note", ""},
		"copy":               {"COPY " + s + ".client (id, given_name_sealed) TO STDOUT", "client", "to stdout"},
		"copy query":         {"COPY (SELECT * FROM " + s + ".client_contact) TO STDOUT", "client_contact", ""},
		"quoted, commented":  {`SELECT 1 FROM /* x */ "` + s + `" . "client" -- y`, "client", ""},
		"search path":        {"SET search_path = " + s + "; SELECT 1 FROM client; RESET search_path", "client", "select ? from client"},
		"xml":                {"SELECT query_to_xml('select 1 from '||'" + s + ".cli'||'ent', true, true, '')", "", "query_to_xml(?"},
		"do":                 {"DO $$ BEGIN PERFORM 1 FROM " + s + ".client; END $$", "", "do ?"},
		"function":           {"CREATE FUNCTION pg_temp.f() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM " + s + ".client'; SELECT pg_temp.f()", "", "create function"},
		"cursor":             {"BEGIN; DECLARE c CURSOR FOR SELECT 1 FROM " + s + ".care_team_member; FETCH c; COMMIT", "care_team_member", ""},
		"prepared":           {"PREPARE p AS SELECT 1 FROM " + s + ".client_allergy; EXECUTE p", "client_allergy", ""},
		"the trail":          {"SELECT 1 FROM " + s + ".audit_entry LIMIT 1", "audit_entry", ""},
		"grant on the whole": {"GRANT SELECT ON ALL TABLES IN SCHEMA " + s + " TO cell_worker; REVOKE SELECT ON ALL TABLES IN SCHEMA " + s + " FROM cell_worker", "all tables", ""},
		"logging off":        {"SET log_statement = 'none'; SELECT 1 FROM " + s + ".client; SET log_statement = 'all'", "", "set log_statement = ?"},
		"replica":            {"SET session_replication_role = replica; RESET session_replication_role", "", "session_replication_role"},
		"file":               {"SELECT length(pg_read_binary_file('PG_VERSION'))", "", "pg_read_binary_file"},
	} {
		t.Run(name, func(t *testing.T) {
			from := w.now(t)
			if name == "extended" {
				var n int
				require.NoError(t, w.super.QueryRow(ctx, c.sql).Scan(&n))
			} else {
				_, err := w.super.PgConn().Exec(ctx, c.sql).ReadAll()
				require.NoError(t, err)
			}
			r := w.reconcile(t, from)
			found := ours(r, w.cell)
			require.NotEmpty(t, found)
			require.False(t, r.OK)
			u := found[0]
			require.Equal(t, "postgres", u.Role)
			require.Equal(t, int(w.super.PgConn().PID()), u.PID)
			require.Equal(t, "the server's own socket", u.From)
			require.WithinRange(t, u.At, from.Add(-2*time.Millisecond), time.Now())
			if c.table != "" {
				require.Contains(t, u.Tables, c.table)
			}
			require.Contains(t, u.Statement, c.shown)
			require.NotContains(t, u.Statement, "secret-value")
			prove.State(t, prove.AuditUnmatched, 1, 0)
		})
	}
	// The twin: what a person who looks after the server does all day.
	from := w.now(t)
	for _, sql := range []string{
		"SELECT count(*) FROM pg_stat_activity", "SELECT pg_size_pretty(pg_database_size(current_database()))", "VACUUM pg_class",
		"SELECT n.nspname, c.relname, pg_catalog.pg_get_userbyid(c.relowner) FROM pg_catalog.pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relname IN ('client')",
		"SELECT m.member, coalesce(max(r.rolname), 'x') FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid GROUP BY m.member",
		"WITH q(a) AS (VALUES (1), (2)) SELECT sum(a) OVER (PARTITION BY a) FROM q AS x(a)", "CHECKPOINT", "SHOW log_statement", "ALTER ROLE " + s + " CONNECTION LIMIT 5",
		"SELECT count(*) FROM cell.tenant_credential",
	} {
		audittest.Exec(t, w.super, sql, pgx.QueryExecModeSimpleProtocol)
	}
	require.Empty(t, ours(w.reconcile(t, from), w.cell))
}

func TestADumpIsUnmatched(t *testing.T) {
	w := newWorld(t)
	bin, _, err := devstack.FindPostgres(ctx, "")
	require.NoError(t, err)
	from := w.now(t)
	cfg := w.super.Config()
	dump := exec.CommandContext(ctx, filepath.Join(bin, "pg_dump"), "-h", cfg.Host, "-p", strconv.Itoa(int(cfg.Port)), "-U", cfg.User, "-n", w.Role, "-a", w.cell)
	out, err := dump.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), "COPY "+w.Role+".client ")
	found := ours(w.reconcile(t, from), w.cell)
	at := slices.IndexFunc(found, func(u reconcile.Unmatched) bool {
		return strings.HasPrefix(u.Statement, "copy "+w.Role+".client(")
	})
	require.GreaterOrEqual(t, at, 0)
	require.Equal(t, "pg_dump", found[at].Application)
	require.Equal(t, []string{"client"}, found[at].Tables)
	require.Equal(t, []tenants.ID{w.ID}, found[at].Tenants)
	prove.State(t, prove.AuditUnmatched, 1, 0)
}

func TestATenantsDDLCountsWhereItIsOnClinicalTables(t *testing.T) {
	w := newWorld(t)
	from := w.now(t)
	refused := func(sql string) {
		_, err := w.conn.Exec(ctx, sql)
		require.Error(t, err)
	}
	refused("CREATE TABLE x (a int)")
	refused("ALTER TABLE member DISABLE ROW LEVEL SECURITY")
	// A context without facilities sees no row, and leaves no mark.
	nobody := w.nurse
	nobody.Facilities = nil
	require.NoError(t, w.InTx(ctx, w.conn, nobody, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "SELECT id FROM client")
		return err
	}))
	r := w.reconcile(t, from)
	require.Empty(t, ours(r, w.cell))
	require.Contains(t, fmt.Sprint(r.Notices), "tried 2 statements of DDL")
	refused("ALTER TABLE client DISABLE ROW LEVEL SECURITY")
	refused("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'")
	require.Len(t, ours(w.reconcile(t, from), w.cell), 2)
}

func TestASilentSuperuserIsUnmatched(t *testing.T) {
	w := newWorld(t)
	from := w.now(t)
	cfg := w.super.Config().Copy()
	cfg.RuntimeParams["log_statement"] = "none"
	cfg.RuntimeParams["application_name"] = "quiet"
	c, err := pgx.ConnectConfig(ctx, cfg)
	require.NoError(t, err)
	audittest.Exec(t, c, "SELECT given_name_sealed FROM "+w.Role+".client")
	require.NoError(t, c.Close(ctx))
	var found []reconcile.Unmatched
	require.Eventually(t, func() bool {
		found = ours(w.reconcile(t, from), w.cell)
		return len(found) == 1
	}, 10*time.Second, 50*time.Millisecond)
	require.Contains(t, found[0].Why, "no record of its statements")
	require.Equal(t, "quiet", found[0].Application)
}

func TestTheOwnersMigrationsAreDeclaredAndItsOtherReachIsNot(t *testing.T) {
	w := newWorld(t)
	from := w.now(t)
	other := audittest.NewTenant(t, w.cell)
	r := w.reconcile(t, from)
	for _, u := range ours(r, w.cell) {
		t.Errorf("%s: %v %s", u.Why, u.Tables, u.Statement)
	}
	for _, file := range []string{"tenant/0001_core.sql", "tenant/0002_audit.sql", "tenant/0003_clinical.sql"} {
		require.Positive(t, r.Declared[file], file)
	}
	owner := audittest.Connect(t, "cell_owner", w.cell)
	from = w.now(t)
	audittest.Exec(t, owner, "ALTER TABLE "+other.Role+".client NO FORCE ROW LEVEL SECURITY")
	audittest.Exec(t, owner, "SELECT count(*) FROM "+other.Role+".client")
	found := ours(w.reconcile(t, from), w.cell)
	require.Len(t, found, 2)
	require.Equal(t, "cell_owner", found[1].Role)
	require.Equal(t, []tenants.ID{other.ID}, found[1].Tenants)
	require.Equal(t, []string{"client"}, found[1].Tables)
}

func TestMissingLinesAndMissingFilesAreGaps(t *testing.T) {
	w := newWorld(t)
	from := w.now(t)
	w.read(t, false)
	w.read(t, true)
	w.read(t, true)
	w.flushed(t)
	files, err := filepath.Glob(filepath.Join(w.dir, "*.json"))
	require.NoError(t, err)
	slices.Sort(files)
	var kept []string
	for _, f := range files {
		content, err := os.ReadFile(f)
		require.NoError(t, err)
		for l := range strings.Lines(string(content)) {
			if strings.Contains(l, `"dbname":"`+w.cell+`"`) {
				kept = append(kept, l)
			}
		}
	}
	dir := t.TempDir()
	run := func(lines []string) reconcile.Report {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "postgresql-2026-01-01_000000.json"), []byte(strings.Join(lines, "")), 0o600))
		r, err := reconcile.Run(ctx, reconcile.Options{Cell: w.sealer, Dir: dir, From: from})
		require.NoError(t, err)
		return r
	}
	r := run(kept)
	require.Empty(t, r.Gaps)
	require.Len(t, r.Unmatched, 1)
	// Somebody cuts the line of the transaction without an entry out of the file.
	at := slices.IndexFunc(kept, func(l string) bool {
		return strings.Contains(l, fmt.Sprintf(`"pid":%d,`, r.Unmatched[0].PID)) && strings.Contains(l, "access mark")
	})
	r = run(slices.Delete(slices.Clone(kept), at, at+1))
	require.Empty(t, r.Unmatched)
	require.Len(t, r.Gaps, 1)
	require.Contains(t, r.Gaps[0].What, "missing from the record")
	require.False(t, r.OK)
	// Or the file's beginning.
	last := len(kept) - 1
	r = run(kept[last:])
	require.False(t, r.OK)
	require.Contains(t, fmt.Sprint(r.Gaps), "entries from before the record begins")
	// Or writes into it.
	r = run(append(slices.Clone(kept), "{\n"))
	require.Contains(t, fmt.Sprint(r.Gaps), "cannot be read")
	_, err = reconcile.Run(ctx, reconcile.Options{Cell: w.sealer, Dir: t.TempDir(), From: from})
	require.ErrorIs(t, err, reconcile.ErrNoRecord)
}

func TestARoleThatIsNotRecordedIsAGap(t *testing.T) {
	w := newWorld(t)
	from := w.now(t)
	pattern := regexp.MustCompile(`role cell_worker can reach clinical tables`)
	require.NotRegexp(t, pattern, fmt.Sprint(w.reconcile(t, from).Gaps))
	audittest.Exec(t, w.super, "GRANT SELECT (id) ON "+w.Role+".client TO cell_worker")
	r := w.reconcile(t, from)
	require.Regexp(t, pattern, fmt.Sprint(r.Gaps))
	require.False(t, r.OK)
}

func TestOneTenantAlone(t *testing.T) {
	w := newWorld(t)
	other := audittest.NewTenant(t, w.cell)
	from := w.now(t)
	w.read(t, true)
	audittest.Exec(t, w.super, "SELECT 1 FROM "+w.Role+".client")
	w.flushed(t)
	r, err := reconcile.Run(ctx, reconcile.Options{Cell: w.sealer, Dir: w.dir, From: from, Tenant: other.ID})
	require.NoError(t, err)
	require.Len(t, r.Tenants, 1)
	require.Equal(t, other.ID, r.Tenants[0].ID)
	require.Empty(t, ours(r, w.cell))
	r, err = reconcile.Run(ctx, reconcile.Options{Cell: w.sealer, Dir: w.dir, From: from, Tenant: w.ID})
	require.NoError(t, err)
	require.Len(t, ours(r, w.cell), 1)
	require.Equal(t, 1, r.Tenants[0].Unmatched)
	_, err = reconcile.Run(ctx, reconcile.Options{Cell: w.sealer, Dir: w.dir, From: from, To: from})
	require.Error(t, err)
}
