package provisioning

import (
	"context"
	"fmt"

	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/migrations"
	"github.com/caresphere/caresphere/tenants"

	"github.com/jackc/pgx/v5"
)

// versionTable records, in each tenant's schema, which migrations it has.
const versionTable = "schema_version"

func schemaThere(ctx context.Context, r *run) (there bool, err error) {
	err = r.p.Cell.QueryRow(ctx, `
		SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1 AND nspowner = current_user::regrole)`, r.schema).Scan(&there)
	return there, wrap(err, "looking for the schema")
}

func makeSchema(ctx context.Context, r *run) error {
	return r.cell(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "CREATE SCHEMA IF NOT EXISTS "+quote(r.schema))
		return wrap(err, "making the schema")
	})
}

func roleThere(ctx context.Context, r *run) (there bool, err error) {
	err = r.p.Cell.QueryRow(ctx, `
		SELECT EXISTS (
			SELECT FROM pg_roles
			WHERE rolname = $1 AND NOT rolsuper AND NOT rolinherit AND NOT rolcreaterole AND NOT rolcreatedb
			  AND NOT rolreplication AND NOT rolbypassrls AND rolconnlimit = $2
			  AND has_database_privilege(oid, current_database(), 'CONNECT'))`, r.role, tenantdb.ConnectionLimit).Scan(&there)
	return there, wrap(err, "looking for the login role")
}

// makeRole makes the tenant's login role: owner of nothing, member of nothing. It
// may not log in until the gate says so.
func makeRole(ctx context.Context, r *run) error {
	return r.cell(ctx, func(tx pgx.Tx) error {
		// A database's access list is one row: two grants at once would collide.
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('caresphere database access list', 0))`); err != nil {
			return fmt.Errorf("waiting for the database's access list: %w", err)
		}
		var there, connects bool
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)`, r.role).Scan(&there); err != nil {
			return fmt.Errorf("looking for the login role: %w", err)
		}
		if !there {
			if _, err := tx.Exec(ctx, "CREATE ROLE "+quote(r.role)+
				" NOLOGIN NOINHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"); err != nil {
				return fmt.Errorf("making the login role: %w", err)
			}
		}
		for _, sql := range tenantdb.RoleStatements(r.organization) {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return fmt.Errorf("setting the login role's attributes: %w", err)
			}
		}
		var database string
		if err := tx.QueryRow(ctx, `SELECT current_database(), has_database_privilege($1, current_database(), 'CONNECT')`, r.role).
			Scan(&database, &connects); err != nil {
			return fmt.Errorf("looking at the database's access list: %w", err)
		}
		if !connects {
			if _, err := tx.Exec(ctx, "GRANT CONNECT ON DATABASE "+quote(database)+" TO "+quote(r.role)); err != nil {
				return fmt.Errorf("letting the login role connect: %w", err)
			}
		}
		return nil
	})
}

func tablesThere(ctx context.Context, r *run) (bool, error) {
	version, err := r.p.schemaVersion(ctx, r.organization)
	if err != nil {
		return false, err
	}
	latest, err := pg.LatestVersion(migrations.Tenant, "tenant")
	return version == latest, err
}

// schemaVersion returns the last migration that the tenant's schema has; 0 for none.
func (p *Provisioner) schemaVersion(ctx context.Context, tenant tenants.ID) (version int64, err error) {
	table := quote(tenants.SchemaName(tenant)) + "." + versionTable
	var there bool
	if err := p.Cell.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, table).Scan(&there); err != nil || !there {
		return 0, wrap(err, "looking for the schema's version")
	}
	err = p.Cell.QueryRow(ctx, "SELECT coalesce(max(version_id), 0) FROM "+table+" WHERE is_applied").Scan(&version)
	return version, wrap(err, "reading the schema's version")
}

func makeTables(ctx context.Context, r *run) error {
	// Confirms the fence; the migrations that follow change nothing when they are
	// there already, so a second runner cannot harm them.
	if err := r.cell(ctx, func(pgx.Tx) error { return nil }); err != nil {
		return err
	}
	return Fanout{Control: r.p.Control, Cell: r.p.Migrator, CellID: r.p.CellID}.migrate(ctx, r.organization)
}

// isolationHolds compares the catalog with what must hold for every tenant.
func isolationHolds(ctx context.Context, r *run) (bool, error) {
	findings, err := CheckIsolation(ctx, r.p.Cell, r.organization)
	if err != nil {
		return false, err
	}
	if len(findings) > 0 {
		return false, because("the schema does not hold what isolation needs: "+findings[0].String(), nil)
	}
	return true, nil
}

// isolationBroken is never the remedy: tables that came out wrong need a person.
func isolationBroken(context.Context, *run) error { return nil }

// quote makes an identifier for SQL; names of schemas and roles come from ids only.
func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

func wrap(err error, doing string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}
