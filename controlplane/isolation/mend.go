package isolation

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/tenants"
)

const (
	// ledgerWait is how long a repair waits for a migration under way to end.
	ledgerWait = "10s"
	// mendWait is how long one of its statements waits for a lock: less than the second
	// after which PostgreSQL would end the migration, if that waits for the ledger.
	mendWait = "500ms"
	// lockNotAvailable is the answer to a wait that took too long.
	lockNotAvailable = "55P03"
)

// mended is what a repair did in the cell's database: the statements that it tried, and
// those of them that only a superuser may run.
type mended struct{ tried, refused []string }

// mend takes back what differs at the moment in which it does so. Migrations are kept
// out meanwhile: none can record that it was applied, so that nothing which one brought
// is taken for a fault. What a plan said before is not gone by.
func (p *Prover) mend(ctx context.Context, tenant tenants.ID) (mended, error) {
	m := mended{refused: []string{}}
	err := p.atVersion(ctx, tenant, func(ref *reference) error {
		return pg.InTx(ctx, p.Cell, func(tx pgx.Tx) error {
			m.refused = []string{}
			if _, err := tx.Exec(ctx, `SET LOCAL search_path = pg_catalog; SET LOCAL lock_timeout = '`+ledgerWait+`';
				LOCK TABLE public.`+ledger+`, `+tenants.SchemaName(tenant)+`.`+ledger+` IN SHARE MODE`); err != nil {
				return fmt.Errorf("keeping migrations out: %w", err)
			}
			if err := ref.holds(ctx, tx, tenant); err != nil {
				return err
			}
			list, err := differing(ctx, tx, tenant, ref)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `SET LOCAL search_path TO DEFAULT; SET LOCAL lock_timeout = '`+mendWait+`'`); err != nil {
				return fmt.Errorf("preparing to mend: %w", err)
			}
			return p.execute(ctx, tx, list, &m)
		})
	})
	return m, err
}

// differing returns the statements that mend what the transaction sees.
func differing(ctx context.Context, tx querier, tenant tenants.ID, ref *reference) ([]string, error) {
	shared, err := sharedFacts(ctx, tx)
	if err != nil {
		return nil, err
	}
	name := tenants.SchemaName(tenant)
	own, err := facts(ctx, tx, name, name)
	if err != nil {
		return nil, err
	}
	all, _ := statements(compare(ref.cell, shared), tenant)
	more, _ := statements(compare(ref.tenant, own), tenant)
	return append(all, more...), nil
}

// execute runs each statement by itself: one that is refused does not keep the others
// from mending what they can. At one that waits for a lock it ends, and what is done is
// kept: a migration may have the lock, and wait for this transaction.
func (p *Prover) execute(ctx context.Context, tx pgx.Tx, list []string, m *mended) error {
	for _, sql := range list {
		m.tried = append(m.tried, sql)
		err := pgx.BeginFunc(ctx, tx, func(part pgx.Tx) error {
			_, err := part.Exec(ctx, sql)
			return err
		})
		switch {
		case err == nil:
		case pg.IsCode(err, insufficientPrivilege):
			m.refused = append(m.refused, sql)
		case ctx.Err() != nil, tx.Conn().IsClosed():
			return fmt.Errorf("mending: %w", err)
		default:
			// The next look tells whether it was needed at all.
			p.Log.WarnContext(ctx, "a statement of a repair failed", "error", err)
			if pg.IsCode(err, lockNotAvailable) {
				return nil
			}
		}
	}
	return nil
}
