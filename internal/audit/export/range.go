package export

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/audit/record"
)

// bounds returns the whole blocks that hold the filter's time range. When entries
// were written stands in the entries alone, and where some were taken away or given
// another time the rest would make a smaller range, which verifies. So the range goes
// from the last leaf before it to the first one after it, and on from there to either
// side as long as a block is not whole.
func (x *exporter) bounds(ctx context.Context) (from, to int64, err error) {
	size := x.head.Size
	if x.Filter.From.IsZero() && x.Filter.To.IsZero() {
		return 0, size, nil
	}
	err = x.db.Read(ctx, func(tx pgx.Tx) (err error) {
		from, to, err = x.claimed(ctx, tx)
		return err
	})
	if err != nil {
		return 0, 0, fmt.Errorf("finding the export's range: %w", err)
	}
	const b = record.BlockSize
	if from == to {
		from = from / b * b
		to = from
	} else {
		from, to = from/b*b, min((to+b-1)/b*b, size)
	}
	for step := int64(b); to < size; step = min(2*step, pageBlocks*b) {
		sound, err := x.sound(ctx, to, min(to+b, size))
		if err != nil {
			return 0, 0, err
		}
		if sound {
			break
		}
		to = min(to+step, size)
	}
	for step := int64(b); from > 0; step = min(2*step, pageBlocks*b) {
		sound, err := x.sound(ctx, from-b, from)
		if err != nil {
			return 0, 0, err
		}
		if sound {
			break
		}
		from = max(from-step, 0)
	}
	if from == to {
		return 0, 0, nil
	}
	return from, to, nil
}

// witnesses is how many entries on either side of a time range are asked for their
// leaves: leaves stand in order of time but for transactions that ran side by side.
const witnesses = 64

// claimed returns the leaves that the entries, as they are now, put into the time range
// and between what is before and after it.
func (x *exporter) claimed(ctx context.Context, tx pgx.Tx) (from, to int64, err error) {
	f, size := audit.Filter{From: x.Filter.From, To: x.Filter.To}, x.head.Size
	where, args := f.Where("e", []any{x.head.SealedBelow(), x.minSeq})
	if err := x.passed(ctx, tx, where, args[2:]...); err != nil {
		return 0, 0, err
	}
	joined := ` FROM ` + x.Log.Table("audit_entry") + ` e JOIN ` + x.Log.Table("audit_leaf") + ` l ON l.seq = e.seq WHERE l.leaf_index < $1 AND `
	where, args = f.Where("e", []any{size})
	var first, last *int64
	if err := tx.QueryRow(ctx, `SELECT min(l.leaf_index), max(l.leaf_index)`+joined+where, args...).Scan(&first, &last); err != nil {
		return 0, 0, err
	}
	before, after := int64(0), size
	if !f.From.IsZero() {
		if err := tx.QueryRow(ctx, `SELECT coalesce(max(leaf_index) + 1, 0) FROM (SELECT l.leaf_index`+joined+`e.at < $2
			ORDER BY e.at DESC, e.seq DESC LIMIT $3) AS n`, size, f.From, witnesses).Scan(&before); err != nil {
			return 0, 0, err
		}
	}
	if !f.To.IsZero() {
		if err := tx.QueryRow(ctx, `SELECT coalesce(min(leaf_index), $1) FROM (SELECT l.leaf_index`+joined+`e.at >= $2
			ORDER BY e.at, e.seq LIMIT $3) AS n`, size, f.To, witnesses).Scan(&after); err != nil {
			return 0, 0, err
		}
	}
	from, to = min(before, after), max(before, after)
	if first != nil && last != nil {
		from, to = min(from, *first), max(to, *last+1)
	}
	return from, to, nil
}

// sound tells whether every one of the leaves [from, to) is there with its entry, as it
// was sealed.
func (x *exporter) sound(ctx context.Context, from, to int64) (sound bool, err error) {
	err = x.db.Read(ctx, func(tx pgx.Tx) error {
		leaves, err := x.leaves(ctx, tx, from, to)
		sound = int64(len(leaves)) == to-from
		for _, l := range leaves {
			sound = sound && l.sound
		}
		return err
	})
	return sound, err
}
