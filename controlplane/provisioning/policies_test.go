package provisioning_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/provisioning"
	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/tenants"
)

// staff is a tenant with two facilities and a nurse at the first of them.
type staff struct {
	*tenant
	conn        *pgx.Conn
	key         tenantdb.ContextKey
	east, west  tenants.ID
	nurse       tenants.ID
	nurseActor  tenants.Actor
	ownerActor  tenants.Actor
	nurseLookup tenants.Actor
}

func newStaff(t *testing.T, b *bundle) *staff {
	t.Helper()
	ctx := context.Background()
	s := &staff{tenant: b.provisioned(t), east: tenants.NewID(), west: tenants.NewID(), nurse: tenants.NewID()}
	s.conn, s.key = s.login(t)
	s.ownerActor = s.actor(s.owner, tenants.RoleOwner, s.east, s.west)
	s.nurseActor = s.actor(s.nurse, tenants.RoleNurse, s.east)
	s.nurseLookup = s.nurseActor
	require.NoError(t, s.do(s.ownerActor, func(tx pgx.Tx) error {
		for _, sql := range []string{
			`INSERT INTO facility (id, name) VALUES ($1, 'East'), ($2, 'West')`,
		} {
			if _, err := tx.Exec(ctx, sql, s.east, s.west); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, `INSERT INTO member (identity_id, email, name, role) VALUES ($1, 'nurse@example.com', 'Nia', 'nurse')`, s.nurse); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO member_facility (identity_id, facility_id) VALUES ($1, $2)`, s.nurse, s.east)
		return err
	}))
	return s
}

func (s *staff) do(a tenants.Actor, fn func(pgx.Tx) error) error {
	return as(s.conn, s.key, tenantdb.KindMember, a, fn)
}

// exec runs one statement under the actor's context and returns the rows it touched.
func (s *staff) exec(a tenants.Actor, kind tenantdb.Kind, sql string, args ...any) (n int64, err error) {
	err = as(s.conn, s.key, kind, a, func(tx pgx.Tx) error {
		tag, err := tx.Exec(context.Background(), sql, args...)
		n = tag.RowsAffected()
		return err
	})
	return n, err
}

func TestOnlyAnOwnerWidensAnybodysReach(t *testing.T) {
	b := setup(t)
	s := newStaff(t, b)
	for _, c := range []struct {
		name, sql string
		args      []any
		// refused is the SQLSTATE for the nurse; "" when the policy makes it touch no row.
		refused string
	}{
		{"assigning herself", `INSERT INTO member_facility (identity_id, facility_id) VALUES ($1, $2)`, []any{s.nurse, s.west}, "42501"},
		{"granting herself", `INSERT INTO facility_grant (id, identity_id, facility_id, reason) VALUES (gen_random_uuid(), $1, $2, 'cover')`, []any{s.nurse, s.west}, "42501"},
		{"promoting herself", `UPDATE member SET role = 'auditor' WHERE identity_id = $1`, []any{s.nurse}, ""},
		{"disabling somebody", `UPDATE member SET status = 'disabled' WHERE identity_id = $1`, []any{s.nurse}, ""},
		{"adding a member", `INSERT INTO member (identity_id, email, name, role) VALUES (gen_random_uuid(), 'x@example.com', 'X', 'owner')`, nil, "42501"},
		{"renaming a facility", `UPDATE facility SET name = name || '!' WHERE id = $1`, []any{s.east}, ""},
		{"adding a facility", `INSERT INTO facility (id, name) VALUES (gen_random_uuid(), 'South')`, nil, "42501"},
		{"lengthening the idle time", `UPDATE tenant_setting SET idle_timeout_seconds = 3600`, nil, ""},
		{"leaving a facility", `DELETE FROM member_facility WHERE identity_id = $1 AND facility_id = $2`, []any{s.nurse, s.east}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, kind := range []tenantdb.Kind{tenantdb.KindMember, tenantdb.KindLookup, tenantdb.KindSystem} {
				n, err := s.exec(s.nurseActor, kind, c.sql, c.args...)
				if c.refused != "" {
					requireCode(t, c.refused, err)
				} else {
					require.NoError(t, err)
				}
				require.Zero(t, n)
			}
			n, err := s.exec(s.ownerActor, tenantdb.KindMember, c.sql, c.args...)
			require.NoError(t, err)
			require.EqualValues(t, 1, n)
		})
	}
}

func TestFacilityScopeHoldsAgainstArbitrarySQL(t *testing.T) {
	ctx, b := context.Background(), setup(t)
	s := newStaff(t, b)
	client := func(facility tenants.ID) tenants.ID {
		id := tenants.NewID()
		n, err := s.exec(s.ownerActor, tenantdb.KindMember, `INSERT INTO client (id, facility_id, given_name_sealed, family_name_sealed,
			birth_date_sealed, family_index, birth_date_index) VALUES ($1, $2, 'g', 'f', 'b', '0123456789abcdef', '0123456789abcdef')`, id, facility)
		require.NoError(t, err)
		require.EqualValues(t, 1, n)
		return id
	}
	east, west := client(s.east), client(s.west)
	sees := func(a tenants.Actor, kind tenantdb.Kind) (ids []tenants.ID) {
		require.NoError(t, as(s.conn, s.key, kind, a, func(tx pgx.Tx) error {
			rows, err := tx.Query(ctx, `SELECT id FROM client ORDER BY id`)
			if err != nil {
				return err
			}
			ids, err = pgx.CollectRows(rows, pgx.RowTo[tenants.ID])
			return err
		}))
		return ids
	}
	require.Equal(t, []tenants.ID{east}, sees(s.nurseActor, tenantdb.KindMember))
	require.Equal(t, []tenants.ID{east, west}, sees(s.ownerActor, tenantdb.KindMember))
	require.Empty(t, sees(s.ownerActor, tenantdb.KindLookup), "a lookup carries no facilities")
	require.Empty(t, sees(s.ownerActor, tenantdb.KindSystem), "nor does the worker itself")

	_, err := s.exec(s.nurseActor, tenantdb.KindMember, `INSERT INTO client (id, facility_id, given_name_sealed, family_name_sealed,
		birth_date_sealed, family_index, birth_date_index) VALUES (gen_random_uuid(), $1, 'g', 'f', 'b', '0123456789abcdef', '0123456789abcdef')`, s.west)
	requireCode(t, "42501", err)
	n, err := s.exec(s.nurseActor, tenantdb.KindMember, `UPDATE client SET status = 'discharged' WHERE id = $1`, west)
	require.NoError(t, err)
	require.Zero(t, n)
	n, err = s.exec(s.nurseActor, tenantdb.KindMember, `UPDATE client SET status = 'discharged' WHERE id = $1`, east)
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
}

func TestLookupSeesItsOwnRowsOnly(t *testing.T) {
	ctx, b := context.Background(), setup(t)
	s := newStaff(t, b)
	count := func(kind tenantdb.Kind, table string) (n int) {
		require.NoError(t, as(s.conn, s.key, kind, s.nurseLookup, func(tx pgx.Tx) error {
			return tx.QueryRow(ctx, `SELECT count(*) FROM `+table).Scan(&n)
		}))
		return n
	}
	require.Equal(t, 1, count(tenantdb.KindLookup, "member"))
	require.Equal(t, 2, count(tenantdb.KindMember, "member"))
	require.Equal(t, 2, count(tenantdb.KindLookup, "facility"))
	require.Equal(t, 1, count(tenantdb.KindMember, "facility"), "a member sees the facilities of her own")
	require.Equal(t, 0, count(tenantdb.KindSystem, "facility"))
	require.Equal(t, 0, count(tenantdb.KindLookup, "data_key"))
	var without int
	require.NoError(t, s.conn.QueryRow(ctx, `SELECT (SELECT count(*) FROM member) + (SELECT count(*) FROM facility) + (SELECT count(*) FROM tenant_setting)`).Scan(&without))
	require.Zero(t, without, "no context sees nothing")
}

func TestAuthzVersionRisesWithEveryChange(t *testing.T) {
	ctx, b := context.Background(), setup(t)
	s := newStaff(t, b)
	version := func() (v int64) {
		require.NoError(t, s.do(s.ownerActor, func(tx pgx.Tx) error {
			return tx.QueryRow(ctx, `SELECT authz_version FROM member WHERE identity_id = $1`, s.nurse).Scan(&v)
		}))
		return v
	}
	was := version()
	for _, sql := range []string{
		`INSERT INTO member_facility (identity_id, facility_id) SELECT $1, id FROM facility WHERE name = 'West'`,
		`DELETE FROM member_facility WHERE identity_id = $1 AND facility_id = (SELECT id FROM facility WHERE name = 'West')`,
		`INSERT INTO facility_grant (id, identity_id, facility_id, reason) SELECT gen_random_uuid(), $1, id, 'cover' FROM facility WHERE name = 'West'`,
		`UPDATE facility_grant SET revoked_at = now() WHERE identity_id = $1`,
		`UPDATE member SET role = 'staff' WHERE identity_id = $1`,
		`UPDATE member SET status = 'disabled' WHERE identity_id = $1`,
	} {
		n, err := s.exec(s.ownerActor, tenantdb.KindMember, sql, s.nurse)
		require.NoError(t, err, sql)
		require.EqualValues(t, 1, n, sql)
		require.Greater(t, version(), was, sql)
		was = version()
	}
	_, err := s.exec(s.ownerActor, tenantdb.KindMember, `UPDATE member SET name = 'Nia B.' WHERE identity_id = $1`, s.nurse)
	require.NoError(t, err)
	require.Equal(t, was, version(), "a name is not a right")
	_, err = s.exec(s.ownerActor, tenantdb.KindMember, `UPDATE facility_grant SET revoked_at = NULL WHERE identity_id = $1`, s.nurse)
	requireCode(t, tenantdb.CodeImmutable, err)
}

func TestBeginRequest(t *testing.T) {
	ctx, b := context.Background(), setup(t)
	s := newStaff(t, b)
	admin := func(sql string, args ...any) {
		_, err := b.cellAdmin.Exec(ctx, "SET search_path = "+tenants.SchemaName(s.id))
		require.NoError(t, err)
		conn, err := b.cellAdmin.Acquire(ctx)
		require.NoError(t, err)
		defer conn.Release()
		_, err = conn.Exec(ctx, "SET search_path = "+tenants.SchemaName(s.id))
		require.NoError(t, err)
		_, err = conn.Exec(ctx, "SET session_replication_role = replica")
		require.NoError(t, err)
		_, err = conn.Exec(ctx, sql, args...)
		require.NoError(t, err)
	}
	begin := func(version int64) error {
		return s.do(s.nurseActor, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `SELECT cell.begin_request($1)`, version)
			return err
		})
	}
	session := s.nurseActor.SessionID
	requireCode(t, tenantdb.CodeSessionOver, begin(2))

	_, err := s.exec(s.nurseActor, tenantdb.KindMember, `INSERT INTO member_session (session_id, identity_id, ip, device) VALUES ($1, $2, '', '')`, session, s.nurse)
	requireCode(t, "42501", err)
	_, err = s.exec(s.nurseLookup, tenantdb.KindLookup, `INSERT INTO member_session (session_id, identity_id, ip, device) VALUES ($1, $2, '', '')`, tenants.NewID(), s.nurse)
	requireCode(t, "42501", err)
	n, err := s.exec(s.nurseLookup, tenantdb.KindLookup, `INSERT INTO member_session (session_id, identity_id, ip, device) VALUES ($1, $2, '', '')`, session, s.nurse)
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
	require.NoError(t, begin(2))
	requireCode(t, tenantdb.CodeStaleAuthz, begin(1))
	// Its tables are found by the path; one without them lets nobody in.
	requireCode(t, "42P01", s.do(s.nurseActor, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SET LOCAL search_path = pg_catalog`)
		require.NoError(t, err)
		_, err = tx.Exec(ctx, `SELECT cell.begin_request($1)`, int64(2))
		return err
	}))

	requireCode(t, tenantdb.CodeBadContext, as(s.conn, s.key, tenantdb.KindLookup, s.nurseLookup, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT cell.begin_request(2)`)
		return err
	}))

	lastSeen := func() (ago float64) {
		require.NoError(t, s.do(s.nurseActor, func(tx pgx.Tx) error {
			return tx.QueryRow(ctx, `SELECT extract(epoch FROM now() - last_seen)::float8 FROM member_session`).Scan(&ago)
		}))
		return ago
	}
	admin(`UPDATE member_session SET last_seen = now() - interval '20 seconds'`)
	require.NoError(t, begin(2))
	require.Less(t, lastSeen(), 15.0, "its use is noted")

	admin(`UPDATE member_session SET last_seen = now() - interval '901 seconds'`)
	requireCode(t, tenantdb.CodeSessionOver, begin(2))
	_, err = s.exec(s.nurseActor, tenantdb.KindMember, `UPDATE member_session SET last_seen = now()`)
	requireCode(t, tenantdb.CodeSessionOver, err)
	admin(`UPDATE member_session SET last_seen = now(), first_seen = now() - interval '13 hours'`)
	requireCode(t, tenantdb.CodeSessionOver, begin(2))
	admin(`UPDATE member_session SET first_seen = now()`)
	require.NoError(t, begin(2))

	admin(`UPDATE member SET status = 'disabled' WHERE identity_id = $1`, s.nurse)
	requireCode(t, tenantdb.CodeNotActive, begin(2))
	admin(`UPDATE member SET status = 'active' WHERE identity_id = $1`, s.nurse)
	require.NoError(t, begin(2))

	n, err = s.exec(s.ownerActor, tenantdb.KindMember, `UPDATE member_session SET revoked_at = now() WHERE session_id = $1`, session)
	require.NoError(t, err)
	require.EqualValues(t, 1, n, "an owner ends it")
	requireCode(t, tenantdb.CodeSessionOver, begin(2))
	_, err = s.exec(s.nurseActor, tenantdb.KindMember, `UPDATE member_session SET revoked_at = NULL`)
	requireCode(t, tenantdb.CodeSessionOver, err)
}

// TestIsolationCheckFindsDrift plants each drift as a superuser would, sees it
// found, and sees it gone when it is mended.
func TestIsolationCheckFindsDrift(t *testing.T) {
	ctx, b := context.Background(), setup(t)
	o := b.provisioned(t)
	s, r := tenants.SchemaName(o.id), tenants.RoleName(o.id)
	other := b.provisioned(t)
	for name, d := range map[string]struct{ plant, mend string }{
		"no row security":       {`ALTER TABLE ` + s + `.client DISABLE ROW LEVEL SECURITY`, `ALTER TABLE ` + s + `.client ENABLE ROW LEVEL SECURITY`},
		"not forced":            {`ALTER TABLE ` + s + `.member NO FORCE ROW LEVEL SECURITY`, `ALTER TABLE ` + s + `.member FORCE ROW LEVEL SECURITY`},
		"a policy for all":      {`CREATE POLICY x ON ` + s + `.client USING (true)`, `DROP POLICY x ON ` + s + `.client`},
		"a bare table":          {`CREATE TABLE ` + s + `.x (a int)`, `DROP TABLE ` + s + `.x`},
		"a view":                {`CREATE VIEW ` + s + `.x AS SELECT 1 AS a`, `DROP VIEW ` + s + `.x`},
		"a grant to everybody":  {`GRANT SELECT ON ` + s + `.client TO PUBLIC`, `REVOKE SELECT ON ` + s + `.client FROM PUBLIC`},
		"a grant to a neighbor": {`GRANT SELECT ON ` + s + `.client TO ` + tenants.RoleName(other.id), `REVOKE SELECT ON ` + s + `.client FROM ` + tenants.RoleName(other.id)},
		"TRUNCATE":              {`GRANT TRUNCATE ON ` + s + `.client TO ` + r, `REVOKE TRUNCATE ON ` + s + `.client FROM ` + r},
		"a whole-row update":    {`GRANT UPDATE ON ` + s + `.member TO ` + r, `REVOKE UPDATE ON ` + s + `.member FROM ` + r + `; GRANT UPDATE (name, role, status) ON ` + s + `.member TO ` + r},
		"a grant option":        {`GRANT SELECT ON ` + s + `.client TO ` + r + ` WITH GRANT OPTION`, `REVOKE GRANT OPTION FOR SELECT ON ` + s + `.client FROM ` + r},
		"CREATE on the schema":  {`GRANT CREATE ON SCHEMA ` + s + ` TO ` + r, `REVOKE CREATE ON SCHEMA ` + s + ` FROM ` + r},
		"usage for everybody":   {`GRANT USAGE ON SCHEMA ` + s + ` TO PUBLIC`, `REVOKE USAGE ON SCHEMA ` + s + ` FROM PUBLIC`},
		"the ledger is open":    {`GRANT SELECT ON ` + s + `.schema_version TO ` + r, `REVOKE SELECT ON ` + s + `.schema_version FROM ` + r},
		"another owner":         {`ALTER TABLE ` + s + `.client OWNER TO ` + r, `ALTER TABLE ` + s + `.client OWNER TO cell_owner`},
		"BYPASSRLS":             {`ALTER ROLE ` + r + ` BYPASSRLS`, `ALTER ROLE ` + r + ` NOBYPASSRLS`},
		"SUPERUSER":             {`ALTER ROLE ` + r + ` SUPERUSER`, `ALTER ROLE ` + r + ` NOSUPERUSER`},
		"CREATEROLE":            {`ALTER ROLE ` + r + ` CREATEROLE`, `ALTER ROLE ` + r + ` NOCREATEROLE`},
		"INHERIT":               {`ALTER ROLE ` + r + ` INHERIT`, `ALTER ROLE ` + r + ` NOINHERIT`},
		"a membership":          {`GRANT cell_worker TO ` + r, `REVOKE cell_worker FROM ` + r},
		"a member":              {`GRANT ` + r + ` TO cell_worker`, `REVOKE ` + r + ` FROM cell_worker`},
		"a right elsewhere":     {`GRANT SELECT ON cell.tenant_credential TO ` + r, `REVOKE SELECT ON cell.tenant_credential FROM ` + r},
		"a definer's function":  {`CREATE FUNCTION ` + s + `.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'; REVOKE ALL ON FUNCTION ` + s + `.f() FROM PUBLIC`, `DROP FUNCTION ` + s + `.f()`},
		"a public function":     {`CREATE FUNCTION ` + s + `.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; GRANT EXECUTE ON FUNCTION ` + s + `.f() TO PUBLIC`, `DROP FUNCTION ` + s + `.f()`},
	} {
		t.Run(name, func(t *testing.T) {
			check := func() []provisioning.Finding {
				found, err := provisioning.CheckIsolation(ctx, b.config.Cell, o.id)
				require.NoError(t, err)
				return found
			}
			_, err := b.cellAdmin.Exec(ctx, d.plant)
			require.NoError(t, err)
			require.NotEmpty(t, check())
			_, err = b.cellAdmin.Exec(ctx, d.mend)
			require.NoError(t, err)
			require.Empty(t, check())
		})
	}
}
