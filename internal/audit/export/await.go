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
func awaitSealed(ctx context.Context, db Reader, o Options) (epoch int, head tree.Head, err error) {
	wait := o.Wait
	if wait <= 0 {
		wait = 10 * time.Second
	}
	var bound uint64
	if err := db.Read(ctx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, "SELECT pg_snapshot_xmax(pg_current_snapshot())").Scan(&bound)
	}); err != nil {
		return 0, head, fmt.Errorf("beginning the export: %w", err)
	}
	deadline := time.Now().Add(wait)
	for delay := 20 * time.Millisecond; ; delay = min(2*delay, 500*time.Millisecond) {
		var open bool
		err := db.Read(ctx, func(tx pgx.Tx) error {
			e, err := tree.Newest(ctx, tx, o.Log, o.Known)
			if errors.Is(err, tree.ErrUnstated) {
				return tenants.WrapError(tenants.KindIntegrity, "the audit trail is damaged", err)
			}
			if err != nil {
				return err
			}
			epoch = e.Number
			if head, err = tree.Latest(ctx, tx, o.Log, epoch); err != nil {
				return err
			}
			return tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM `+o.Log.Table("audit_entry")+`
				WHERE xid >= $1 AND xid < $2 AND seq > $3)`, head.SealedBelow(), bound, e.MinSeq).Scan(&open)
		})
		if err != nil {
			return 0, head, fmt.Errorf("waiting for the audit sealer: %w", err)
		}
		if !open {
			return epoch, head, nil
		}
		if time.Now().After(deadline) {
			e := tenants.NewError(tenants.KindUnavailable, "the audit trail is not sealed up to now yet")
			e.RetryAfter = 5 * time.Second
			return 0, head, e
		}
		if o.Ask != nil {
			if err := o.Ask(ctx); err != nil {
				return 0, head, fmt.Errorf("asking the audit sealer: %w", err)
			}
		}
		if err := pause.For(ctx, delay); err != nil {
			return 0, head, err
		}
	}
}
