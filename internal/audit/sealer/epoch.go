package sealer

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/internal/audit/tree"
	"github.com/caresphere/caresphere/internal/pg"
)

// StartEpoch begins a new epoch after the log's database was restored from an
// older state, openly and under an origin of its own: the anchors of the old one
// stay as they are and show what was lost. Writers must be shut out. Entries that
// were restored without having been sealed are sealed first, by their order,
// because their transaction ids belong to another server. The statement that begins
// it is signed and anchored before the epoch is there: without it the epoch counts
// for nothing. It returns the epoch's number. Ended anywhere, it can be called again.
func (l Log) StartEpoch(ctx context.Context, reason string) (int, error) {
	l = l.withDefaults()
	var number int
	err := pg.InTx(ctx, l.Pool, func(tx pgx.Tx) error {
		old, err := tree.Newest(ctx, tx, l.Log, note.VerifierList(l.Verifier))
		if err != nil {
			return err
		}
		if err := l.lock(ctx, tx, old.Number); err != nil {
			return err
		}
		last, err := tree.Latest(ctx, tx, l.Log, old.Number)
		if err != nil {
			return err
		}
		var size, minSeq int64
		if err := tx.QueryRow(ctx, `SELECT coalesce(max(leaf_index) + 1, 0), coalesce(max(seq), 0) FROM `+l.Log.Table("audit_leaf")).Scan(&size, &minSeq); err != nil {
			return err
		}
		if size, minSeq, err = l.adopt(ctx, tx, size, minSeq); err != nil {
			return err
		}
		s := tree.Statement{StartSize: size, MinSeq: minSeq, Follows: tree.Digest(last.Note), Reason: reason}
		if s.Root, err = (frontier{}).read(tree.Reader(ctx, tx, l.Log), size); err != nil {
			return err
		}
		var signed string
		if number, signed, err = l.state(ctx, s, old.Number+1); err != nil {
			return err
		}
		if _, err = tx.Exec(ctx, `INSERT INTO `+l.Log.Table("audit_epoch")+` (epoch, start_size, min_seq, reason)
			VALUES ($1, $2, $3, $4)`, number, size, minSeq, signed); err != nil || size == 0 {
			return err
		}
		// The epoch's first head; the next Seal anchors it.
		_, err = l.checkpoint(ctx, tx, number, size, s.Root, window{lastSeq: minSeq, done: true})
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("starting an epoch of log %s: %w", l.Log.Name(), err)
	}
	return number, nil
}

// state signs and anchors the statement for the first number that no other statement
// has, and returns both. One that was anchored by a call that ended before its commit
// is the same, or its number stays unused.
func (l Log) state(ctx context.Context, s tree.Statement, number int) (int, string, error) {
	for ; ; number++ {
		s.Origin = l.Log.Origin(number)
		signed, err := s.Sign(l.Signer)
		if err != nil {
			return 0, "", err
		}
		err = l.Anchor.Put(ctx, Anchored{Origin: tree.StatementOrigin(l.Log, number), Size: int64(number), Root: tree.Digest(signed), Note: signed})
		if !errors.Is(err, ErrFork) {
			return number, signed, err
		}
	}
}

// epoch reads the newest epoch and holds it against what was stated outside the
// database: its own statement, and that none of a later one is there.
func (l Log) epoch(ctx context.Context, q tree.Querier) (tree.Epoch, error) {
	e, err := tree.Newest(ctx, q, l.Log, note.VerifierList(l.Verifier))
	if errors.Is(err, tree.ErrUnstated) {
		return e, l.tampered("%v", err)
	}
	if err != nil {
		return e, err
	}
	if e.Number > 1 {
		kept, err := l.stated(ctx, e.Number)
		if err != nil {
			return e, err
		}
		if kept != e.Signed {
			return e, l.tampered("epoch %d is not the one that was stated outside the database", e.Number)
		}
	}
	later, err := l.stated(ctx, e.Number+1)
	if err != nil || later == "" {
		return e, err
	}
	// It may have been begun since.
	again, err := tree.Newest(ctx, q, l.Log, note.VerifierList(l.Verifier))
	if err == nil && again.Number > e.Number {
		return e, ErrBusy
	}
	return e, l.tampered("epoch %d was stated and is not here: it was taken out, or starting it did not end", e.Number+1)
}

// stated returns the statement of an epoch that the anchor keeps, "" if there is none.
func (l Log) stated(ctx context.Context, number int) (string, error) {
	kept, err := l.Anchor.Last(ctx, tree.StatementOrigin(l.Log, number))
	if errors.Is(err, ErrFork) {
		return "", l.tampered("%v", err)
	}
	if err != nil || kept == nil {
		return "", err
	}
	return kept.Note, nil
}

// adopt gives the entries without a leaf their leaves, and returns the tree's size
// and the largest sequence number that there is.
func (l Log) adopt(ctx context.Context, tx pgx.Tx, size, maxSeq int64) (int64, int64, error) {
	f := frontier{}
	if _, err := f.read(tree.Reader(ctx, tx, l.Log), size); err != nil {
		return 0, 0, err
	}
	for after := int64(0); ; {
		g, err := l.grow(ctx, tx, f, size, `c.seq > $1 AND NOT EXISTS (SELECT FROM `+l.Log.Table("audit_leaf")+` l WHERE l.seq = c.seq)`, after)
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
