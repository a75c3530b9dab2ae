package isolation

import "github.com/caresphere/caresphere/internal/isolation"

// attempt is SQL that a tenant's login must not get through, beside SQL of the same
// kind that it may.
type attempt struct {
	name, sql, twinName, twin string
}

const insufficientPrivilege = "42501"

// own are tried once a tenant, each in a transaction that is rolled back; {own} stands
// for its schema and role. What has no twin is of a kind of which the login may do
// nothing, as everything that makes or changes an object.
var own = []attempt{
	{"the context keys", `SELECT FROM cell.context_key LIMIT 1`, "the context functions", `SELECT cell.ctx_kind()`},
	{"the sealed credentials", `SELECT FROM cell.tenant_credential LIMIT 1`, "", ""},
	{"the fences", `UPDATE cell.tenant_fence SET gate_open = true WHERE false`, "", ""},
	{"the cell owner's role", `SET LOCAL ROLE cell_owner`, "its own role", `SET LOCAL ROLE NONE`},
	{"the cell owner's role by set_config", `SELECT set_config('role', 'cell_owner', true)`, "a setting of its own", `SELECT set_config('statement_timeout', '5s', true)`},
	{"the cell owner's session", `SET SESSION AUTHORIZATION cell_owner`, "its own session", `SET SESSION AUTHORIZATION DEFAULT`},
	{"the worker's role", `SET LOCAL ROLE cell_worker`, "its own role by name", `SET LOCAL ROLE {own}`},
	{"the sealer's role", `SET LOCAL ROLE cell_sealer`, "its own role by name", `SET LOCAL ROLE {own}`},
	{"the names of roles", `SELECT FROM pg_roles LIMIT 1`, "its own name", `SELECT current_user`},
	{"the passwords of roles", `SELECT FROM pg_authid LIMIT 1`, "", ""},
	{"the names of schemas", `SELECT FROM pg_namespace LIMIT 1`, "its own schema", `SELECT current_schema()`},
	{"the names of tables", `SELECT FROM pg_class LIMIT 1`, "a table that it may see", `SELECT to_regclass('member')`},
	{"other sessions", `SELECT FROM pg_stat_activity LIMIT 1`, "its own session's number", `SELECT pg_backend_pid()`},
	{"planner statistics", `SELECT FROM pg_stats LIMIT 1`, "a plan for its own table", `EXPLAIN SELECT FROM member`},
	{"locks", `SELECT FROM pg_locks LIMIT 1`, "a lock on its own table", `LOCK TABLE member IN ACCESS SHARE MODE`},
	{"advisory locks", `SELECT pg_try_advisory_xact_lock(1)`, "a lock on its own table", `LOCK TABLE member IN ACCESS SHARE MODE`},
	{"large objects", `SELECT lo_create(0)`, "bytes in its own table", `INSERT INTO probe (id, sealed) SELECT gen_random_uuid(), '' WHERE false`},
	{"files of the server", `SELECT pg_read_file('PG_VERSION')`, "the server's version", `SHOW server_version`},
	{"a temporary table", `CREATE TEMP TABLE x (a int)`, "a query of its own", `WITH x AS (SELECT 1) SELECT FROM x`},
	{"a table in public", `CREATE TABLE public.isolation_try (a int)`, "", ""},
	{"a table in its schema", `CREATE TABLE isolation_try (a int)`, "", ""},
	{"a policy of its own", `CREATE POLICY isolation_try ON member USING (true)`, "", ""},
	{"its row security off", `ALTER TABLE member DISABLE ROW LEVEL SECURITY`, "", ""},
	{"a change of its trail", `UPDATE audit_entry SET action = 'x' WHERE false`, "a look at its trail", `SELECT FROM audit_entry LIMIT 0`},
	{"the record of its migrations", `SELECT FROM schema_version LIMIT 1`, "a record of its own", `SELECT FROM tenant_setting LIMIT 0`},
}

// peer are tried against each other tenant; {peer} stands for its schema and role.
// What names one table is made for every table of the other.
var peer = []attempt{
	{"another's role", `SET LOCAL ROLE {peer}`, "its own role by name", `SET LOCAL ROLE {own}`},
	{"another's role by set_config", `SELECT set_config('role', '{peer}', true)`, "its own by set_config", `SELECT set_config('role', '{own}', true)`},
	{"another's session", `SET SESSION AUTHORIZATION {peer}`, "its own session by name", `SET SESSION AUTHORIZATION {own}`},
	{"another's table through query_to_xml", `SELECT query_to_xml('SELECT FROM {peer}.member LIMIT 1', true, false, '')`,
		"its own through query_to_xml", `SELECT query_to_xml('SELECT FROM member LIMIT 0', true, false, '')`},
	{"writing into another's table", `INSERT INTO {peer}.probe (id, sealed) SELECT gen_random_uuid(), '' WHERE false`, "writing into its own",
		`INSERT INTO probe (id, sealed) SELECT gen_random_uuid(), '' WHERE false`},
}

// catalogue lists what every proof tries, for the report.
func catalogue() []isolation.Attempt {
	list := []isolation.Attempt{
		{Layer: isolation.LayerRoute, Refused: "its probe at every other's name, and at a name that nobody has", Allowed: "its probe at its own name, if its gate is open"},
		{Layer: isolation.LayerSession, Refused: "no session, a made-up one, an expired probe, one by another key, another tenant's", Allowed: "a probe of now, by the platform's key"},
		{Layer: isolation.LayerSQL, Refused: "logging in while the gate is closed", Allowed: "logging in while it is open"},
		{Layer: isolation.LayerSQL, Refused: "selecting from each table of each other tenant", Allowed: "selecting from each of its own"},
		{Layer: isolation.LayerContext, Refused: "a context that is forged: another's key, another role or backend, expired, made up", Allowed: "a context that the worker could have signed"},
		{Layer: isolation.LayerContext, Refused: "rows without a context, clients for a nurse without facilities", Allowed: "its settings for an owner"},
		{Layer: isolation.LayerKey, Refused: "its wrapped data key under another's key, for another purpose, under another id", Allowed: "the same under its own"},
		{Layer: isolation.LayerStorage, Refused: "another's object, and a list of another's objects, through its own part of the store", Allowed: "its own"},
		{Layer: isolation.LayerDeclared, Refused: "a table, policy, right, trigger, function, default or attribute that the migrations do not make", Allowed: "all that they make"},
	}
	for _, a := range own {
		list = append(list, isolation.Attempt{Layer: isolation.LayerSQL, Refused: a.name, Allowed: a.twinName})
	}
	for _, a := range peer {
		list = append(list, isolation.Attempt{Layer: isolation.LayerSQL, Refused: a.name, Allowed: a.twinName})
	}
	return list
}
