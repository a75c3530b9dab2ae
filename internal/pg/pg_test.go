package pg_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/tenants"
)

func TestIDsGoBothWays(t *testing.T) {
	ctx := context.Background()
	db := testkit.EmptyDB(t)
	pool, err := pg.Open(ctx, db.DSN("provisioner"), pg.Options{})
	require.NoError(t, err)
	defer pool.Close()
	id, other := tenants.NewID(), tenants.NewID()

	for name, mode := range map[string]pgx.QueryExecMode{
		"prepared": pgx.QueryExecModeCacheStatement, "described": pgx.QueryExecModeDescribeExec, "text": pgx.QueryExecModeSimpleProtocol,
	} {
		t.Run(name, func(t *testing.T) {
			var (
				back  tenants.ID
				list  []tenants.ID
				none  *tenants.ID
				some  *tenants.ID
				empty []tenants.ID
			)
			require.NoError(t, pool.QueryRow(ctx, `SELECT $1::uuid, $2::uuid[], NULL::uuid, $1::uuid, $3::uuid[]`, mode,
				id, []tenants.ID{id, other}, []tenants.ID{}).Scan(&back, &list, &none, &some, &empty))
			require.Equal(t, id, back)
			require.Equal(t, []tenants.ID{id, other}, list)
			require.Nil(t, none)
			require.Equal(t, id, *some)
			require.Empty(t, empty)
			var null *string
			require.NoError(t, pool.QueryRow(ctx, `SELECT $1::uuid::text`, mode, (*tenants.ID)(nil)).Scan(&null))
			require.Nil(t, null)
			var spelled string
			require.NoError(t, pool.QueryRow(ctx, `SELECT $1::uuid::text`, mode, &id).Scan(&spelled))
			require.Equal(t, id.String(), spelled)
		})
	}
	rows, err := pool.Query(ctx, `SELECT $1::uuid`, id)
	require.NoError(t, err)
	values, err := pgx.CollectExactlyOneRow(rows, pgx.RowToMap)
	require.NoError(t, err)
	require.Equal(t, id, values["uuid"])
	var back tenants.ID
	require.ErrorContains(t, pool.QueryRow(ctx, `SELECT NULL::uuid`).Scan(&back), "null")
}

func TestOnlyVerifiedTLS(t *testing.T) {
	ctx := context.Background()
	db := testkit.EmptyDB(t)
	good := db.DSN("provisioner")
	require.Contains(t, good, "sslmode=verify-full")
	for _, mode := range []string{"disable", "allow", "prefer", "require", "verify-ca"} {
		_, err := pg.Open(ctx, strings.Replace(good, "sslmode=verify-full", "sslmode="+mode, 1), pg.Options{})
		require.ErrorIs(t, err, pg.ErrInsecure, mode)
	}
	_, err := pg.Connect(ctx, strings.Replace(good, "sslmode=verify-full", "sslmode=prefer", 1), pg.Options{})
	require.ErrorIs(t, err, pg.ErrInsecure)
	_, err = pg.Open(ctx, "postgres://u:secret@%zz", pg.Options{})
	require.Error(t, err)
	require.NotContains(t, err.Error(), "secret")

	conn, err := pg.Connect(ctx, good, pg.Options{ApplicationName: "here"})
	require.NoError(t, err)
	defer func() { _ = conn.Close(ctx) }()
	var tls bool
	var app string
	require.NoError(t, conn.QueryRow(ctx, `SELECT ssl, current_setting('application_name') FROM pg_stat_ssl WHERE pid = pg_backend_pid()`).Scan(&tls, &app))
	require.True(t, tls)
	require.Equal(t, "here", app)

	// A server whose certificate another authority signed is not believed.
	ca := testkit.Other(t).Path()
	i := strings.Index(good, "sslrootcert=")
	j := strings.IndexByte(good[i:]+"&", '&')
	_, err = pg.Connect(ctx, good[:i]+"sslrootcert="+ca+good[i+j:], pg.Options{})
	require.ErrorContains(t, err, "certificate")
}

