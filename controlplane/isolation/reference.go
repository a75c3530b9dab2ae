package isolation

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/pressly/goose/v3"

	"github.com/caresphere/caresphere/internal/isolation"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/migrations"
	"github.com/caresphere/caresphere/tenants"
)

// versions are those of a tenant's schema and of what the cell's tenants share.
type versions struct{ tenant, cell int64 }

// reference is what the migrations at these versions produce.
type reference struct {
	versions
	tenant, cell []fact
	sha256       string
}

// named says it for the report.
func (r *reference) named() isolation.Reference {
	return isolation.Reference{TenantVersion: r.versions.tenant, CellVersion: r.versions.cell, Facts: len(r.tenant) + len(r.cell), SHA256: r.sha256}
}

// errNewer means that a database was migrated by a later release than this
// program: it cannot say what is declared there, and so judges nothing.
var errNewer = errors.New("the database is of a later version than this program knows")

// reference returns what is declared at these versions, from memory after the
// first time: the migrations of a build do not change.
func (p *Prover) reference(ctx context.Context, v versions) (*reference, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.references[v]; r != nil {
		return r, nil
	}
	r := &reference{versions: v}
	// Everything happens in a transaction that is rolled back: nobody else ever
	// sees the schemas and the role that it makes.
	err := p.rolledBack(ctx, func(tx pgx.Tx) error { return r.make(ctx, tx) })
	if err != nil {
		return nil, fmt.Errorf("making the reference of version %d: %w", v.tenant, err)
	}
	body, err := json.Marshal([][]fact{r.cell, r.tenant})
	if err != nil {
		return nil, fmt.Errorf("encoding the reference: %w", err)
	}
	sum := sha256.Sum256(body)
	r.sha256 = hex.EncodeToString(sum[:])
	p.references[v] = r
	return r, nil
}

func (p *Prover) rolledBack(ctx context.Context, fn func(pgx.Tx) error) error {
	tx, err := p.Cell.Begin(ctx)
	if err != nil {
		return fmt.Errorf("beginning a transaction: %w", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	return fn(tx)
}

func (r *reference) make(ctx context.Context, tx pgx.Tx) error {
	id := tenants.NewID()
	name := tenants.SchemaName(id)
	if err := plainDefaults(ctx, tx); err != nil {
		return err
	}
	// The cell's migrations name their schema, so the real one steps aside.
	if _, err := tx.Exec(ctx, "ALTER SCHEMA cell RENAME TO cell_"+id.Hex()); err != nil {
		return fmt.Errorf("making way for the reference: %w", err)
	}
	if err := apply(ctx, tx, migrations.Cell, "cell", r.versions.cell); err != nil {
		return err
	}
	setup := append([]string{"CREATE SCHEMA " + name, "CREATE ROLE " + name + " NOLOGIN"}, tenantdb.RoleStatements(id)...)
	for _, sql := range setup {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return fmt.Errorf("making the reference's schema and role: %w", err)
		}
	}
	if _, err := tx.Exec(ctx, `SELECT set_config('search_path', $1, true), set_config('caresphere.tenant_role', $1, true)`, name); err != nil {
		return fmt.Errorf("preparing the reference's migrations: %w", err)
	}
	if err := apply(ctx, tx, migrations.Tenant, "tenant", r.versions.tenant); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `SET LOCAL search_path = pg_catalog`); err != nil {
		return fmt.Errorf("setting the search path: %w", err)
	}
	var err error
	if r.cell, err = facts(ctx, tx, "cell", ""); err != nil {
		return err
	}
	r.tenant, err = facts(ctx, tx, name, name)
	return err
}

// plainDefaults takes back what somebody may have added to cell_owner's default
// privileges, so that the reference does not inherit the drift.
func plainDefaults(ctx context.Context, tx pgx.Tx) error {
	list, err := defaults(ctx, tx)
	if err != nil {
		return err
	}
	for _, f := range list {
		// Nobody else's defaults reach what cell_owner makes.
		if !strings.Contains(f.Property, " by cell_owner: ") {
			continue
		}
		if _, err := tx.Exec(ctx, f.Unmake); err != nil {
			return fmt.Errorf("setting default privileges back: %w", err)
		}
	}
	return nil
}

