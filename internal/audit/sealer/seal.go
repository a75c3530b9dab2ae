package sealer

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/audit/record"
	"github.com/caresphere/caresphere/internal/audit/tree"
	"github.com/caresphere/caresphere/internal/pg"
)

// ErrBusy is returned when another process seals the log at this moment.
var ErrBusy = errors.New("the log is being sealed by somebody else")

// TamperError says that a log's tables do not agree with what was signed or
// anchored. The log is not extended until a person has looked.
type TamperError struct {
	Log  string
	What string
}

// Error implements error.
func (e *TamperError) Error() string { return "audit log " + e.Log + ": " + e.What }

// Result is what one call of Seal did.
type Result struct {
	Sealed int
	Size   int64
	// Oldest is when the oldest committed entry was written that cannot be sealed
	// yet, because a transaction that began before it still runs; zero if there is none.
	Oldest time.Time
}

// Log seals one log.
type Log struct {
	Log      audit.Log
	Pool     *pgxpool.Pool
	Anchor   Anchor
	Signer   note.Signer
	Verifier note.Verifier
	// Batch is how many entries one transaction seals; 20,000 if zero.
	Batch int
	// Recent is how far back Seal looks for entries that were passed over: it does not
	// if zero.
	Recent time.Duration
}

// Seal seals every entry that no running transaction can still come before, signs
// and anchors a head for each batch. Killed anywhere it leaves whole batches, and
// the next call anchors what the killed one had committed. Errors: *TamperError,
// ErrBusy, or what the database or the anchor said.
func (l Log) Seal(ctx context.Context) (Result, error) {
	l = l.withDefaults()
	conn, err := l.Pool.Acquire(ctx)
	if err != nil {
		return Result{}, fmt.Errorf("sealing log %s: %w", l.Log.Name(), err)
	}
	defer conn.Release()
	var total Result
	for {
		r, more, err := l.batch(ctx, conn.Conn())
		total.Sealed += r.Sealed
		total.Size, total.Oldest = r.Size, r.Oldest
		if err != nil || !more {
			return total, err
		}
		l.Recent = 0 // once is enough
	}
}

func (l Log) withDefaults() Log {
	if l.Batch <= 0 {
		l.Batch = 20_000
	}
	return l
}