func TestStatementsEnd(t *testing.T) {
	ctx := context.Background()
	db := testkit.EmptyDB(t)
	conn, err := pg.Connect(ctx, db.DSN("provisioner"), pg.Options{StatementTimeout: 100 * time.Millisecond,
		SearchPath: "pg_catalog", Params: map[string]string{"caresphere.tenant_role": "t_x"}})
	require.NoError(t, err)
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, `SELECT pg_sleep(10)`)
	require.True(t, pg.IsCode(err, "57014"), "%v", err)
	var path, role string
	require.NoError(t, conn.QueryRow(ctx, `SELECT current_setting('search_path'), current_setting('caresphere.tenant_role')`).Scan(&path, &role))
	require.Equal(t, "pg_catalog", path)
	require.Equal(t, "t_x", role)
}

func TestATransactionIsWholeOrNot(t *testing.T) {
	ctx := context.Background()
	db := testkit.ControlDB(t)
	pool, err := pg.Open(ctx, db.DSN("provisioner"), pg.Options{MaxConns: 1})
	require.NoError(t, err)
	defer pool.Close()
	add := func(id string, after func() error) error {
		return pg.InTx(ctx, pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `INSERT INTO cell (id) VALUES ($1)`, id); err != nil {
				return err
			}
			return after()
		})
	}
	there := func(id string) (n int) {
		require.NoError(t, pool.QueryRow(ctx, `SELECT count(*) FROM cell WHERE id = $1`, id).Scan(&n))
		return n
	}
	require.NoError(t, add("a", func() error { return nil }))
	require.Equal(t, 1, there("a"))
	mine := errors.New("mine")
	require.ErrorIs(t, add("b", func() error { return mine }), mine)
	require.Equal(t, 0, there("b"))
	require.Panics(t, func() { _ = add("c", func() error { panic("x") }) })
	require.Equal(t, 0, there("c"), "the one connection of the pool is free again")

	err = add("a", func() error { return nil })
	require.True(t, pg.IsUnique(err, "cell_pk"))
	require.True(t, pg.IsUnique(err, ""))
	require.False(t, pg.IsUnique(err, "other"))
	require.False(t, pg.IsUnique(mine, ""))

	over, cancel := context.WithCancel(ctx)
	err = pg.InTx(over, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(over, `INSERT INTO cell (id) VALUES ('d')`); err != nil {
			return err
		}
		cancel()
		return nil
	})
	require.Error(t, err, "a commit that was not acknowledged is not a success")
	require.Equal(t, 0, there("d"))
}

func TestMigrationsGoWhereTheyShouldOnce(t *testing.T) {
	ctx := context.Background()
	db := testkit.EmptyDB(t)
	owner := db.DSN("platform_owner")
	set := fstest.MapFS{
		"set/0001_a.sql": {Data: []byte("-- +goose Up\nCREATE TABLE a (who text DEFAULT current_setting('caresphere.tenant_role'));")},
		"set/readme.sql": {Data: []byte("not a migration")},
	}
	conn, err := pg.Connect(ctx, owner, pg.Options{})
	require.NoError(t, err)
	defer func() { _ = conn.Close(ctx) }()
	for _, schema := range []string{"one", "two"} {
		_, err = conn.Exec(ctx, "CREATE SCHEMA "+schema)
		require.NoError(t, err)
		o := pg.MigrateOptions{Schema: schema, Settings: map[string]string{"caresphere.tenant_role": schema}}
		n, err := pg.Migrate(ctx, owner, set, "set", o)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		n, err = pg.Migrate(ctx, owner, set, "set", o)
		require.NoError(t, err)
		require.Zero(t, n)
		var version int
		require.NoError(t, conn.QueryRow(ctx, "SELECT max(version_id) FROM "+schema+".schema_version").Scan(&version))
		require.Equal(t, 1, version)
	}
	latest, err := pg.LatestVersion(set, "set")
	require.NoError(t, err)
	require.EqualValues(t, 1, latest)

	// A migration that fails leaves nothing of itself.
	set["set/0002_b.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\nCREATE TABLE b ();\nSELECT 1 / 0;")}
	_, err = pg.Migrate(ctx, owner, set, "set", pg.MigrateOptions{Schema: "one", Settings: map[string]string{"caresphere.tenant_role": "x"}})
	require.True(t, pg.IsCode(err, "22012"), "%v", err)
	var there bool
	require.NoError(t, conn.QueryRow(ctx, `SELECT to_regclass('one.b') IS NOT NULL`).Scan(&there))
	require.False(t, there)
}

