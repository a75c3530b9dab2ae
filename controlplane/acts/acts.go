// Package acts runs the control plane's actions: one transaction each, with the
// audit row of the action in it, so that neither exists without the other.
//
// It owns that rule and the database's clock. It trusts the actor that the session
// gate established. It decides nothing: who may act is the domain's question, and
// when the domain refuses, the refusal is recorded in a transaction of its own.
package acts

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/tenants"
)

// System is the actor of what the control plane does by itself.
var System = tenants.Actor{Kind: tenants.ActorSystem}

// Do runs fn in a transaction and writes ev in it. fn may complete ev, with what
// it learned. A refusal (forbidden, not found, second factor, conflict, gate closed) rolls
// everything back and leaves a row of its own with the outcome denied; if even
// that cannot be written, the caller learns of the failure, not of the refusal.
func Do(ctx context.Context, db pg.Beginner, actor tenants.Actor, ev audit.Event, fn func(tx pgx.Tx, ev *audit.Event) error) error {
	err := pg.InTx(ctx, db, func(tx pgx.Tx) error {
		if err := fn(tx, &ev); err != nil {
			return err
		}
		return audit.Insert(ctx, tx, actor, ev)
	})
	if err == nil || !refused(err) {
		return err
	}
	ev.Outcome = audit.OutcomeDenied
	ev.Detail = map[string]string{"kind": string(tenants.KindOf(err))}
	note := pg.InTx(ctx, db, func(tx pgx.Tx) error { return audit.Insert(ctx, tx, actor, ev) })
	if note != nil {
		return fmt.Errorf("recording a refusal: %w", note)
	}
	return err
}

func refused(err error) bool {
	switch tenants.KindOf(err) {
	case tenants.KindForbidden, tenants.KindNotFound, tenants.KindSecondFactor, tenants.KindConflict, tenants.KindGateClosed:
		return true
	}
	return false
}

// Clock tells the time for a decision. Decisions of several control planes are
// compared with each other, so they go by one clock, the database's.
type Clock func(ctx context.Context, q Querier) (time.Time, error)

// Querier is a transaction or a pool.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// DatabaseClock returns the database's time, not that at which the transaction began.
func DatabaseClock(ctx context.Context, q Querier) (time.Time, error) {
	var now time.Time
	if err := q.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&now); err != nil {
		return now, fmt.Errorf("asking the database for the time: %w", err)
	}
	return now.UTC(), nil
}
