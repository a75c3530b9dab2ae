package testkit

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/caresphere/caresphere/internal/devstack"
	"github.com/caresphere/caresphere/internal/schema"
)

type postgresInfo struct {
	// SuperuserDSN is the bootstrap role's, with "postgres" as the database.
	SuperuserDSN string
	Port         int
	Passwords    map[string]string
	CA           string
	TenantCA     string
	TenantCAKey  string
}

// PG is the run's PostgreSQL cluster.
type PG struct{ info postgresInfo }

// Postgres returns the run's cluster: TLS, passwords by SCRAM for the platform's
// roles, certificates of the tenant CA for roles named t_<32 hex digits>.
func Postgres(t testing.TB) *PG {
	t.Helper()
	return &PG{info: ask[postgresInfo](t, "postgres", nil)}
}

// Port is the TLS port on 127.0.0.1.
func (p *PG) Port() int { return p.info.Port }

// CA is the file of the authority that the server's certificate comes from.
func (p *PG) CA() string { return p.info.CA }

// TenantCA returns the files of the authority for tenants' client certificates.
func (p *PG) TenantCA() (cert, key string) { return p.info.TenantCA, p.info.TenantCAKey }

// DSN returns the DSN of one of the cluster's roles for a database.
func (p *PG) DSN(database, role string) string {
	return devstack.PostgresDSN(p.info.Port, database, role, p.info.Passwords[role], p.info.CA)
}

// SuperuserDSN returns the bootstrap role's DSN, for planting faults.
func (p *PG) SuperuserDSN(database string) string {
	u, err := url.Parse(p.info.SuperuserDSN)
	if err != nil {
		panic(err) // our own text
	}
	u.Path = "/" + database
	return u.String()
}

// DB is a database of one test's own.
type DB struct {
	// Name is the database's name.
	Name string
	pg   *PG
}

// ControlDB returns a fresh, migrated control database. It goes with the test.
func ControlDB(t testing.TB) *DB { t.Helper(); return clone(t, "control") }

// CellDB returns a fresh, migrated cell database. It goes with the test.
func CellDB(t testing.TB) *DB { t.Helper(); return clone(t, "cell") }

// EmptyDB returns a fresh database without migrations, with the grants of a
// control database. It goes with the test.
func EmptyDB(t testing.TB) *DB { t.Helper(); return clone(t, "empty") }

// PG is the cluster that the database is in.
func (d *DB) PG() *PG { return d.pg }

// DSN returns the DSN of one of the cluster's roles.
func (d *DB) DSN(role string) string { return d.pg.DSN(d.Name, role) }

// Superuser returns the DSN of the bootstrap role: for planting faults and for
// looking, never for the code under test.
func (d *DB) Superuser(t testing.TB) string { t.Helper(); return d.pg.SuperuserDSN(d.Name) }

func clone(t testing.TB, kind string) *DB {
	t.Helper()
	return Postgres(t).clone(t, kind)
}

func (p *PG) clone(t testing.TB, kind string) *DB {
	t.Helper()
	server := p
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	kept, err := server.admin(ctx)
	if err != nil {
		t.Fatalf("connecting as the superuser: %v", err)
	}
	defer kept.Release()
	admin := kept.Conn()
	template, err := server.template(ctx, admin, kind)
	if err != nil {
		t.Fatalf("making the template of a %s database: %v", kind, err)
	}
	random := make([]byte, 6)
	_, _ = rand.Read(random)
	name := kind + "_" + hex.EncodeToString(random)
	// A clone has its template's contents, but neither its owner nor its grants. The
	// owner counts: without it platform_owner loses the schema public, and with it
	// every check of a foreign key, which runs as the table's owner.
	owner := ""
	if kind != "cell" {
		owner = " OWNER platform_owner"
	}
	if _, err := admin.Exec(ctx, "CREATE DATABASE "+name+owner+" TEMPLATE "+template+" STRATEGY wal_log"); err != nil {
		t.Fatalf("cloning %s: %v", template, err)
	}
	if err := grant(ctx, admin, name, kind); err != nil {
		t.Fatalf("granting %s: %v", name, err)
	}
	t.Cleanup(func() { server.drop(t, name) })
	return &DB{Name: name, pg: server}
}

// admins has a pool of each cluster's superuser for as long as the process lives: a server
// process for each database that is made or dropped would cost as much as making it.
var admins sync.Map

func (p *PG) admin(ctx context.Context) (*pgxpool.Conn, error) {
	dsn := p.SuperuserDSN("postgres")
	open, _ := admins.LoadOrStore(dsn, sync.OnceValues(func() (*pgxpool.Pool, error) {
		return pgxpool.New(context.Background(), dsn)
	}))
	pool, err := open.(func() (*pgxpool.Pool, error))()
	if err != nil {
		return nil, err
	}
	return pool.Acquire(ctx)
}

