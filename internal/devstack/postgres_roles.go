package devstack

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/migrations"
)

// The databases of a local cluster.
const (
	ControlDatabase   = "control"
	CellDatabase      = "cell_main"
	KratosDatabase    = "kratos"
	OpsKratosDatabase = "kratos_ops"
)

type role struct {
	name       string
	attributes string
	memberOf   string
}

// The cluster's own roles. What each may do inside a database the migrations say.
var roles = []role{
	{name: "platform_owner"},
	{name: "controlplane"},
	{name: "provisioner"},
	// Makes tenants' roles and ends their sessions when a gate closes.
	{name: "cell_owner", attributes: "CREATEROLE", memberOf: "pg_signal_backend"},
	{name: "cell_worker"},
	// Reads every tenant's audit rows to seal them.
	{name: "cell_sealer", attributes: "BYPASSRLS"},
	{name: "kratos"},
	{name: "kratos_ops"},
}

// Which roles log in to which database by password.
var databases = []struct {
	name  string
	roles []string
}{
	{ControlDatabase, []string{"platform_owner", "controlplane", "provisioner"}},
	{CellDatabase, []string{"cell_owner", "cell_worker", "cell_sealer"}},
	{KratosDatabase, []string{"kratos"}},
	{OpsKratosDatabase, []string{"kratos_ops"}},
}

// ClusterRoles lists the roles that log in with a password.
func ClusterRoles() []string {
	names := make([]string, len(roles))
	for i, r := range roles {
		names[i] = r.name
	}
	return names
}

// DatabaseOf returns the database that a cluster role logs in to.
func DatabaseOf(role string) string {
	for _, d := range databases {
		if slices.Contains(d.roles, role) {
			return d.name
		}
	}
	return ""
}

// bootstrapRoles makes the roles that are missing and sets every attribute and
// password, so that a changed secret or definition takes hold at the next start.
func (c *Cluster) bootstrapRoles(ctx context.Context) error {
	conn, err := c.connectUnrecorded(ctx)
	if err != nil {
		return fmt.Errorf("connecting as the superuser: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	rows, err := conn.Query(ctx, `SELECT rolname FROM pg_roles`)
	if err != nil {
		return fmt.Errorf("listing roles: %w", err)
	}
	have, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("listing roles: %w", err)
	}
	var sql strings.Builder
	for _, r := range roles {
		if c.cfg.Passwords[r.name] == "" {
			return fmt.Errorf("role %s has no password", r.name)
		}
		verb := "ALTER"
		if !slices.Contains(have, r.name) {
			verb = "CREATE"
		}
		fmt.Fprintf(&sql, "%s ROLE %s LOGIN INHERIT NOSUPERUSER NOCREATEDB %s PASSWORD %s;\n", verb, r.name, r.attributes, literal(c.cfg.Passwords[r.name]))
		if r.memberOf != "" {
			fmt.Fprintf(&sql, "GRANT %s TO %s;\n", r.memberOf, r.name)
		}
	}
	if _, err := conn.Exec(ctx, sql.String()); err != nil {
		return fmt.Errorf("making the cluster's roles: %w", err)
	}
	return c.startRecord(ctx, conn)
}

// SuperuserDSN gives the bootstrap role's DSN for a database, as Cluster.Superuser.
type SuperuserDSN func(database string) string

// PrepareControlDatabase makes an empty control database, if it is not there.
func PrepareControlDatabase(ctx context.Context, dsn SuperuserDSN, name string) error {
	return prepare(ctx, dsn, name, "platform_owner", GrantControlDatabase, "")
}

// GrantControlDatabase lets the control plane's roles, and nobody else, connect.
func GrantControlDatabase(ctx context.Context, conn *pgx.Conn, name string) error {
	return grant(ctx, conn, name, "GRANT CONNECT ON DATABASE %[1]s TO platform_owner, controlplane, provisioner")
}

// PrepareCellDatabase makes an empty cell database, if it is not there. Tenants
// get neither temporary tables nor large objects: those lie outside of any
// schema's grants.
func PrepareCellDatabase(ctx context.Context, dsn SuperuserDSN, name string) error {
	hardening, err := migrations.Cell.ReadFile("cell/hardening.sql")
	if err != nil {
		return fmt.Errorf("reading the hardening of a cell: %w", err)
	}
	return prepare(ctx, dsn, name, superuser, GrantCellDatabase, string(hardening))
}

// GrantCellDatabase lets the cell's roles connect, and cell_owner make schemas
// and let tenants connect.
func GrantCellDatabase(ctx context.Context, conn *pgx.Conn, name string) error {
	return grant(ctx, conn, name, `
		GRANT CONNECT ON DATABASE %[1]s TO cell_worker, cell_sealer;
		GRANT CONNECT ON DATABASE %[1]s TO cell_owner WITH GRANT OPTION;
		GRANT CREATE ON DATABASE %[1]s TO cell_owner`)
}

// PrepareKratosDatabase makes an empty database owned by an identity server's
// role, if it is not there.
func PrepareKratosDatabase(ctx context.Context, dsn SuperuserDSN, name, owner string) error {
	return prepare(ctx, dsn, name, owner, func(ctx context.Context, conn *pgx.Conn, name string) error {
		return grant(ctx, conn, name, "GRANT CONNECT ON DATABASE %[1]s TO "+owner)
	}, "")
}

func prepare(ctx context.Context, dsn SuperuserDSN, name, owner string, grants func(context.Context, *pgx.Conn, string) error, inside string) error {
	admin, err := pgx.Connect(ctx, dsn("postgres"))
	if err != nil {
		return fmt.Errorf("connecting as the superuser: %w", err)
	}
	defer func() { _ = admin.Close(context.WithoutCancel(ctx)) }()
	var there bool
	if err := admin.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, name).Scan(&there); err != nil {
		return fmt.Errorf("looking for database %s: %w", name, err)
	}
	if !there {
		if _, err := admin.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()+" OWNER "+owner); err != nil {
			return fmt.Errorf("making database %s: %w", name, err)
		}
	}
	if err := grants(ctx, admin, name); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, dsn(name))
	if err != nil {
		return fmt.Errorf("connecting to database %s: %w", name, err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, "REVOKE ALL ON SCHEMA public FROM PUBLIC;"+inside); err != nil {
		return fmt.Errorf("setting the grants in database %s: %w", name, err)
	}
	return nil
}

func grant(ctx context.Context, conn *pgx.Conn, name, grants string) error {
	db := pgx.Identifier{name}.Sanitize()
	if _, err := conn.Exec(ctx, "REVOKE ALL ON DATABASE "+db+" FROM PUBLIC; "+fmt.Sprintf(grants, db)); err != nil {
		return fmt.Errorf("setting the grants of database %s: %w", name, err)
	}
	return nil
}

// literal quotes a string for SQL, which takes backslashes as they are
// (standard_conforming_strings). Utility statements take no parameters.
func literal(s string) string {
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}
