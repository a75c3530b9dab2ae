package sealer

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/caresphere/caresphere/internal/audit/tree"
	"github.com/caresphere/caresphere/internal/pg"
)

// StartEpoch begins a new epoch after the log's database was restored from an
// older state, openly and under an origin of its own: the anchors of the old one
// stay as they are and show what was lost. Writers must be shut out. Entries that
// were restored without having been sealed are sealed first, by their order,
// because their transaction ids belong to another server. It returns the epoch's
// number.
func (l Log) StartEpoch(ctx context.Context, reason string) (int, error) {
	l = l.withDefaults()
	var number int
	err := pg.InTx(ctx, l.Pool, func(tx pgx.Tx) error {
		old, err := tree.Newest(ctx, tx, l.Log)
		if err != nil {
			return err
		}
		if err := l.lock(ctx, tx, old.Number); err != nil {
			return err
		}
		number = old.Number + 1
		var size, minSeq int64
		if err := tx.QueryRow(ctx, `SELECT coalesce(max(leaf_index) + 1, 0), coalesce(max(seq), 0) FROM `+l.Log.Table("audit_leaf")).Scan(&size, &minSeq); err != nil {
			return err
		}
		if size, minSeq, err = l.adopt(ctx, tx, size, minSeq); err != nil {
			return err
		}
		if _, err = tx.Exec(ctx, `INSERT INTO `+l.Log.Table("audit_epoch")+` (epoch, start_size, min_seq, reason)
			VALUES ($1, $2, $3, $4)`, number, size, minSeq, reason); err != nil || size == 0 {
			return err
		}
		// The epoch's first head; the next Seal anchors it.
		root, err := tlog.TreeHash(size, tree.Reader(ctx, tx, l.Log))
		if err != nil {
			return err
		}
		_, err = l.checkpoint(ctx, tx, number, size, root, window{lastSeq: minSeq, done: true})
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("starting an epoch of log %s: %w", l.Log.Name(), err)
	}
	return number, nil
}

// adopt gives the entries without a leaf their leaves, and returns the tree's size
// and the largest sequence number that there is.
func (l Log) adopt(ctx context.Context, tx pgx.Tx, size, maxSeq int64) (int64, int64, error) {
	f := frontier{}
	if _, err := f.read(tree.Reader(ctx, tx, l.Log), size); err != nil {
		return 0, 0, err
	}
	for after := int64(0); ; {
		g, err := l.grow(ctx, tx, f, size, `e.seq > $1 AND NOT EXISTS (SELECT FROM `+l.Log.Table("audit_leaf")+` l WHERE l.seq = e.seq)`, after)
		if err != nil {
			return 0, 0, err
		}
		size, after = g.size, max(after, g.lastSeq)
		f.prune(size)
		if g.done {
			return size, max(maxSeq, after), nil
		}
	}
}
