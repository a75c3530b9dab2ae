// Package audittest gives the tests of the audit trail a real PostgreSQL with the
// roles and migrations of a cell and of the control database, and logins that
// act as the application does. It is linked into tests only.
package audittest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/migrations"
)

var (
	dir    string
	number atomic.Int64
)

// Run starts one server for the package's tests, runs them, stops it and exits.
func Run(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "audittest:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	bin, err := findPostgres()
	if err != nil {
		return 1, err
	}
	if dir, err = os.MkdirTemp("", "audit"); err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	as, err := serverUser(dir)
	if err != nil {
		return 1, err
	}
	data := filepath.Join(dir, "data")
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", "super", "-A", "trust", "-E", "UTF8", "--no-locale", "-N")
	initdb.SysProcAttr = as
	initdb.Dir = dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("initdb: %w: %s", err, out)
	}
	// Without fsync a crash of the machine loses data: the tests lose nothing else.
	server := exec.Command(filepath.Join(bin, "postgres"), "-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "fsync=off",
		"-c", "max_connections=200", "-c", "max_wal_size=4GB")
	server.SysProcAttr = as
	server.Dir = dir
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return 1, err
	}
	defer log.Close()
	server.Stderr = log
	if err := server.Start(); err != nil {
		return 1, err
	}
	defer func() {
		_ = server.Process.Signal(syscall.SIGINT)
		_ = server.Wait()
	}()
	if err := bootstrap(); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// findPostgres looks on the PATH and where Debian puts the server.
func findPostgres() (string, error) {
	if p, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(p), nil
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return "", errors.New("no PostgreSQL server found; install postgresql-15")
	}
	return filepath.Dir(found[len(found)-1]), nil
}

// serverUser returns the attributes to run the server with: it refuses root.
func serverUser(dir string) (*syscall.SysProcAttr, error) {
	attr := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		return attr, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return nil, err
		}
	}
	uid, _ := strconv.ParseUint(u.Uid, 10, 32)
	gid, _ := strconv.ParseUint(u.Gid, 10, 32)
	attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return attr, os.Chown(dir, int(uid), int(gid))
}

// DSN returns the connection string of a role to a database, over the unix socket.
func DSN(role, database string) string {
	return fmt.Sprintf("host=%s user=%s dbname=%s sslmode=disable", dir, role, database)
}

const rolesSQL = `
CREATE ROLE platform_owner LOGIN;
CREATE ROLE controlplane LOGIN NOINHERIT;
CREATE ROLE provisioner LOGIN NOINHERIT;
CREATE ROLE cell_owner LOGIN CREATEROLE;
CREATE ROLE cell_worker LOGIN NOINHERIT;
CREATE ROLE cell_sealer LOGIN NOINHERIT BYPASSRLS;`

// bootstrap waits for the server, then makes roles and the template databases.
func bootstrap() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var super *pgx.Conn
	for {
		var err error
		if super, err = pgx.Connect(ctx, DSN("super", "postgres")); err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for PostgreSQL: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
	defer super.Close(ctx)
	for _, sql := range []string{rolesSQL,
		"CREATE DATABASE control_template OWNER platform_owner",
		"CREATE DATABASE cell_template",
		"GRANT CREATE ON DATABASE cell_template TO cell_owner"} {
		if _, err := super.Exec(ctx, sql); err != nil {
			return fmt.Errorf("bootstrap: %w", err)
		}
	}
	if err := grantPublic(ctx); err != nil {
		return err
	}
	if _, err := pg.Migrate(ctx, DSN("platform_owner", "control_template"), migrations.Control, "control", pg.MigrateOptions{}); err != nil {
		return err
	}
	_, err := pg.Migrate(ctx, DSN("cell_owner", "cell_template"), migrations.Cell, "cell", pg.MigrateOptions{})
	return err
}

// grantPublic lets cell_owner keep the cell set's version table in public.
func grantPublic(ctx context.Context) error {
	c, err := pgx.Connect(ctx, DSN("super", "cell_template"))
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	_, err = c.Exec(ctx, "GRANT CREATE ON SCHEMA public TO cell_owner")
	return err
}

// database makes a fresh database from a template, dropped at the test's end.
func database(t testing.TB, template string) string {
	t.Helper()
	name := fmt.Sprintf("%s_%d", template, number.Add(1))
	super := Connect(t, "super", "postgres")
	Exec(t, super, "CREATE DATABASE "+name+" TEMPLATE "+template)
	// A clone has its template's contents, but not its grants.
	Exec(t, super, "GRANT CREATE ON DATABASE "+name+" TO cell_owner")
	t.Cleanup(func() {
		c, err := pgx.Connect(context.Background(), DSN("super", "postgres"))
		if err == nil {
			_, _ = c.Exec(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)")
			_ = c.Close(context.Background())
		}
	})
	return name
}

// Connect opens a connection as the role, closed at the test's end.
func Connect(t testing.TB, role, database string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(context.Background(), DSN(role, database))
	if err != nil {
		t.Fatalf("connecting as %s: %v", role, err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

// Pool opens a pool as the role, closed at the test's end.
func Pool(t testing.TB, role, database string) *pgxpool.Pool {
	t.Helper()
	p, err := pg.Open(context.Background(), DSN(role, database), pg.Options{StatementTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// Exec runs SQL and fails the test on an error.
func Exec(t testing.TB, c interface {
	Exec(context.Context, string, ...any) (tag, error)
}, sql string, args ...any) {
	t.Helper()
	if _, err := c.Exec(context.Background(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}
