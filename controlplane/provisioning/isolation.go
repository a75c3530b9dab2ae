package provisioning

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/caresphere/caresphere/tenants"

	"github.com/jackc/pgx/v5"
)

//go:embed isolation.sql
var isolationSQL string

// Finding is one way in which a tenant's schema or role is not as it must be.
type Finding struct{ Object, Problem string }

// String says it in one line; the names are of tables and roles, never data.
func (f Finding) String() string { return f.Object + ": " + f.Problem }

// Rows is a pool, connection or transaction in the cell's database, as cell_owner.
type Rows interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// CheckIsolation reads the catalog and returns every way in which the tenant is
// not isolated: a table without forced row-level security or without a policy, an
// owner, grant, attribute or membership that must not be. None is the good answer.
func CheckIsolation(ctx context.Context, db Rows, tenant tenants.ID) ([]Finding, error) {
	rows, err := db.Query(ctx, isolationSQL, tenants.SchemaName(tenant), tenants.RoleName(tenant), versionTable)
	if err != nil {
		return nil, fmt.Errorf("reading the catalog: %w", err)
	}
	findings, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Finding])
	return findings, wrap(err, "reading the catalog")
}

// Rules returns what CheckIsolation finds of the tenant, a line each.
func (p *Provisioner) Rules(ctx context.Context, tenant tenants.ID) ([]string, error) {
	list, err := CheckIsolation(ctx, p.Cell, tenant)
	out := make([]string, 0, len(list))
	for _, f := range list {
		out = append(out, f.String())
	}
	return out, err
}
