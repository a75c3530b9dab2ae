package provisioning_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/tenants"
)

// hostileData are tried against another tenant's rows, the cell's and the server's.
var hostileData = []attempt{
	{"a qualified table", `SELECT email FROM {other}.member`, "42501", `SELECT email FROM {own}.member`},
	{"search_path", `SELECT set_config('search_path', '{other}', true), (SELECT count(*) FROM {other}.member)`, "42501", `SELECT set_config('search_path', '{own}', true)`},
	{"set_config role", `SELECT set_config('role', '{other}', true)`, "42501", `SELECT set_config('role', '{own}', true)`},
	{"SET ROLE", `SET ROLE {other}`, "42501", `SET ROLE NONE`},
	{"SET ROLE owner", `SET ROLE cell_owner`, "42501", `SET ROLE {own}`},
	{"SET SESSION AUTHORIZATION", `SET SESSION AUTHORIZATION {other}`, "42501", `SET SESSION AUTHORIZATION DEFAULT`},
	{"session_authorization by set_config", `SELECT set_config('session_authorization', '{other}', true)`, "42501", `SELECT current_user::text`},
	{"query_to_xml", `SELECT query_to_xml('SELECT email FROM {other}.member', true, false, '')`, "42501", `SELECT query_to_xml('SELECT email FROM member', true, false, '')::text`},
	{"table_to_xml", `SELECT table_to_xml('{other}.member', true, false, '')`, "42501", `SELECT 'x'`},
	{"schema_to_xml", `SELECT schema_to_xml('{other}', true, false, '')`, "42501", `SELECT 'x'`},
	{"COPY TO STDOUT", `COPY {other}.member TO STDOUT`, "42501", `COPY (SELECT email FROM member) TO STDOUT`},
	{"COPY FROM a file", `COPY probe (sealed) FROM '/etc/passwd'`, "42501", `SELECT 'x'`},
	{"COPY TO a file", `COPY (SELECT 1) TO '/tmp/x'`, "42501", `SELECT 'x'`},
	{"COPY TO PROGRAM", `COPY (SELECT 1) TO PROGRAM 'id'`, "42501", `SELECT 'x'`},
	{"pg_read_file", `SELECT pg_read_file('PG_VERSION')`, "42501", `SELECT version()`},
	{"pg_read_binary_file", `SELECT pg_read_binary_file('PG_VERSION')`, "42501", `SELECT 'x'`},
	{"pg_ls_dir", `SELECT pg_ls_dir('.')`, "42501", `SELECT 'x'`},
	{"lo_import", `SELECT lo_import('/etc/passwd')`, "42501", `SELECT 'x'`},
	{"lo_create", `SELECT lo_create(0)`, "42501", `SELECT 'x'`},
	{"lo_from_bytea", `SELECT lo_from_bytea(0, 'x')`, "42501", `SELECT 'x'`},
	{"dblink", `SELECT * FROM dblink('dbname=x', 'SELECT 1') AS t(x int)`, "42883", `SELECT 'x'`},
	{"an extension", `CREATE EXTENSION dblink`, "42501", `SELECT 'x'`},
	{"context keys", `SELECT inner_block FROM cell.context_key`, "42501", `SELECT cell.ctx_kind()`},
	{"credentials", `SELECT sealed FROM cell.tenant_credential`, "42501", `SELECT cell.ctx_actor()::text`},
	{"fences", `UPDATE cell.tenant_fence SET gate_open = true`, "42501", `SELECT 'x'`},
	{"the bump function", `SELECT cell.bump_authz_version()`, "42501", `SELECT cell.ctx_role()`},
	{"a table in public", `CREATE TABLE public.x (a int)`, "42501", `SELECT 'x'`},
	{"a function in public", `CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'`, "42501", `SELECT 'x'`},
	{"a table in its own schema", `CREATE TABLE {own}.x (a int)`, "42501", `SELECT 'x'`},
	{"a table in cell", `CREATE TABLE cell.x (a int)`, "42501", `SELECT 'x'`},
	{"a schema", `CREATE SCHEMA x`, "42501", `SELECT 'x'`},
	{"a temporary table", `CREATE TEMP TABLE x (a int)`, "42501", `WITH x AS (SELECT 1) SELECT * FROM x`},
	{"a temporary view", `CREATE TEMP VIEW x AS SELECT 1`, "42501", `SELECT 'x'`},
	{"pg_authid", `SELECT rolpassword FROM pg_authid`, "42501", `SELECT 'x'`},
	{"role names", `SELECT rolname FROM pg_roles`, "42501", `SELECT current_user::text`},
	{"relation sizes", `SELECT relname, reltuples FROM pg_class`, "42501", `SELECT to_regclass('member')::text`},
	{"schema names", `SELECT nspname FROM pg_namespace`, "42501", `SELECT current_schema()::text`},
	{"other sessions", `SELECT usename, query FROM pg_stat_activity`, "42501", `SELECT pg_backend_pid()`},
	{"table statistics", `SELECT relname, n_live_tup FROM pg_stat_user_tables`, "42501", `SELECT 'x'`},
	{"planner statistics", `SELECT most_common_vals::text FROM pg_stats`, "42501", `SELECT 'x'`},
	{"locks", `SELECT * FROM pg_locks`, "42501", `SELECT 'x'`},
	{"information_schema", `SELECT table_name FROM information_schema.tables WHERE table_schema = '{other}'`, "", `SELECT table_name FROM information_schema.tables WHERE table_schema = '{own}'`},
	{"advisory locks", `SELECT pg_advisory_lock(1)`, "42501", `SELECT 'x'`},
	{"trying advisory locks", `SELECT pg_try_advisory_xact_lock(1)`, "42501", `SELECT 'x'`},
	{"another's backend", `SELECT pg_terminate_backend(pid) FROM generate_series(1, 100000) pid WHERE pid <> pg_backend_pid() AND pid = {victim pid}`, "42501", `SELECT pg_backend_pid()`},
	{"row_security off", `SET LOCAL row_security = off; SELECT count(*) FROM audit_entry`, "42501", `SELECT (SELECT count(*) FROM audit_entry)`},
	{"replica triggers", `SET LOCAL session_replication_role = replica`, "42501", `SET LOCAL statement_timeout = '1s'`},
	{"its own attributes", `ALTER ROLE {own} SUPERUSER`, "42501", `SELECT 'x'`},
	{"another's password", `ALTER ROLE {other} PASSWORD 'x'`, "42501", `SELECT 'x'`},
	{"TRUNCATE", `TRUNCATE member`, "42501", `SELECT count(*) FROM member`},
	{"changing an audit row", `UPDATE audit_entry SET action = 'x'`, "42501", `SELECT count(*) FROM audit_entry`},
	{"deleting an audit row", `DELETE FROM audit_entry`, "42501", `SELECT count(*) FROM audit_entry`},
	{"naming an audit row's actor", `INSERT INTO audit_entry (id, actor_id, action, record_type, record_id, outcome, ip, device, request_id, detail) VALUES (gen_random_uuid(), gen_random_uuid(), 'x', '', '', 'ok', '', '', '', '{}')`, "42501",
		`INSERT INTO audit_entry (id, action, record_type, record_id, outcome, ip, device, request_id, detail) VALUES (gen_random_uuid(), 'x', '', '', 'ok', '', '', '', '{}')`},
	{"raising its own authz_version", `UPDATE member SET authz_version = 1`, "42501", `SELECT authz_version FROM member`},
	{"a trigger of its own", `CREATE TRIGGER x AFTER UPDATE ON member FOR EACH ROW EXECUTE FUNCTION cell.bump_authz_version()`, "42501", `SELECT 'x'`},
	{"its own policy", `CREATE POLICY x ON member USING (true)`, "42501", `SELECT 'x'`},
	{"disabling row security", `ALTER TABLE member DISABLE ROW LEVEL SECURITY`, "42501", `SELECT 'x'`},
	{"the migrations' record", `SELECT version_id FROM schema_version`, "42501", `SELECT slug FROM tenant_setting`},
}

