package isolation

import (
	"context"
	_ "embed"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/internal/isolation"
	"github.com/caresphere/caresphere/tenants"
)

// common is what all tenants of the cell stand on, as a proof last saw it. Safe for
// concurrent use.
type common struct {
	p *Prover

	mu       sync.Mutex
	at       time.Time
	ref      *reference
	findings []isolation.Finding
}

// since returns what differs, by a look that began after the time: it looks again if
// the last one is older.
func (c *common) since(ctx context.Context, after time.Time) ([]isolation.Finding, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ref != nil && !c.at.Before(after) {
		return c.findings, nil
	}
	begun := time.Now()
	list, ref, err := c.p.shared(ctx)
	if err != nil {
		return nil, err
	}
	c.at, c.ref, c.findings = begun, ref, findings(list)
	return c.findings, nil
}

// shared compares what all tenants of the cell stand on.
func (p *Prover) shared(ctx context.Context) ([]difference, *reference, error) {
	var (
		list     []difference
		declared *reference
	)
	err := p.atVersion(ctx, tenants.NilID, func(ref *reference) error {
		declared = ref
		return p.snapshot(ctx, tenants.NilID, ref, func(tx pgx.Tx) error {
			found, err := sharedFacts(ctx, tx)
			list = compare(ref.cell, found)
			return err
		})
	})
	if err != nil {
		return nil, nil, err
	}
	// By itself: it takes long among many tenants, and goes by no version.
	err = p.rolledBack(ctx, func(tx pgx.Tx) error {
		unseen, err := hidden(ctx, tx)
		list = append(list, unseen...)
		return err
	})
	return list, declared, err
}

//go:embed hidden.sql
var hiddenSQL string

// hidden returns what tenants' schemas hold that a look at one of them does not see. It
// reads all of the catalog, a million rows among ten thousand tenants.
func hidden(ctx context.Context, tx querier) ([]difference, error) {
	if _, err := tx.Exec(ctx, `SET LOCAL search_path = pg_catalog; SET LOCAL statement_timeout = '10min'`); err != nil {
		return nil, fmt.Errorf("looking for what no dependency names: %w", err)
	}
	rows, err := tx.Query(ctx, hiddenSQL)
	if err != nil {
		return nil, fmt.Errorf("looking for what no dependency names: %w", err)
	}
	var list []difference
	var schema, what string
	_, err = pgx.ForEachRow(rows, []any{&schema, &what}, func() error {
		list = append(list, difference{found: &fact{Object: schema, Property: what, Value: "no dependency names it"}})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("looking for what no dependency names: %w", err)
	}
	return list, nil
}