// batch seals at most one batch; more tells whether there may be another.
func (l Log) batch(ctx context.Context, conn *pgx.Conn) (r Result, more bool, err error) {
	epoch, err := l.epoch(ctx, conn)
	if err != nil {
		return r, false, err
	}
	// Read before the snapshot: what is anchored by now was committed before it, so
	// an anchor ahead of the snapshot is never another sealer's fresh work.
	anchored, err := l.Anchor.Last(ctx, l.Log.Origin(epoch.Number))
	if errors.Is(err, ErrFork) {
		return r, false, l.tampered("%v", err)
	}
	if err != nil {
		return r, false, err
	}
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		return r, false, fmt.Errorf("sealing log %s: %w", l.Log.Name(), err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if err := l.lock(ctx, tx, epoch.Number); err != nil {
		return r, false, err
	}
	head, err := tree.Latest(ctx, tx, l.Log, epoch.Number)
	if err != nil {
		return r, false, err
	}
	hashes, err := l.prove(ctx, tx, epoch, head, anchored)
	if err != nil {
		return r, false, err
	}
	if head.Size > 0 && (anchored == nil || anchored.Size < head.Size) {
		// A sealer died between its commit and its anchor.
		if err := l.anchor(ctx, epoch, head.Size, head.Root, head.Note); err != nil {
			return r, false, err
		}
	}
	w, err := l.window(ctx, tx, epoch, head)
	if err != nil {
		return r, false, err
	}
	if err := l.passed(ctx, tx, epoch, head); err != nil {
		return r, false, err
	}
	size := head.Size
	next, err := l.extend(ctx, tx, hashes, size, &w)
	if err != nil {
		return r, false, err
	}
	r.Size = next
	if next == size {
		if w.reopened {
			return r, false, l.tampered("entries that were waiting to be sealed are gone")
		}
		r.Oldest, err = l.oldest(ctx, tx, w.to, epoch.MinSeq)
		return r, false, err
	}
	root, err := tlog.TreeHash(next, hashes)
	if err != nil {
		return r, false, fmt.Errorf("computing the root of log %s: %w", l.Log.Name(), err)
	}
	signed, err := l.checkpoint(ctx, tx, epoch.Number, next, root, w)
	if err != nil {
		return r, false, err
	}
	if w.done {
		if r.Oldest, err = l.oldest(ctx, tx, w.to, epoch.MinSeq); err != nil {
			return r, false, err
		}
	}
	if err := tx.Commit(ctx); err != nil {
		return r, false, l.insertError(err)
	}
	r.Sealed = int(next - size)
	if err := l.anchor(ctx, epoch, next, root, signed); err != nil {
		return r, false, err
	}
	return r, !w.done || w.reopened, nil
}

// checkpoint signs and stores a head.
func (l Log) checkpoint(ctx context.Context, tx pgx.Tx, epoch int, size int64, root tlog.Hash, w window) (string, error) {
	signed, err := tree.Checkpoint{Origin: l.Log.Origin(epoch), Size: size, Root: root}.Sign(l.Signer)
	if err != nil {
		return "", err
	}
	if _, err := tx.Exec(ctx, `INSERT INTO `+l.Log.Table("audit_checkpoint")+`
		(epoch, tree_size, root, note, xid_from, xid_to, last_seq, window_done) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		epoch, size, root[:], signed, w.from, w.to, w.lastSeq, w.done); err != nil {
		return "", l.insertError(err)
	}
	return signed, nil
}

// lock makes this the log's only sealer until the transaction's end, unless another
// epoch was begun since this one was read.
func (l Log) lock(ctx context.Context, tx pgx.Tx, epoch int) error {
	var newest int
	err := tx.QueryRow(ctx, `SELECT (SELECT max(epoch) FROM `+l.Log.Table("audit_epoch")+`) FROM `+l.Log.Table("audit_epoch")+`
		WHERE epoch = $1 FOR UPDATE SKIP LOCKED`, epoch).Scan(&newest)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && newest != epoch {
		return ErrBusy
	}
	if err != nil {
		return fmt.Errorf("locking log %s: %w", l.Log.Name(), err)
	}
	return nil
}

// prove shows that the stored tree is the one that was signed and anchored, and
// returns its frontier: all that extending it needs.
func (l Log) prove(ctx context.Context, tx pgx.Tx, epoch tree.Epoch, head tree.Head, anchored *Anchored) (frontier, error) {
	stored := tree.Reader(ctx, tx, l.Log)
	if anchored != nil {
		c, err := tree.Open(anchored.Note, l.Verifier)
		if err != nil || c.Origin != l.Log.Origin(epoch.Number) || c.Size != anchored.Size || c.Root != anchored.Root {
			return nil, l.tampered("the anchor does not hold a head that we signed")
		}
		if anchored.Size > head.Size {
			return nil, l.tampered("it was cut: %d entries are anchored, %d are sealed here", anchored.Size, head.Size)
		}
	}
	if head.Size < epoch.StartSize {
		return nil, l.tampered("it was cut: epoch %d began with %d entries, %d are sealed here", epoch.Number, epoch.StartSize, head.Size)
	}
	f := frontier{}
	root, err := f.read(stored, head.Size)
	if errors.Is(err, tree.ErrMissingHash) {
		return nil, l.tampered("stored hashes are missing")
	}
	if err != nil {
		return nil, err
	}
	if head.Size == 0 {
		return f, nil
	}
	c, err := tree.Open(head.Note, l.Verifier)
	if err != nil || c.Origin != l.Log.Origin(epoch.Number) || c.Size != head.Size || c.Root != head.Root {
		return nil, l.tampered("its newest checkpoint is not one that we signed")
	}
	if root != head.Root {
		return nil, l.tampered("its stored hashes do not give the signed root of %d entries", head.Size)
	}
	if anchored == nil && epoch.StartSize > 0 {
		// The statement is all that is kept outside of an epoch without an anchored head.
		anchored = &Anchored{Size: epoch.StartSize, Root: epoch.Root}
	}
	if anchored == nil {
		return f, nil
	}
	proof, err := tlog.ProveTree(head.Size, anchored.Size, stored)
	if err != nil && !errors.Is(err, tree.ErrMissingHash) {
		return nil, fmt.Errorf("proving log %s: %w", l.Log.Name(), err)
	}
	if err != nil || tlog.CheckTree(proof, head.Size, head.Root, anchored.Size, anchored.Root) != nil {
		return nil, l.tampered("it does not continue the anchored tree of %d entries", anchored.Size)
	}
	return f, nil
}

// anchor keeps the head outside. A fork is tampering like any other.
func (l Log) anchor(ctx context.Context, epoch tree.Epoch, size int64, root tlog.Hash, signed string) error {
	err := l.Anchor.Put(ctx, Anchored{Origin: l.Log.Origin(epoch.Number), Size: size, Root: root, Note: signed})
	if errors.Is(err, ErrFork) {
		return l.tampered("%v", err)
	}
	return err
}

// insertError turns a collision with another sealer's rows into ErrBusy: the
// snapshot was taken before that one's commit.
func (l Log) insertError(err error) error {
	// The other sealer's leaves have the indexes too, which are looked at first.
	if pg.IsUnique(err, "audit_leaf_seq") {
		return l.tampered("an entry has a leaf already that is not sealed by its newest head: the head's bound was moved back, or a leaf put in")
	}
	if pg.IsUnique(err, "") || pg.IsCode(err, "40001") {
		return ErrBusy
	}
	return fmt.Errorf("sealing log %s: %w", l.Log.Name(), err)
}

func (l Log) tampered(format string, args ...any) error {
	return &TamperError{Log: l.Log.Name(), What: fmt.Sprintf(format, args...)}
}

// extend appends the window's next entries to the tree and stores leaves and
// hashes. It returns the new size.
func (l Log) extend(ctx context.Context, tx pgx.Tx, f frontier, size int64, w *window) (int64, error) {
	condition := `c.xid >= $1 AND c.xid < $2 AND c.seq > $3`
	if w.reopened {
		// Everything up to lastSeq is sealed: by seq a batch reads its own entries alone, by
		// transaction, which this keeps the planner from, those of all batches to come.
		condition = `(c.xid >= $1 AND c.xid < $2) IS TRUE AND c.seq > $3`
	}
	g, err := l.grow(ctx, tx, f, size, condition, w.from, w.to, w.lastSeq)
	w.done = g.done
	if g.size > size {
		w.lastSeq = g.lastSeq
	}
	return g.size, err
}

// growth is what grow did.
type growth struct {
	size, lastSeq int64
	// done: there was no more.
	done bool
}

// grow appends the entries that the condition on c chooses, in order of seq and
// at most a batch. They are chosen by seq alone, and only those are read whole: whatever
// has to be sorted is small.
func (l Log) grow(ctx context.Context, tx pgx.Tx, f frontier, size int64, condition string, args ...any) (growth, error) {
	g := growth{size: size, done: true}
	fail := func(err error) (growth, error) { return g, fmt.Errorf("sealing log %s: %w", l.Log.Name(), err) }
	// One more than a batch tells whether this one is the last.
	table := l.Log.Table("audit_entry")
	rows, err := tx.Query(ctx, `SELECT `+audit.EntryColumns(l.Log, "e")+`
		FROM (SELECT c.seq FROM `+table+` c WHERE `+condition+` ORDER BY c.seq LIMIT `+strconv.Itoa(l.Batch+1)+`) AS chosen
		JOIN `+table+` e ON e.seq = chosen.seq ORDER BY chosen.seq`, args...)
	if err != nil {
		return fail(err)
	}
	defer rows.Close()
	var leaves, nodes [][]any
	var canonical []byte
	for rows.Next() {
		if int(g.size-size) == l.Batch {
			g.done = false
			break
		}
		e, err := audit.ScanEntry(l.Log, rows)
		if err != nil {
			return fail(err)
		}
		canonical = record.Append(canonical[:0], &e)
		added, err := f.append(g.size, tlog.RecordHash(canonical))
		if err != nil {
			return fail(err)
		}
		at := tlog.StoredHashIndex(0, g.size)
		leaves = append(leaves, []any{g.size, e.Seq, added[0][:]})
		for i := range added[1:] {
			nodes = append(nodes, []any{at + 1 + int64(i), added[1+i][:]})
		}
		g.lastSeq = e.Seq
		g.size++
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return fail(err)
	}
	if err := l.store(ctx, tx, "audit_leaf", []string{"leaf_index", "seq", "hash"}, leaves); err != nil {
		return g, err
	}
	return g, l.store(ctx, tx, "audit_hash", []string{"hash_index", "hash"}, nodes)
}

func (l Log) store(ctx context.Context, tx pgx.Tx, table string, columns []string, rows [][]any) error {
	if len(rows) == 0 {
		return nil
	}
	if _, err := tx.CopyFrom(ctx, pgx.Identifier{l.Log.Schema, table}, columns, pgx.CopyFromRows(rows)); err != nil {
		return l.insertError(err)
	}
	return nil
}

// oldest returns when the oldest entry was written that is committed and cannot
// be sealed yet.
func (l Log) oldest(ctx context.Context, tx pgx.Tx, to uint64, minSeq int64) (time.Time, error) {
	var at *time.Time
	if err := tx.QueryRow(ctx, `SELECT min(at) FROM `+l.Log.Table("audit_entry")+` WHERE xid >= $1 AND seq > $2`, to, minSeq).Scan(&at); err != nil {
		return time.Time{}, fmt.Errorf("measuring the lag of log %s: %w", l.Log.Name(), err)
	}
	if at == nil {
		return time.Time{}, nil
	}
	return *at, nil
}
