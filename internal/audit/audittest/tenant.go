package audittest

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/migrations"
	"github.com/caresphere/caresphere/tenants"
)

type tag = pgconn.CommandTag

// Control makes a fresh control database and returns its name.
func Control(t testing.TB) string { return database(t, "control_template") }

// Cell makes a fresh cell database without tenants and returns its name.
func Cell(t testing.TB) string { return database(t, "cell_template") }

// Tenant is one provisioned schema with its login role.
type Tenant struct {
	ID       tenants.ID
	Database string
	// Role is also the schema's name.
	Role string
	key  []byte
}

// NewTenant provisions a tenant in the cell database: role, schema, migrations
// and context key, as far as the trail needs them.
func NewTenant(t testing.TB, cell string) *Tenant {
	t.Helper()
	id := tenants.NewID()
	ten := &Tenant{ID: id, Database: cell, Role: "t_" + id.Hex(), key: []byte("context key of " + id.String())}
	owner := Connect(t, "cell_owner", cell)
	Exec(t, owner, "CREATE ROLE "+ten.Role+" LOGIN NOINHERIT")
	Exec(t, owner, "CREATE SCHEMA "+ten.Role)
	Exec(t, owner, "GRANT USAGE ON SCHEMA "+ten.Role+" TO "+ten.Role)
	t.Cleanup(func() {
		c, err := pgx.Connect(context.Background(), DSN("super", cell))
		if err == nil {
			_, _ = c.Exec(context.Background(), "DROP OWNED BY "+ten.Role+"; DROP ROLE "+ten.Role)
			_ = c.Close(context.Background())
		}
	})
	if _, err := pg.Migrate(context.Background(), DSN("cell_owner", cell), migrations.Tenant, "tenant", pg.MigrateOptions{
		Schema: ten.Role, Settings: map[string]string{"caresphere.tenant_role": ten.Role}}); err != nil {
		t.Fatal(err)
	}
	inner, outer := make([]byte, 64), make([]byte, 64)
	copy(inner, ten.key)
	copy(outer, ten.key)
	for i := range inner {
		inner[i] ^= 0x36
		outer[i] ^= 0x5c
	}
	Exec(t, owner, "INSERT INTO cell.context_key (role_name, inner_block, outer_block) VALUES ($1, $2, $3)", ten.Role, inner, outer)
	return ten
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
	facilities := make([]string, len(a.Facilities))
	for i, f := range a.Facilities {
		facilities[i] = f.String()
	}
	text := func(id tenants.ID) string {
		if id.IsZero() {
			return ""
		}
		return id.String()
	}
	body := fmt.Sprintf("v1|%s|%d|%d|%s|%s|%s|%s|%s", n.Role, c.PgConn().PID(), time.Now().Add(time.Minute).UnixMilli(),
		a.Kind, text(a.ID), a.Role, text(a.SessionID), strings.Join(facilities, ","))
	mac := hmac.New(sha256.New, n.key)
	mac.Write([]byte(body))
	return body + "|" + hex.EncodeToString(mac.Sum(nil))
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
