package export

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/audit/record"
	"github.com/caresphere/caresphere/internal/audit/tree"
)

// page reads the blocks of leaves [from, to) and returns their lines. A block with
// nothing to show is its proof alone.
func (x *exporter) page(ctx context.Context, tx pgx.Tx, from, to int64) ([]line, error) {
	leaves, err := x.leaves(ctx, tx, from, to)
	if err != nil {
		return nil, err
	}
	// Where a leaf is gone, so is its entry's: the file shows it.
	if int64(len(leaves)) == to-from {
		if err := x.whole(ctx, tx, leaves, to); err != nil {
			return nil, err
		}
	}
	stored := tree.Reader(ctx, tx, x.Log)
	out := make([]line, 0, len(leaves)+pageBlocks)
	for at := from; at < to; at += record.BlockSize {
		n := 0
		show := false
		for ; n < len(leaves) && leaves[n].leaf < at+record.BlockSize; n++ {
			show = show || leaves[n].kind != record.LineWithheld
		}
		for _, l := range leaves[:n] {
			if l.kind == record.LineEntry {
				x.entries++
			}
			if show {
				out = append(out, l.line)
			}
		}
		leaves = leaves[n:]
		proof, err := x.prove(stored, at)
		if err != nil {
			return nil, err
		}
		out = append(out, proof)
	}
	return out, nil
}

// leaf is a leaf's line, the number of its entry, and whether the entry is there and
// is the one that was sealed.
type leaf struct {
	line
	seq   int64
	sound bool
}

// leaves reads the leaves [from, to) with their entries.
func (x *exporter) leaves(ctx context.Context, tx pgx.Tx, from, to int64) ([]leaf, error) {
	rows, err := tx.Query(ctx, `SELECT l.leaf_index, l.seq, l.hash, `+audit.EntryColumns(x.Log, "e")+`
		FROM `+x.Log.Table("audit_leaf")+` l LEFT JOIN `+x.Log.Table("audit_entry")+` e ON e.seq = l.seq
		WHERE l.leaf_index >= $1 AND l.leaf_index < $2 ORDER BY l.leaf_index`, from, to)
	if err != nil {
		return nil, fmt.Errorf("reading the trail: %w", err)
	}
	defer rows.Close()
	out := make([]leaf, 0, to-from)
	for rows.Next() {
		l, err := x.read(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading the trail: %w", err)
	}
	return out, nil
}

// read makes the line of one leaf. The filter withholds no entry but one that is as it
// was sealed: what it was before it was changed may be what the filter asks for. A row
// that cannot be read as an entry is none, and the verifier says so: one such row must not
// keep the auditor from all others.
func (x *exporter) read(rows pgx.Rows) (leaf, error) {
	var l leaf
	var hash []byte
	var row audit.Row
	if err := rows.Scan(append([]any{&l.leaf, &l.seq, &hash}, row.Targets()...)...); err != nil {
		return l, fmt.Errorf("reading the trail: %w", err)
	}
	l.hash = hex.EncodeToString(hash)
	e, err := row.Entry(x.Log)
	if !row.Present() || err != nil {
		l.kind = record.LineMissing
		return l, nil
	}
	x.canonical = record.Append(x.canonical[:0], &e)
	computed := tlog.RecordHash(x.canonical)
	l.sound = bytes.Equal(computed[:], hash)
	if l.sound && !x.Filter.Match(&e) {
		l.kind = record.LineWithheld
		return l, nil
	}
	l.kind, l.content = record.LineEntry, bytes.Clone(x.canonical)
	if x.Format == CSV {
		l.cells = record.Cells(&e)
	}
	return l, nil
}

// errPassedOver: an entry has no place in the tree, and the database says that it has.
var errPassedOver = errors.New("an entry was passed over by the sealer")

// whole refuses a log in which an entry has no leaf, though its transaction is one of
// those that are sealed: among the numbers of these leaves, and after the last if
// they are the tree's last.
func (x *exporter) whole(ctx context.Context, tx pgx.Tx, leaves []leaf, to int64) error {
	first, last := leaves[0].seq, leaves[0].seq
	for _, l := range leaves {
		first, last = min(first, l.seq), max(last, l.seq)
	}
	if x.checked == 0 && leaves[0].leaf > 0 {
		x.checked = first
	}
	if to == x.head.Size {
		last = math.MaxInt64
	}
	err := x.passed(ctx, tx, "e.seq > $3 AND e.seq <= $4", x.checked, last)
	x.checked = max(x.checked, last)
	return err
}

// passed refuses the log if an entry that the condition on e chooses was passed over.
// The condition's arguments count from $3.
func (x *exporter) passed(ctx context.Context, tx pgx.Tx, condition string, args ...any) error {
	var found bool
	err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM `+x.Log.Table("audit_entry")+` e WHERE `+condition+`
		AND e.xid < $1 AND e.seq > $2 AND NOT EXISTS (SELECT FROM `+x.Log.Table("audit_leaf")+` l WHERE l.seq = e.seq))`,
		append([]any{x.head.SealedBelow(), x.minSeq}, args...)...).Scan(&found)
	if err != nil {
		return fmt.Errorf("reading the trail: %w", err)
	}
	if found {
		return damaged(errPassedOver)
	}
	return nil
}
