package sealer

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/audit/record"
	"github.com/caresphere/caresphere/internal/audit/tree"
)

// maxFindings bounds a report: the first ones say enough.
const maxFindings = 100

// Finding is one contradiction that Check found.
type Finding struct {
	// Leaf is the leaf index, or -1 where it is not about one.
	Leaf int64
	// Seq is the entry's number, or 0.
	Seq  int64
	What string
}

// CheckReport is what Check read and found.
type CheckReport struct {
	Entries  int64
	Findings []Finding
}

func (r *CheckReport) add(leaf, seq int64, format string, args ...any) {
	if len(r.Findings) < maxFindings {
		r.Findings = append(r.Findings, Finding{leaf, seq, fmt.Sprintf(format, args...)})
	}
}

// Check reads the whole log and recomputes everything from its entries: each
// entry against its leaf, the leaves against the signed head and the anchor, and
// that nothing below the sealed bound was left out. It takes a pass over the
// table; Seal alone proves the stored tree and does not look at old entries.
func (l Log) Check(ctx context.Context) (CheckReport, error) {
	var report CheckReport
	epoch, err := l.epoch(ctx, l.Pool)
	var tampered *TamperError
	if errors.As(err, &tampered) {
		report.add(-1, 0, "%s", tampered.What)
		return report, nil
	}
	if err != nil {
		return report, err
	}
	anchored, err := l.Anchor.Last(ctx, l.Log.Origin(epoch.Number))
	if err != nil {
		return report, err
	}
	head, err := tree.Latest(ctx, l.Pool, l.Log, epoch.Number)
	if err != nil {
		return report, err
	}
	f := frontier{}
	roots, err := l.rehash(ctx, f, &report, head, epoch, anchored)
	if err != nil {
		return report, err
	}
	if epoch.StartSize > 0 && roots[epoch.StartSize] != epoch.Root {
		report.add(-1, 0, "the leaves do not give the root of the %d entries that epoch %d began with", epoch.StartSize, epoch.Number)
	}
	if head.Size > 0 {
		c, err := tree.Open(head.Note, l.Verifier)
		switch {
		case err != nil || c.Size != head.Size || c.Root != head.Root || c.Origin != l.Log.Origin(epoch.Number):
			report.add(-1, 0, "the newest checkpoint is not one that we signed")
		case roots[head.Size] != head.Root:
			report.add(-1, 0, "the leaves do not give the signed root of %d entries", head.Size)
		}
	}
	if anchored != nil {
		c, err := tree.Open(anchored.Note, l.Verifier)
		switch {
		case err != nil || c.Size != anchored.Size || c.Root != anchored.Root:
			report.add(-1, 0, "the anchor does not hold a head that we signed")
		case anchored.Size > head.Size:
			report.add(-1, 0, "it was cut: %d entries are anchored, %d are sealed here", anchored.Size, head.Size)
		case roots[anchored.Size] != anchored.Root:
			report.add(-1, 0, "the leaves do not give the anchored root of %d entries", anchored.Size)
		}
	}
	// After the head was read, so that it can only have grown.
	var oldest uint64
	if err := l.Pool.QueryRow(ctx, "SELECT pg_snapshot_xmin(pg_current_snapshot())").Scan(&oldest); err != nil {
		return report, fmt.Errorf("checking log %s: %w", l.Log.Name(), err)
	}
	if ahead(head, oldest) {
		report.add(-1, 0, movedBound, head.XidTo, oldest)
	}
	return report, l.leftOut(ctx, &report, epoch, head)
}

// rehash reads leaves and entries in order and returns the roots at the sizes of
// head and anchor, and at the epoch's first.
func (l Log) rehash(ctx context.Context, f frontier, report *CheckReport, head tree.Head, epoch tree.Epoch, anchored *Anchored) (map[int64]tlog.Hash, error) {
	roots := map[int64]tlog.Hash{}
	at := map[int64]bool{head.Size: true, epoch.StartSize: true}
	if anchored != nil {
		at[anchored.Size] = true
	}
	var canonical []byte
	const page = 5000
	for next := int64(0); next < head.Size; {
		rows, err := l.Pool.Query(ctx, `SELECT l.leaf_index, l.seq, l.hash, `+audit.EntryColumns(l.Log, "e")+`
			FROM `+l.Log.Table("audit_leaf")+` l LEFT JOIN `+l.Log.Table("audit_entry")+` e ON e.seq = l.seq
			WHERE l.leaf_index >= $1 AND l.leaf_index < $2 ORDER BY l.leaf_index`, next, min(next+page, head.Size))
		if err != nil {
			return nil, fmt.Errorf("checking log %s: %w", l.Log.Name(), err)
		}
		var index, seq int64
		var hash []byte
		var row audit.Row
		_, err = pgx.ForEachRow(rows, append([]any{&index, &seq, &hash}, row.Targets()...), func() error {
			if index != next {
				report.add(next, 0, "leaves %d to %d are gone", next, index-1)
				return errStop
			}
			leaf := tlog.Hash(hash)
			if !row.Present() {
				report.add(index, seq, "the entry is gone")
			} else if e, err := row.Entry(l.Log); err != nil {
				report.add(index, seq, "the entry was changed: %v", err)
			} else if canonical = record.Append(canonical[:0], &e); tlog.RecordHash(canonical) != leaf {
				report.add(index, seq, "the entry was changed")
			}
			if _, err := f.append(index, leaf); err != nil {
				return err
			}
			next++
			report.Entries++
			if at[next] {
				root, err := tlog.TreeHash(next, f)
				roots[next] = root
				return err
			}
			return nil
		})
		if errors.Is(err, errStop) {
			return roots, nil
		}
		if err != nil {
			return nil, fmt.Errorf("checking log %s: %w", l.Log.Name(), err)
		}
		if next < min(next+1, head.Size) && rows.CommandTag().RowsAffected() == 0 {
			report.add(next, 0, "leaves from %d on are gone", next)
			return roots, nil
		}
		f.prune(next)
	}
	return roots, nil
}

var errStop = errors.New("stop")

// leftOut finds entries that the sealer has passed without sealing them: an xid
// that was changed, or a row that was put in later.
func (l Log) leftOut(ctx context.Context, report *CheckReport, epoch tree.Epoch, head tree.Head) error {
	rows, err := l.Pool.Query(ctx, `SELECT e.seq FROM `+l.Log.Table("audit_entry")+` e
		WHERE e.xid < $1 AND e.seq > $2 AND NOT EXISTS (SELECT FROM `+l.Log.Table("audit_leaf")+` l WHERE l.seq = e.seq)
		ORDER BY e.seq LIMIT $3`, head.SealedBelow(), epoch.MinSeq, maxFindings)
	if err != nil {
		return fmt.Errorf("checking log %s: %w", l.Log.Name(), err)
	}
	var seq int64
	_, err = pgx.ForEachRow(rows, []any{&seq}, func() error {
		report.add(-1, seq, "the entry was put in behind the sealer's back")
		return nil
	})
	if err != nil {
		return fmt.Errorf("checking log %s: %w", l.Log.Name(), err)
	}
	return nil
}
