package isolation

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/tenants"
)

// errMoved means that what is declared changed while it was compared.
var errMoved = errors.New("migrations go on being applied: nothing stood still for long enough to be compared")

// anew is how often a comparison begins anew because a migration was committed in
// it: as often as a release is likely to have migrations for one schema.
const anew = 20

// versionsOf reads how far the tenant's schema and the cell are migrated. Of no tenant
// it is the newest version of this build.
func versionsOf(ctx context.Context, tx querier, tenant tenants.ID) (versions, error) {
	v, err := newest()
	if err != nil {
		return v, err
	}
	if err := tx.QueryRow(ctx, `SELECT coalesce(max(version_id), 0) FROM public.`+ledger+` WHERE is_applied`).Scan(&v.cell); err != nil {
		return v, fmt.Errorf("reading the cell's version: %w", err)
	}
	if tenant.IsZero() {
		return v, nil
	}
	if err := tx.QueryRow(ctx, `SELECT coalesce(max(version_id), 0) FROM `+tenants.SchemaName(tenant)+`.`+ledger+` WHERE is_applied`).Scan(&v.tenant); err != nil {
		return v, fmt.Errorf("reading the schema's version: %w", err)
	}
	return v, nil
}

// atVersion gives fn what is declared at the versions that hold, and begins anew with
// those that do if a migration was committed before fn returned: what it brought is no
// fault. Errors: errNewer, errMoved, fn's, and those of the database.
func (p *Prover) atVersion(ctx context.Context, tenant tenants.ID, fn func(*reference) error) error {
	for range anew {
		v, err := versionsOf(ctx, p.Cell, tenant)
		if err != nil {
			return err
		}
		// It may take seconds, in which a migration is as likely as at any other time.
		ref, err := p.reference(ctx, v)
		if err != nil {
			return err
		}
		err = fn(ref)
		// Asked also after an error, which a migration in the middle may have been.
		after, failed := versionsOf(ctx, p.Cell, tenant)
		switch {
		case failed != nil:
			return failed
		case after == v && !errors.Is(err, errMoved):
			return err
		}
	}
	return errMoved
}

// snapshot runs fn at one moment of the catalog, at which the reference's versions
// must hold. PostgreSQL writes functions, constraints and policies out as they are now,
// whatever the moment: atVersion asks for the versions once more.
func (p *Prover) snapshot(ctx context.Context, tenant tenants.ID, ref *reference, fn func(pgx.Tx) error) error {
	return p.rolledBack(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL search_path = pg_catalog`); err != nil {
			return fmt.Errorf("beginning to look: %w", err)
		}
		if err := ref.holds(ctx, tx, tenant); err != nil {
			return err
		}
		return fn(tx)
	})
}

// holds is errMoved if the transaction sees other versions than the reference's.
func (r *reference) holds(ctx context.Context, tx querier, tenant tenants.ID) error {
	v, err := versionsOf(ctx, tx, tenant)
	if err == nil && v != r.versions {
		err = errMoved
	}
	return err
}
