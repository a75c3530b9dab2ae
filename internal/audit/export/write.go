package export

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/audit/record"
	"github.com/caresphere/caresphere/internal/audit/tree"
	"github.com/caresphere/caresphere/tenants"
)

// Format is a form of the file. Both have the same content.
type Format string

// The formats.
const (
	JSONLines Format = "jsonl"
	CSV       Format = "csv"
)

// Reader runs fn in a short transaction that may read the trail. The export uses
// many, one after the other: what it reads never changes, so they agree.
type Reader interface {
	Read(ctx context.Context, fn func(pgx.Tx) error) error
}

// Options say what to export.
type Options struct {
	Log    audit.Log
	Filter audit.Filter
	Format Format
	// Known are the sealer's public keys, named caresphere-audit: an epoch that none of
	// them signed is refused.
	Known note.Verifiers
	// Signer holds the export key, named caresphere-export.
	Signer note.Signer
	// Ask asks the sealer to look at the log; nil if it does so on its own.
	Ask func(context.Context) error
	// Wait bounds the wait for entries that are not sealed yet; 10 s if zero.
	Wait time.Duration
}

// pageBlocks is how many blocks one transaction reads.
const pageBlocks = 32

// Write writes the export. It has every entry that was committed when it began
// and that the filter chooses: it first waits for the sealer to reach that point.
// Errors: of kind KindUnavailable when the sealer does not get there in time, of
// kind KindIntegrity when the tree in the database is not whole; else the
// reader's or w's. What was written before an error has no footer and does not
// verify.
func Write(ctx context.Context, db Reader, w io.Writer, o Options) error {
	epoch, head, err := awaitSealed(ctx, db, o)
	if err != nil {
		return err
	}
	x := &exporter{Options: o, db: db, head: head, origin: o.Log.Origin(epoch)}
	if x.lines, err = newLineWriter(w, o.Format); err != nil {
		return err
	}
	from, to, err := x.bounds(ctx)
	if err != nil {
		return err
	}
	content, err := json.Marshal(record.Header{
		Format: record.ExportFormat, Log: x.origin, Epoch: epoch, Scope: scope(o.Filter),
		FromLeaf: from, ToLeaf: to, TreeSize: head.Size, Checkpoint: head.Note, MadeAt: record.FormatTime(time.Now()),
	})
	if err != nil {
		return fmt.Errorf("writing the export's header: %w", err)
	}
	if err := x.lines.write(line{kind: record.LineHeader, leaf: -1, content: content}); err != nil {
		return err
	}
	for at := from; at < to; {
		next := min(at+pageBlocks*record.BlockSize, to)
		if err := db.Read(ctx, func(tx pgx.Tx) error { return x.page(ctx, tx, at, next) }); err != nil {
			return err
		}
		at = next
	}
	return x.footer()
}

type exporter struct {
	Options
	db      Reader
	head    tree.Head
	origin  string
	lines   *lineWriter
	entries int64
}