func requireCode(t *testing.T, code string, err error) {
	t.Helper()
	require.Error(t, err)
	var state interface{ SQLState() string }
	require.ErrorAs(t, err, &state)
	require.Equal(t, code, state.SQLState(), "%v", err)
}

// TestContextCannotBeForged changes one thing at a time in a context that holds.
func TestContextCannotBeForged(t *testing.T) {
	ctx, b := context.Background(), setup(t)
	o, other := b.provisioned(t), b.provisioned(t)
	conn, key := o.login(t)
	otherConn, otherKey := other.login(t)
	actor := o.actor(o.owner, tenants.RoleOwner)
	pid, soon := conn.PgConn().PID(), time.Now().Add(10*time.Second)
	good := tenantdb.Mint(key, pid, tenantdb.KindMember, actor, soon)
	nurse := tenantdb.Mint(key, pid, tenantdb.KindMember, o.actor(tenants.NewID(), tenants.RoleNurse, tenants.NewID()), soon)
	elsewhere := actor
	elsewhere.TenantID = other.id

	try := func(conn *pgx.Conn, signed string) (string, error) {
		tx, err := conn.Begin(ctx)
		require.NoError(t, err)
		defer func() { _ = tx.Rollback(ctx) }()
		_, err = tx.Exec(ctx, `SELECT set_config($1, $2, true)`, tenantdb.Setting, signed)
		require.NoError(t, err)
		var role *string
		err = tx.QueryRow(ctx, `SELECT cell.ctx_role() FROM (SELECT count(*) FROM member) x`).Scan(&role)
		if role == nil {
			return "", err
		}
		return *role, err
	}
	role, err := try(conn, good)
	require.NoError(t, err)
	require.Equal(t, "owner", role)
	role, err = try(conn, "")
	require.NoError(t, err, "a missing context is no error and sees nothing")
	require.Empty(t, role)

	for name, forged := range map[string]string{
		"another role in it":        strings.Replace(nurse, "|nurse|", "|owner|", 1),
		"another facility":          strings.Replace(nurse, nurse[len(nurse)-66:len(nurse)-65], "0", 1) + "0",
		"another pid":               tenantdb.Mint(key, pid+1, tenantdb.KindMember, actor, soon),
		"expired":                   tenantdb.Mint(key, pid, tenantdb.KindMember, actor, time.Now().Add(-time.Millisecond)),
		"another tenant's key":      tenantdb.Mint(otherKey, pid, tenantdb.KindMember, actor, soon),
		"another tenant":            tenantdb.Mint(key, pid, tenantdb.KindMember, elsewhere, soon),
		"another tenant altogether": tenantdb.Mint(otherKey, pid, tenantdb.KindMember, elsewhere, soon),
		"an unknown kind":           tenantdb.Mint(key, pid, "root", actor, soon),
		"no key":                    tenantdb.Mint(tenantdb.ContextKey{}, pid, tenantdb.KindMember, actor, soon),
		"words":                     "owner",
		"an empty signature":        good[:len(good)-64],
		"a part too many":           strings.Replace(good, "|member|", "|member||", 1),
	} {
		_, err := try(conn, forged)
		requireCode(t, tenantdb.CodeBadContext, err)
		require.NotContains(t, err.Error(), forged, name)
	}
	_, err = try(otherConn, good)
	requireCode(t, tenantdb.CodeBadContext, err)
}

