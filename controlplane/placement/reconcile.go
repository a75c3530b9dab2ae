package placement

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/pause"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/tenants"
)

const page = 500

// restShare is how much longer than a comparison took the next one waits: with ten thousand
// organizations one takes a tenth of a second. What an agreement's end closes does not wait
// for it: routers and workers know that moment.
const restShare = 20

// longestRest bounds it, for a database that was slow once.
const longestRest = 10 * time.Second

// Reconciler compares every stored gate with what it should be. It is safe with
// several instances: each repair decides anew under the organization's lock.
type Reconciler struct {
	pool    *pgxpool.Pool
	gates   *Gates
	workers *Workers
}

// NewReconciler returns a reconciler over the pool.
func NewReconciler(pool *pgxpool.Pool, gates *Gates, workers *Workers) *Reconciler {
	return &Reconciler{pool: pool, gates: gates, workers: workers}
}

// Run reconciles every interval, less often where it takes long, until the context ends;
// report gets every error.
func (r *Reconciler) Run(ctx context.Context, interval time.Duration, report func(error)) {
	for {
		begun, rest := time.Now(), interval
		if _, err := r.Once(ctx); err == nil {
			rest = max(rest, min(restShare*time.Since(begun), longestRest))
		} else if ctx.Err() == nil {
			report(err)
		}
		if _, err := r.workers.DropStale(ctx); err != nil && ctx.Err() == nil {
			report(err)
		}
		if pause.For(ctx, rest) != nil {
			return
		}
	}
}

// Once compares all organizations and repairs those that differ; it returns how many.
func (r *Reconciler) Once(ctx context.Context) (int, error) {
	now, err := r.gates.clock(ctx, r.pool)
	if err != nil {
		return 0, err
	}
	var (
		after    tenants.ID
		repaired int
		failed   []error
	)
	for {
		rows, err := store.New(r.pool).GateCandidates(ctx, store.GateCandidatesParams{AfterID: after, Page: page})
		if err != nil {
			return repaired, errors.Join(append(failed, fmt.Errorf("reading the gates: %w", err))...)
		}
		for _, row := range rows {
			after = row.ID
			if settled(row, now) {
				continue
			}
			if err := pg.InTx(ctx, r.pool, func(tx pgx.Tx) error { return r.gates.Decide(ctx, tx, row.ID) }); err != nil {
				failed = append(failed, fmt.Errorf("repairing the gate of %s: %w", row.ID, err))
				continue
			}
			repaired++
		}
		if len(rows) < page {
			return repaired, errors.Join(failed...)
		}
	}
}

func settled(row store.GateCandidatesRow, now time.Time) bool {
	var baa tenants.BAA
	if row.BaaID != nil && row.BaaState != nil {
		baa = asBAA(*row.BaaID, row.ID, *row.BaaState, row.ExecutedAt, row.ExpiresAt)
	}
	stored := decision{Gate: tenants.Gate{Mode: tenants.GateMode(row.GateMode), Reason: tenants.GateReason(row.GateReason)}, until: row.GateUntil}
	return decide(tenants.State(row.State), baa, row.KeyAlive, now).equal(stored)
}