// bounds returns the whole blocks that hold the filter's time range.
func (x *exporter) bounds(ctx context.Context) (from, to int64, err error) {
	if x.Filter.From.IsZero() && x.Filter.To.IsZero() {
		return 0, x.head.Size, nil
	}
	where, args := audit.Filter{From: x.Filter.From, To: x.Filter.To}.Where("e", []any{x.head.Size})
	var first, last *int64
	err = x.db.Read(ctx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT min(l.leaf_index), max(l.leaf_index) FROM `+x.Log.Table("audit_entry")+` e
			JOIN `+x.Log.Table("audit_leaf")+` l ON l.seq = e.seq WHERE l.leaf_index < $1 AND `+where, args...).Scan(&first, &last)
	})
	if err != nil {
		return 0, 0, fmt.Errorf("finding the export's range: %w", err)
	}
	if first == nil || last == nil {
		return 0, 0, nil
	}
	const b = record.BlockSize
	return *first / b * b, min((*last/b+1)*b, x.head.Size), nil
}

// page writes the blocks of leaves [from, to).
func (x *exporter) page(ctx context.Context, tx pgx.Tx, from, to int64) error {
	stored := tree.Reader(ctx, tx, x.Log)
	proofs := make([]line, 0, pageBlocks)
	for at := from; at < to; at += record.BlockSize {
		p, err := x.prove(stored, at)
		if err != nil {
			return err
		}
		proofs = append(proofs, p)
	}
	rows, err := tx.Query(ctx, `SELECT l.leaf_index, l.hash, `+audit.EntryColumns(x.Log, "e")+`
		FROM `+x.Log.Table("audit_leaf")+` l LEFT JOIN `+x.Log.Table("audit_entry")+` e ON e.seq = l.seq
		WHERE l.leaf_index >= $1 AND l.leaf_index < $2 ORDER BY l.leaf_index`, from, to)
	if err != nil {
		return fmt.Errorf("reading the trail: %w", err)
	}
	defer rows.Close()
	block := make([]line, 0, record.BlockSize)
	flush := func(index int64) error {
		err := x.block(block, proofs[index])
		block = block[:0]
		return err
	}
	current := int64(0)
	for rows.Next() {
		l, err := x.leaf(rows)
		if err != nil {
			return err
		}
		for ; (l.leaf-from)/record.BlockSize > current; current++ {
			if err := flush(current); err != nil {
				return err
			}
		}
		block = append(block, l)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("reading the trail: %w", err)
	}
	for ; current < int64(len(proofs)); current++ {
		if err := flush(current); err != nil {
			return err
		}
	}
	return nil
}

// leaf makes the line of one leaf.
func (x *exporter) leaf(rows pgx.Rows) (line, error) {
	var l line
	var hash []byte
	var row audit.Row
	if err := rows.Scan(append([]any{&l.leaf, &hash}, row.Targets()...)...); err != nil {
		return l, fmt.Errorf("reading the trail: %w", err)
	}
	l.hash = hex.EncodeToString(hash)
	if !row.Present() {
		l.kind = record.LineMissing
		return l, nil
	}
	e, err := row.Entry(x.Log)
	if err != nil {
		return l, damaged(err)
	}
	if !x.Filter.Match(&e) {
		l.kind = record.LineWithheld
		return l, nil
	}
	l.kind, l.content = record.LineEntry, record.Append(nil, &e)
	if x.Format == CSV {
		l.cells = record.Cells(&e)
	}
	return l, nil
}

// block writes a block's lines and its proof. A block with nothing to show is its
// proof alone.
func (x *exporter) block(lines []line, proof line) error {
	show := false
	for _, l := range lines {
		show = show || l.kind != record.LineWithheld
	}
	if show {
		for _, l := range lines {
			if l.kind == record.LineEntry {
				x.entries++
			}
			if err := x.lines.write(l); err != nil {
				return err
			}
		}
	}
	return x.lines.write(proof)
}

// prove makes the block line of the block that begins at the leaf.
func (x *exporter) prove(stored tlog.HashReader, first int64) (line, error) {
	count := min(record.BlockSize, x.head.Size-first)
	proof, err := tlog.ProveRecord(x.head.Size, first, stored)
	if err != nil {
		return line{}, damaged(err)
	}
	// The path of the block's first leaf begins inside the block: what is left
	// after that part is the path of the block.
	inside := 0
	for 1<<inside < count {
		inside++
	}
	if inside > len(proof) {
		return line{}, damaged(fmt.Errorf("the proof of leaf %d is too short", first))
	}
	root, err := blockRoot(stored, first, count)
	if err != nil {
		return line{}, damaged(err)
	}
	b := record.Block{Count: int(count), Root: hex.EncodeToString(root[:]), Path: []string{}}
	for _, h := range proof[inside:] {
		b.Path = append(b.Path, hex.EncodeToString(h[:]))
	}
	content, err := json.Marshal(b)
	if err != nil {
		return line{}, fmt.Errorf("writing a block: %w", err)
	}
	return line{kind: record.LineBlock, leaf: first, content: content}, nil
}

// blockRoot is the root of a block's leaves: the stored hashes of its complete
// subtrees, largest first, joined from the right.
func blockRoot(stored tlog.HashReader, first, count int64) (tlog.Hash, error) {
	var indexes []int64
	for level, at := 6, first; count > 0; level-- {
		if size := int64(1) << level; count >= size {
			indexes = append(indexes, tlog.StoredHashIndex(level, at>>level))
			at += size
			count -= size
		}
	}
	hashes, err := stored.ReadHashes(indexes)
	if err != nil {
		return tlog.Hash{}, err
	}
	root := hashes[len(hashes)-1]
	for i := len(hashes) - 2; i >= 0; i-- {
		root = tlog.NodeHash(hashes[i], root)
	}
	return root, nil
}

func (x *exporter) footer() error {
	f := record.Footer{Entries: x.entries, Lines: x.lines.count, SHA256: x.lines.sum()}
	signed, err := note.Sign(&note.Note{Text: record.FooterText(x.origin, x.head.Size, f.Entries, f.Lines, f.SHA256)}, x.Signer)
	if err != nil {
		return fmt.Errorf("signing the export: %w", err)
	}
	f.Note = string(signed)
	content, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("writing the export's footer: %w", err)
	}
	return x.lines.end(content)
}

// scope states the filter in the header.
func scope(f audit.Filter) record.Scope {
	id := func(v tenants.ID) string {
		if v.IsZero() {
			return ""
		}
		return v.String()
	}
	at := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return record.FormatTime(t)
	}
	return record.Scope{Actor: id(f.Actor), From: at(f.From), To: at(f.To), RecordType: f.RecordType, RecordID: f.RecordID,
		Action: f.Action, Outcome: string(f.Outcome), Facility: id(f.Facility), Organization: id(f.Organization)}
}