// TestSpoofedGateNotificationIsAHint shows what another tenant's login gets out of the
// gate's channel: it hears tags that name nobody, and sending one again decides nothing.
// That workers who hear it go on serving is shown on a running stack, in cmd/e2e.
func TestSpoofedGateNotificationIsAHint(t *testing.T) {
	ctx, b := context.Background(), setup(t)
	victim, attacker := b.provisioned(t), b.provisioned(t)
	conn, _ := attacker.login(t)
	_, err := conn.Exec(ctx, "LISTEN "+tenantdb.GateChannel)
	require.NoError(t, err, "PostgreSQL has no right to take away here")
	hear := func() string {
		wait, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		n, err := conn.WaitForNotification(wait)
		require.NoError(t, err)
		return n.Payload
	}
	gate := func() string {
		return b.text(t, `SELECT concat(gate_mode, gate_version) FROM organization WHERE id = $1`, victim.id) +
			b.cellText(t, `SELECT concat(f.gate_version, f.gate_open, r.rolcanlogin) FROM cell.tenant_fence f, pg_roles r WHERE f.tenant_id = $1 AND r.rolname = $2`,
				victim.id, tenants.RoleName(victim.id))
	}
	decide := func(state string) {
		b.exec(t, `UPDATE organization SET state = $2 WHERE id = $1`, victim.id, state)
		require.NoError(t, pg.InTx(ctx, b.config.Control, func(tx pgx.Tx) error { return b.config.Gatekeeper.Decide(ctx, tx, victim.id) }))
		require.NoError(t, b.p.ApplyGate(ctx, victim.id))
	}
	seen := map[string]bool{}
	for _, state := range []string{"suspended", "live"} {
		was := gate()
		decide(state)
		tag := hear()
		require.Equal(t, tenantdb.HintTag(tenantdb.GateChannel, victim.id), tag)
		for _, name := range []string{victim.id.String(), victim.id.Hex(), tenants.SchemaName(victim.id)} {
			require.NotContains(t, tag, name)
		}
		now := gate()
		require.NotEqual(t, was, now, "a decision shows in what is compared")
		_, err = conn.Exec(ctx, `SELECT pg_notify($1, $2)`, tenantdb.GateChannel, tag)
		require.NoError(t, err)
		require.Equal(t, tag, hear(), "it was sent")
		require.Equal(t, now, gate(), "%s stays", state)
		there, _, err := b.login(ctx, victim.id)
		require.Equal(t, state == "live", err == nil, "%s: %v", state, err)
		if err == nil {
			require.NoError(t, there.Close(ctx))
		}
		seen[now] = true
	}
	require.Len(t, seen, 2)
}