// TestAMigratorKeepsSchemasApart migrates schemas over one connection: what the
// first set is gone for the second, and nothing else may use the connection.
func TestAMigratorKeepsSchemasApart(t *testing.T) {
	ctx := context.Background()
	db := testkit.EmptyDB(t)
	set := fstest.MapFS{"set/0001_a.sql": {Data: []byte("-- +goose Up\nCREATE TABLE a AS SELECT pg_backend_pid() AS pid, current_setting('caresphere.tenant_role', true) AS who, current_setting('lock_timeout') AS patience;")}}
	conn, err := pg.Connect(ctx, db.DSN("platform_owner"), pg.Options{})
	require.NoError(t, err)
	defer func() { _ = conn.Close(ctx) }()
	m, err := pg.OpenMigrator(ctx, db.DSN("platform_owner"), 1)
	require.NoError(t, err)
	defer m.Close()
	type row struct {
		PID           int
		Who, Patience string
	}
	seen := map[string]row{}
	for schema, o := range map[string]pg.MigrateOptions{
		"first":  {Settings: map[string]string{"caresphere.tenant_role": "first"}, LockTimeout: 500 * time.Millisecond},
		"second": {Settings: map[string]string{"caresphere.tenant_role": "second"}},
		"third":  {},
	} {
		_, err = conn.Exec(ctx, "CREATE SCHEMA "+schema)
		require.NoError(t, err)
		o.Schema = schema
		n, err := m.Migrate(ctx, set, "set", o)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		var r row
		require.NoError(t, conn.QueryRow(ctx, "SELECT pid, coalesce(who, ''), patience FROM "+schema+".a").Scan(&r.PID, &r.Who, &r.Patience))
		seen[schema] = r
	}
	pid := seen["first"].PID
	require.Equal(t, map[string]row{"first": {pid, "first", "500ms"}, "second": {pid, "second", "5s"}, "third": {pid, "", "5s"}}, seen)
	require.NoError(t, m.InTx(ctx, func(tx pgx.Tx) error {
		var who, path string
		require.NoError(t, tx.QueryRow(ctx, `SELECT coalesce(current_setting('caresphere.tenant_role', true), ''), current_setting('search_path')`).Scan(&who, &path))
		require.Empty(t, who)
		require.Equal(t, "public", path)
		return nil
	}))
	require.ErrorContains(t, m.Stray(ctx), "for migrations only")
	_, err = m.Migrate(ctx, set, "set", pg.MigrateOptions{Schema: "first"})
	require.NoError(t, err, "its connection is still good")
}

// TestAPoolRefusesWhoeverIsNotPrepared: a connection that OnAcquire refuses is not handed out.
func TestAPoolRefusesWhoeverIsNotPrepared(t *testing.T) {
	ctx := context.Background()
	refuse := errors.New("not prepared")
	var ready bool
	pool, err := pg.Open(ctx, testkit.EmptyDB(t).DSN("platform_owner"), pg.Options{OnAcquire: func(context.Context, *pgx.Conn) error {
		if ready {
			return nil
		}
		return refuse
	}})
	require.NoError(t, err)
	defer pool.Close()
	_, err = pool.Exec(ctx, "SELECT 1")
	require.ErrorIs(t, err, refuse)
	ready = true
	_, err = pool.Exec(ctx, "SELECT 1")
	require.NoError(t, err)
}

// TestAConnectionThatSawManySchemasIsClosed counts uses and what Saw adds to them.
func TestAConnectionThatSawManySchemasIsClosed(t *testing.T) {
	ctx := context.Background()
	dsn := testkit.EmptyDB(t).DSN("platform_owner")
	pids := func(o pg.Options) (all map[int]bool) {
		o.MaxConns = 1
		pool, err := pg.Open(ctx, dsn, o)
		require.NoError(t, err)
		defer pool.Close()
		all = map[int]bool{}
		for range 10 {
			require.NoError(t, pool.AcquireFunc(ctx, func(c *pgxpool.Conn) error {
				pg.Saw(c.Conn(), 1)
				var pid int
				defer func() { all[pid] = true }()
				return c.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&pid)
			}))
		}
		return all
	}
	require.Len(t, pids(pg.Options{}), 1)
	require.Len(t, pids(pg.Options{MaxSchemas: 4}), 5, "each use saw two")
}
