package dptest

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/internal/identity"
	"github.com/caresphere/caresphere/internal/kms/driver"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/migrations"
	"github.com/caresphere/caresphere/tenants"
)

// Tenant is a provisioned organization with two facilities and an owner.
type Tenant struct {
	ID         tenants.ID
	Slug, Role string
	// North and South are its facilities.
	North, South tenants.ID
	Owner        *Person

	cell *Cell
	key  tenantdb.ContextKey
}

// Tenant provisions an organization: key, role, schema by the real migrations,
// sealed credential, route.
func (c *Cell) Tenant(t testing.TB, slug string, setting tenants.CareSetting) *Tenant {
	t.Helper()
	ctx := context.Background()
	n := &Tenant{ID: tenants.NewID(), Slug: slug, North: tenants.NewID(), South: tenants.NewID(), cell: c, key: tenantdb.NewContextKey()}
	n.Role = tenants.RoleName(n.ID)
	if err := c.KMS.Ensure(ctx, driver.KeyName(n.ID)); err != nil {
		t.Fatal(err)
	}
	n.makeSchema(ctx, t)
	n.makeCredential(ctx, t)
	c.Exec(t, "INSERT INTO "+n.Role+".tenant_setting (tenant_id, slug, legal_name, care_setting) VALUES ($1, $2, $3, $4)", n.ID, slug, slug+" LLC", string(setting))
	c.Exec(t, "INSERT INTO "+n.Role+".facility (id, name) VALUES ($1, 'North'), ($2, 'South')", n.North, n.South)
	n.Owner = n.Person(t, tenants.RoleOwner)
	n.Open(tenants.GateOpen)
	return n
}

func (n *Tenant) makeSchema(ctx context.Context, t testing.TB) {
	t.Helper()
	owner := n.cell.owner
	for _, sql := range []string{
		"CREATE ROLE " + n.Role + " LOGIN NOINHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS CONNECTION LIMIT 24",
		"GRANT CONNECT ON DATABASE " + n.cell.DB.Name + " TO " + n.Role,
		"CREATE SCHEMA " + n.Role,
	} {
		if _, err := owner.Exec(ctx, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	t.Cleanup(func() {
		// Roles are the cluster's: they outlive the database unless taken out first,
		// and only who granted CONNECT takes it back.
		if _, err := owner.Exec(ctx, "REVOKE CONNECT ON DATABASE "+n.cell.DB.Name+" FROM "+n.Role); err != nil {
			t.Logf("taking CONNECT back: %v", err)
		}
		for _, sql := range []string{"DROP SCHEMA " + n.Role + " CASCADE", "DROP OWNED BY " + n.Role, "DROP ROLE " + n.Role} {
			if _, err := n.cell.Super.Exec(ctx, sql); err != nil {
				t.Logf("%s: %v", sql, err)
			}
		}
	})
	_, err := pg.Migrate(ctx, n.cell.DB.DSN("cell_owner"), migrations.Tenant, "tenant", pg.MigrateOptions{
		Schema: n.Role, Settings: map[string]string{"caresphere.tenant_role": n.Role}})
	if err != nil {
		t.Fatal(err)
	}
}

func (n *Tenant) makeCredential(ctx context.Context, t testing.TB) {
	t.Helper()
	cert, err := n.cell.authority.Issue(n.ID, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	row, err := tenantdb.SealCredential(ctx, n.cell.KMS, n.ID, cert, n.key)
	if err != nil {
		t.Fatal(err)
	}
	inner, outer := n.key.Blocks()
	n.cell.Exec(t, "INSERT INTO cell.context_key (role_name, inner_block, outer_block) VALUES ($1, $2, $3)", n.Role, inner, outer)
	n.cell.Exec(t, `INSERT INTO cell.tenant_credential (tenant_id, role_name, key_name, certificate, wrapped_key, data_key_id, sealed, not_after)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`, row.TenantID, row.RoleName, row.KeyName, row.Certificate, row.WrappedKey, row.DataKeyID, row.Sealed, row.NotAfter)
}

// Open publishes the tenant's route in a mode.
func (n *Tenant) Open(mode tenants.GateMode) {
	n.cell.Routes.Set(tenants.Route{Slug: n.Slug, TenantID: n.ID, CellID: CellID, Epoch: Epoch, Mode: mode, NotAfter: time.Now().Add(time.Hour)})
}

// Person makes an active member with the role, assigned to the facilities, signed
// in with a second factor.
func (n *Tenant) Person(t testing.TB, role tenants.Role, facilities ...tenants.ID) *Person {
	t.Helper()
	p := &Person{ID: tenants.NewID(), SessionID: tenants.NewID(), Token: tenants.NewID().String(), Tenant: n}
	email := p.ID.String() + "@example.com"
	n.cell.Exec(t, "INSERT INTO "+n.Role+".member (identity_id, email, name, role) VALUES ($1, $2, $3, $4)", p.ID, email, string(role), string(role))
	for _, f := range facilities {
		n.cell.Exec(t, "INSERT INTO "+n.Role+".member_facility (identity_id, facility_id, assigned_by) VALUES ($1, $2, $1)", p.ID, f)
	}
	p.SignIn(func(*identity.Session) {})
	return p
}

// Connect logs in as the tenant's own role, as whoever stole its credential would.
func (n *Tenant) Connect(t testing.TB) *pgx.Conn {
	t.Helper()
	cert, err := n.cell.authority.Issue(n.ID, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pg.Connect(context.Background(), n.cell.DB.DSN("cell_worker"), pg.Options{User: n.Role, Certificate: &cert, SearchPath: n.Role})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// Context signs the person's context for a connection, with the facilities given.
func (n *Tenant) Context(conn *pgx.Conn, p *Person, role tenants.Role, facilities ...tenants.ID) string {
	return tenantdb.Mint(n.key, conn.PgConn().PID(), tenantdb.KindMember, tenants.Actor{Kind: tenants.ActorMember,
		ID: p.ID, TenantID: n.ID, Role: role, SessionID: p.SessionID, Facilities: facilities}, time.Now().Add(time.Minute))
}

// ReadContext is Context for a read that the entry of this id tells of.
func (n *Tenant) ReadContext(conn *pgx.Conn, a tenants.Actor, entry tenants.ID) string {
	return tenantdb.MintRead(n.key, conn.PgConn().PID(), a, entry, time.Now().Add(time.Minute))
}

// SignEntries signs a list of audit entries for a backend as a worker does.
func (n *Tenant) SignEntries(pid uint32, list string, until time.Time) string {
	return tenantdb.MintEntries(n.key, pid, n.ID, list, until)
}

// Exec runs SQL as the superuser, to plant or to prepare.
func (c *Cell) Exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	if _, err := c.Super.Exec(context.Background(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// Count returns a number that the superuser sees.
func (c *Cell) Count(t testing.TB, sql string, args ...any) (n int) {
	t.Helper()
	if err := c.Super.QueryRow(context.Background(), sql, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

// Super opens another of the superuser's connections to a database, for looking
// beside what c.Super does.
func Super(t testing.TB, db *testkit.DB) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), db.Superuser(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}
