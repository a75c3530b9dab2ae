package export

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/internal/audit/tree"
	"github.com/caresphere/caresphere/internal/pause"
	"github.com/caresphere/caresphere/tenants"
)

// awaitSealed waits until every entry that was committed at its call is sealed,
// and returns the epoch and a head that covers them.
func awaitSealed(ctx context.Context, db Reader, o Options) (epoch tree.Epoch, head tree.Head, err error) {
	wait := o.Wait
	if wait <= 0 {
		wait = 10 * time.Second
	}
	var bound uint64
	if err := db.Read(ctx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, "SELECT pg_snapshot_xmax(pg_current_snapshot())").Scan(&bound)
	}); err != nil {
		return epoch, head, fmt.Errorf("beginning the export: %w", err)
	}
	deadline := time.Now().Add(wait)
	for delay := 20 * time.Millisecond; ; delay = min(2*delay, 500*time.Millisecond) {
		var open bool
		err := db.Read(ctx, func(tx pgx.Tx) error {
			e, err := tree.Newest(ctx, tx, o.Log, o.Known)
			if errors.Is(err, tree.ErrUnstated) {
				return damaged(err)
			}
			if err != nil {
				return err
			}
			epoch = e
			if head, err = tree.Latest(ctx, tx, o.Log, epoch.Number); err != nil {
				return err
			}
			var next uint64
			if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM `+o.Log.Table("audit_entry")+`
				WHERE xid >= $1 AND xid < $2 AND seq > $3), pg_snapshot_xmax(pg_current_snapshot())`, head.SealedBelow(), bound, e.MinSeq).Scan(&open, &next); err != nil {
				return err
			}
			if max(head.XidFrom, head.XidTo) > next {
				return damaged(fmt.Errorf("the newest head says that it sealed up to transaction %d, and the next is %d", head.XidTo, next))
			}
			return nil
		})
		if err != nil {
			return epoch, head, fmt.Errorf("waiting for the audit sealer: %w", err)
		}
		if !open {
			return epoch, head, nil
		}
		if time.Now().After(deadline) {
			e := tenants.NewError(tenants.KindUnavailable, "the audit trail is not sealed up to now yet")
			e.RetryAfter = 5 * time.Second
			return epoch, head, e
		}
		if o.Ask != nil {
			if err := o.Ask(ctx); err != nil {
				return epoch, head, fmt.Errorf("asking the audit sealer: %w", err)
			}
		}
		if err := pause.For(ctx, delay); err != nil {
			return epoch, head, err
		}
	}
}

// damaged is the error for tables that cannot be what the sealer left.
func damaged(err error) error {
	return tenants.WrapError(tenants.KindIntegrity, "the audit trail is damaged", err)
}
