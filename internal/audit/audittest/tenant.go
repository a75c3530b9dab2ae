package audittest

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/migrations"
	"github.com/caresphere/caresphere/tenants"
)

// Tenant is one provisioned schema with its login role.
type Tenant struct {
	ID       tenants.ID
	Database string
	// Role is also the schema's name.
	Role string
	key  tenantdb.ContextKey
}

// NewTenant provisions a tenant in the cell database: role, schema, migrations
// and context key, as far as the trail needs them.
func NewTenant(t testing.TB, cell string) *Tenant {
	t.Helper()
	id := tenants.NewID()
	n := &Tenant{ID: id, Database: cell, Role: tenants.RoleName(id), key: tenantdb.NewContextKey()}
	owner := Connect(t, "cell_owner", cell)
	Exec(t, owner, "CREATE ROLE "+n.Role+" LOGIN NOINHERIT")
	Exec(t, owner, "GRANT CONNECT ON DATABASE "+cell+" TO "+n.Role)
	Exec(t, owner, "CREATE SCHEMA "+n.Role)
	super := Connect(t, Super, cell)
	t.Cleanup(func() {
		// Roles are the cluster's: they outlive the database unless taken out first.
		// A grant on the database is taken back by whoever gave it.
		if _, err := owner.Exec(context.Background(), "REVOKE CONNECT ON DATABASE "+cell+" FROM "+n.Role); err != nil {
			t.Logf("taking back a grant: %v", err)
		}
		for _, sql := range []string{"DROP SCHEMA " + n.Role + " CASCADE", "DROP OWNED BY " + n.Role, "DROP ROLE " + n.Role} {
			if _, err := super.Exec(context.Background(), sql); err != nil {
				t.Logf("%s: %v", sql, err)
			}
		}
	})
	if _, err := pg.Migrate(context.Background(), testkit.Postgres(t).DSN(cell, "cell_owner"), migrations.Tenant, "tenant", pg.MigrateOptions{
		Schema: n.Role, Settings: map[string]string{"caresphere.tenant_role": n.Role}}); err != nil {
		t.Fatal(err)
	}
	inner, outer := n.key.Blocks()
	Exec(t, owner, "INSERT INTO cell.context_key (role_name, inner_block, outer_block) VALUES ($1, $2, $3)", n.Role, inner, outer)
	return n
}

// certificate issues the client certificate of a tenant's role.
func certificate(t testing.TB, role string) tls.Certificate {
	t.Helper()
	var id tenants.ID
	if _, err := hex.Decode(id[:], []byte(strings.TrimPrefix(role, "t_"))); err != nil {
		t.Fatal(err)
	}
	certFile, keyFile := testkit.Postgres(t).TenantCA()
	certPEM, err := os.ReadFile(certFile)
	if err != nil {
		t.Fatal(err)
	}
	keyPEM, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := tenantdb.LoadCA(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue(id, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// Log is the tenant's log.
func (n *Tenant) Log() audit.Log { return audit.TenantLog(n.ID, n.Role) }

// Connect logs in as the tenant's role with its schema as search_path.
func (n *Tenant) Connect(t testing.TB) *pgx.Conn {
	t.Helper()
	c := Connect(t, n.Role, n.Database)
	Exec(t, c, "SET search_path = "+n.Role)
	return c
}

// Member is an actor of the tenant with the role.
func (n *Tenant) Member(role tenants.Role) tenants.Actor {
	return tenants.Actor{Kind: tenants.ActorMember, ID: tenants.NewID(), TenantID: n.ID, Role: role, SessionID: tenants.NewID(),
		IP: "192.0.2.7", Device: "test browser", RequestID: tenants.NewID().String()}
}

// Context signs a request context for the connection, as a worker does.
func (n *Tenant) Context(c *pgx.Conn, a tenants.Actor) string {
	return tenantdb.Mint(n.key, c.PgConn().PID(), tenantdb.Kind(a.Kind), a, time.Now().Add(time.Minute))
}

// ReadContext is Context for a read that the entry of this id will tell of.
func (n *Tenant) ReadContext(c *pgx.Conn, a tenants.Actor, entry tenants.ID) string {
	return tenantdb.MintRead(n.key, c.PgConn().PID(), a, entry, time.Now().Add(time.Minute))
}

// WriteGroup writes entries of the actor's as a worker writes those of many reads.
func (n *Tenant) WriteGroup(ctx context.Context, c *pgx.Conn, a tenants.Actor, events ...audit.Event) error {
	var entries [][]byte
	for _, ev := range events {
		e, err := audit.GroupEntry(a, ev)
		if err != nil {
			return err
		}
		entries = append(entries, e)
	}
	list := audit.Entries(entries)
	var written int
	return c.QueryRow(ctx, audit.GroupSQL, tenantdb.MintEntries(n.key, c.PgConn().PID(), n.ID, list, time.Now().Add(time.Minute)), list).Scan(&written)
}

// InTx runs fn in a transaction with the actor's context and commits it.
func (n *Tenant) InTx(ctx context.Context, c *pgx.Conn, a tenants.Actor, fn func(pgx.Tx) error) error {
	return pg.InTx(ctx, c, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT set_config('caresphere.context', $1, true)", n.Context(c, a)); err != nil {
			return err
		}
		return fn(tx)
	})
}

// Record writes one entry as the actor and fails the test on an error.
func (n *Tenant) Record(t testing.TB, c *pgx.Conn, a tenants.Actor, ev audit.Event) {
	t.Helper()
	ctx := context.Background()
	if err := n.InTx(ctx, c, a, func(tx pgx.Tx) error { return audit.Insert(ctx, tx, a, ev) }); err != nil {
		t.Fatal(err)
	}
}

// Reader reads the trail as an actor of the tenant; it is an export.Reader.
type Reader struct {
	Tenant *Tenant
	Conn   *pgx.Conn
	Actor  tenants.Actor
}

// Read implements export.Reader.
func (r Reader) Read(ctx context.Context, fn func(pgx.Tx) error) error {
	return r.Tenant.InTx(ctx, r.Conn, r.Actor, fn)
}

// Reader returns a reader as the tenant's auditor.
func (n *Tenant) Reader(t testing.TB) Reader {
	return Reader{Tenant: n, Conn: n.Connect(t), Actor: n.Member(tenants.RoleAuditor)}
}
