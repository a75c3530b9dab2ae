// Package audittest gives the tests of the audit trail a control database and
// cells with tenants, and logins that act as the application does. It owns test
// fixtures only, and is linked into tests only.
package audittest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/testkit"
)

// Super is the name under which Connect logs in as the superuser: to plant
// faults and to look, never for the code under test.
const Super = "super"

// Control makes a fresh control database and returns its name.
func Control(t testing.TB) string { t.Helper(); return testkit.ControlDB(t).Name }

// Cell makes a fresh cell database without tenants and returns its name.
func Cell(t testing.TB) string { t.Helper(); return testkit.CellDB(t).Name }

// dsn is the connection string and options with which the role logs in: the
// superuser over the server's socket, a tenant's role by its certificate, the
// platform's roles by password.
func dsn(t testing.TB, role, database string) (string, pg.Options) {
	t.Helper()
	server := testkit.Postgres(t)
	o := pg.Options{StatementTimeout: time.Minute, MaxConns: 16}
	switch {
	case role == Super:
		return server.SuperuserDSN(database), o
	case strings.HasPrefix(role, "t_"):
		cert := certificate(t, role)
		o.User, o.Certificate = role, &cert
		return server.DSN(database, "cell_worker"), o
	}
	return server.DSN(database, role), o
}

// Connect opens a connection as the role, closed at the test's end.
func Connect(t testing.TB, role, database string) *pgx.Conn {
	t.Helper()
	s, o := dsn(t, role, database)
	c, err := pg.Connect(context.Background(), s, o)
	if err != nil {
		t.Fatalf("connecting as %s: %v", role, err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

// Pool opens a pool as the role, closed at the test's end.
func Pool(t testing.TB, role, database string) *pgxpool.Pool {
	t.Helper()
	s, o := dsn(t, role, database)
	p, err := pg.Open(context.Background(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// Exec runs SQL and fails the test on an error.
func Exec(t testing.TB, c interface {
	Exec(context.Context, string, ...any) (pgconn.CommandTag, error)
}, sql string, args ...any) {
	t.Helper()
	if _, err := c.Exec(context.Background(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}
