package sealer

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/internal/audit/tree"
)

// window is the range of transaction ids that a batch takes entries from.
type window struct {
	from, to uint64
	// lastSeq is the last sequence number taken of the range.
	lastSeq int64
	// done: the range holds no more.
	done bool
	// reopened: an earlier batch began the range and saw that it holds more.
	reopened bool
}

// window continues the range that the last head left open, or opens the next one
// up to the oldest transaction that is still running: everything below has ended,
// is in this snapshot, and nothing can join it.
func (l Log) window(ctx context.Context, tx pgx.Tx, epoch tree.Epoch, head tree.Head) (window, error) {
	var oldest uint64
	if err := tx.QueryRow(ctx, "SELECT pg_snapshot_xmin(pg_current_snapshot())").Scan(&oldest); err != nil {
		return window{}, fmt.Errorf("sealing log %s: %w", l.Log.Name(), err)
	}
	if ahead(head, oldest) {
		return window{}, l.tampered(movedBound, head.XidTo, oldest)
	}
	if head.Size > 0 && !head.WindowDone {
		return window{from: head.XidFrom, to: head.XidTo, lastSeq: head.LastSeq, reopened: true}, nil
	}
	return window{from: head.XidTo, to: oldest, lastSeq: epoch.MinSeq}, nil
}

// movedBound takes the two transaction ids.
const movedBound = "its newest head says that it sealed up to transaction %d, and %d may still run: the bound was moved, or the server is another"

// ahead tells whether a head's bound cannot be one of this server's: a range ends where
// the oldest transaction runs, and that never goes back.
func ahead(head tree.Head, oldest uint64) bool { return max(head.XidFrom, head.XidTo) > oldest }

// passed finds an entry of late that the head's bound says is sealed, and no leaf names.
// The bound is not signed: moved by less than what ahead sees, it hides what was
// written before it was moved.
func (l Log) passed(ctx context.Context, tx pgx.Tx, epoch tree.Epoch, head tree.Head) error {
	if l.Recent <= 0 {
		return nil
	}
	var seq int64
	err := tx.QueryRow(ctx, `SELECT e.seq FROM `+l.Log.Table("audit_entry")+` e
		WHERE e.at >= now() - $1::interval AND e.xid < $2 AND e.seq > $3
		AND NOT EXISTS (SELECT FROM `+l.Log.Table("audit_leaf")+` l WHERE l.seq = e.seq) LIMIT 1`,
		l.Recent, head.SealedBelow(), epoch.MinSeq).Scan(&seq)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for what log %s passed over: %w", l.Log.Name(), err)
	}
	return l.tampered("entry %d was passed over: it was put in late, or the bound of what is sealed was moved", seq)
}