func (p *PG) drop(t testing.TB, name string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	admin, err := p.admin(ctx)
	if err != nil {
		t.Logf("connecting to drop %s: %v", name, err)
		return
	}
	defer admin.Release()
	if _, err := admin.Exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
		t.Logf("dropping %s: %v", name, err)
	}
}

// template makes the template database of a kind once for each state of the
// migrations. Other test processes wait.
func (p *PG) template(ctx context.Context, admin *pgx.Conn, kind string) (string, error) {
	hash, err := schema.Hash()
	if err != nil {
		return "", err
	}
	name := "template_" + kind + "_" + hash
	lock := fnv.New64a()
	_, _ = lock.Write([]byte(name))
	key := int64(lock.Sum64()) // any number does
	if _, err := admin.Exec(ctx, "SELECT pg_advisory_lock($1)", key); err != nil {
		return "", err
	}
	defer func() { _, _ = admin.Exec(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", key) }()
	var there bool
	if err := admin.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&there); err != nil || there {
		return name, err
	}
	half := name + "_half"
	if _, err := admin.Exec(ctx, "DROP DATABASE IF EXISTS "+half+" WITH (FORCE)"); err != nil {
		return "", err
	}
	prepare := devstack.PrepareControlDatabase
	migrate := func(ctx context.Context) (int, error) { return schema.Control(ctx, p.DSN(half, "platform_owner")) }
	switch kind {
	case "cell":
		prepare = devstack.PrepareCellDatabase
		migrate = func(ctx context.Context) (int, error) { return schema.Cell(ctx, p.DSN(half, "cell_owner")) }
	case "empty":
		migrate = func(context.Context) (int, error) { return 0, nil }
	}
	if err := prepare(ctx, p.SuperuserDSN, half); err != nil {
		return "", err
	}
	if _, err := migrate(ctx); err != nil {
		return "", err
	}
	_, err = admin.Exec(ctx, "ALTER DATABASE "+half+" RENAME TO "+name)
	return name, err
}

func grant(ctx context.Context, admin *pgx.Conn, name, kind string) error {
	if kind == "cell" {
		return devstack.GrantCellDatabase(ctx, admin, name)
	}
	return devstack.GrantControlDatabase(ctx, admin, name)
}

func (h *Host) startPostgres(ctx context.Context) (any, error) {
	c, err := h.cluster(ctx)
	if err != nil {
		return nil, err
	}
	return h.infoOf(c), nil
}

func (h *Host) infoOf(c *devstack.Cluster) postgresInfo {
	return postgresInfo{
		SuperuserDSN: c.Superuser("postgres"), Port: c.Port(), Passwords: c.Passwords(),
		CA: h.ca.CertPath(), TenantCA: h.tenantCA.CertPath(), TenantCAKey: h.tenantCA.KeyPath(),
	}
}

func (h *Host) cluster(ctx context.Context) (*devstack.Cluster, error) {
	v, err := h.once("cluster", func(context.Context) (any, error) {
		cfg, err := h.clusterConfig(ctx, "postgres")
		if err != nil {
			return nil, err
		}
		cfg.Volatile = true
		c, err := devstack.StartPostgres(ctx, cfg)
		if err != nil {
			return nil, err
		}
		h.onClose(c.Process().Stop)
		return c, removeAtEnd(c.Home())
	})
	if err != nil {
		return nil, fmt.Errorf("starting PostgreSQL: %w", err)
	}
	return v.(*devstack.Cluster), nil
}

// clusterConfig is a cluster in a folder of that name, with a port and passwords
// of its own.
func (h *Host) clusterConfig(ctx context.Context, name string) (devstack.PostgresConfig, error) {
	bin, err := devstack.EnsurePostgres(ctx, h.builder.Cache, h.builder.Progress)
	if err != nil {
		return devstack.PostgresConfig{}, err
	}
	ports, err := h.ports(1)
	if err != nil {
		return devstack.PostgresConfig{}, err
	}
	passwords := map[string]string{}
	for _, role := range devstack.ClusterRoles() {
		passwords[role] = strings.ToLower(rand.Text())
	}
	return devstack.PostgresConfig{
		Bin: bin, Dir: filepath.Join(h.dir, name), Port: ports[0],
		Server: h.server, CA: h.ca.CertPath(), TenantCA: h.tenantCA.CertPath(),
		Passwords: passwords, Log: h.log(name), AnyDatabase: true,
	}, nil
}
