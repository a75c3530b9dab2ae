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
// kind KindIntegrity when the tree in the database is not whole, an entry was passed
// over, or what says how far the log is sealed cannot be; else the reader's or w's. What was written before an error has no footer and does not
// verify.
func Write(ctx context.Context, db Reader, w io.Writer, o Options) error {
	epoch, head, err := awaitSealed(ctx, db, o)
	if err != nil {
		return err
	}
	x := &exporter{Options: o, db: db, head: head, origin: o.Log.Origin(epoch.Number), minSeq: epoch.MinSeq}
	if x.lines, err = newLineWriter(w, o.Format); err != nil {
		return err
	}
	from, to, err := x.bounds(ctx)
	if err != nil {
		return err
	}
	content, err := json.Marshal(record.Header{
		Format: record.ExportFormat, Log: x.origin, Epoch: epoch.Number, Scope: scope(o.Filter),
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
		var page []line
		if err := db.Read(ctx, func(tx pgx.Tx) (err error) {
			page, err = x.page(ctx, tx, at, next)
			return err
		}); err != nil {
			return err
		}
		// Not inside: whoever takes the file away may be slow, and would hold one of the
		// tenant's few connections for as long.
		for _, l := range page {
			if err := x.lines.write(l); err != nil {
				return err
			}
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
	// minSeq is the epoch's; checked is up to which number no entry was passed over.
	minSeq, checked int64
	canonical       []byte
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