// defaults are the rights that anybody but the maker gets on what is made from now
// on, in every schema of the cell. None is declared: the cell's migrations take
// away also what PostgreSQL gives to everybody.
func defaults(ctx context.Context, tx querier) ([]fact, error) {
	return collect(ctx, tx, "default privileges", `
		SELECT 9, 'default privileges', format('right of %s on new %s by %s: %s', w.who, d.kind, d.maker, a.privilege_type), 'granted', '',
		       format('ALTER DEFAULT PRIVILEGES FOR ROLE %s REVOKE %s ON %s FROM %s', d.maker, a.privilege_type, d.kind, w.who), false
		FROM (SELECT quote_ident(r.rolname) AS maker, r.oid, k.kind, coalesce(
		             (SELECT x.defaclacl FROM pg_default_acl x WHERE x.defaclrole = r.oid AND x.defaclnamespace = 0 AND x.defaclobjtype = k.objtype),
		             CASE WHEN r.rolname = 'cell_owner' THEN acldefault(k.acltype, r.oid) ELSE '{}' END) AS acl
		      FROM pg_roles r, (VALUES ('r'::"char", 'r'::"char", 'TABLES'), ('S', 's', 'SEQUENCES'), ('f', 'f', 'FUNCTIONS'), ('T', 'T', 'TYPES'), ('n', 'n', 'SCHEMAS')) k(objtype, acltype, kind)
		      WHERE r.rolname = 'cell_owner' OR r.oid IN (SELECT defaclrole FROM pg_default_acl)) d,
		     aclexplode(d.acl) a,
		     LATERAL (SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS who) w
		WHERE a.grantee <> d.oid ORDER BY 3`)
}

// sharedFacts are what all tenants of a cell stand on, beside its schema: of these
// none is declared.
func sharedFacts(ctx context.Context, tx querier) ([]fact, error) {
	list, err := facts(ctx, tx, "cell", "")
	if err != nil {
		return nil, err
	}
	more, err := defaults(ctx, tx)
	if err != nil {
		return nil, err
	}
	roles, err := collect(ctx, tx, "the cell's roles", `
		SELECT 0, 'role ' || r.rolname, f.name, 'yes', '', format('ALTER ROLE %I %s', r.rolname, f.sql), false
		FROM pg_roles r, (VALUES ('superuser', 'NOSUPERUSER'), ('bypasses row security', 'NOBYPASSRLS'), ('replication', 'NOREPLICATION'), ('makes roles', 'NOCREATEROLE')) f(name, sql)
		WHERE r.rolname IN ('cell_owner', 'cell_worker', 'cell_sealer')
		  AND CASE f.name WHEN 'superuser' THEN r.rolsuper WHEN 'bypasses row security' THEN r.rolbypassrls AND r.rolname <> 'cell_sealer'
		                  WHEN 'replication' THEN r.rolreplication ELSE r.rolcreaterole AND r.rolname <> 'cell_owner' END
		UNION ALL
		SELECT 0, 'role ' || m.roleid::regrole, 'has the member ' || m.member::regrole, 'yes', '', format('REVOKE %s FROM %s', m.roleid::regrole, m.member::regrole), false
		FROM pg_auth_members m WHERE m.roleid::regrole::text IN ('cell_owner', 'cell_worker', 'cell_sealer')
		ORDER BY 2, 3`)
	if err != nil {
		return nil, err
	}
	return slices.Concat(list, more, roles), nil
}

func collect(ctx context.Context, tx querier, what, sql string) ([]fact, error) {
	rows, err := tx.Query(ctx, sql)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", what, err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[fact])
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", what, err)
	}
	return list, nil
}

// apply runs the migrations of a set up to a version in the caller's transaction.
func apply(ctx context.Context, tx pgx.Tx, set fs.FS, dir string, upTo int64) error {
	latest, err := pg.LatestVersion(set, dir)
	if err != nil {
		return err
	}
	if upTo > latest {
		return errNewer
	}
	entries, err := fs.ReadDir(set, dir)
	if err != nil {
		return fmt.Errorf("reading migrations %q: %w", dir, err)
	}
	for _, e := range entries {
		n, err := goose.NumericComponent(e.Name())
		if err != nil || n > upTo {
			continue
		}
		body, err := fs.ReadFile(set, dir+"/"+e.Name())
		if err != nil {
			return fmt.Errorf("reading a migration: %w", err)
		}
		if _, err := tx.Exec(ctx, upPart(string(body))); err != nil {
			return fmt.Errorf("applying %s/%s for reference: %w", dir, e.Name(), err)
		}
	}
	return nil
}

// upPart returns the statements of a migration that lead forward. In a transaction
// an index cannot be built beside its readers; the index is the same.
func upPart(body string) string {
	_, up, _ := strings.Cut(body, "-- +goose Up")
	up, _, _ = strings.Cut(up, "-- +goose Down")
	return strings.ReplaceAll(up, " CONCURRENTLY", "")
}
