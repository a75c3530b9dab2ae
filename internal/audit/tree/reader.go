// Package tree reads a log's Merkle tree (RFC 6962) and its signed heads from the
// database, for the sealer and for exports.
//
// It owns where hashes, checkpoints and epochs are stored and how a checkpoint (C2SP
// tlog-checkpoint) and the statement of an epoch are spelled. It trusts nothing that
// it reads: it refuses an epoch that was not signed, and callers compare roots with
// what was signed and anchored. It never writes.
package tree

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/caresphere/caresphere/internal/audit"
)

// Querier is a pool, a connection or a transaction.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// ErrMissingHash is wrapped where the database lacks a hash that the tree's size
// says is there: somebody took it away.
var ErrMissingHash = errors.New("a stored hash is missing")

// Reader returns a reader of the log's stored hashes.
func Reader(ctx context.Context, q Querier, l audit.Log) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		var leaves, nodes []int64
		place := make(map[int64]int, len(indexes))
		for i, x := range indexes {
			place[x] = i
			if level, n := tlog.SplitStoredHashIndex(x); level == 0 {
				leaves = append(leaves, n)
			} else {
				nodes = append(nodes, x)
			}
		}
		found := 0
		read := func(sql string, keys []int64, index func(int64) int64) error {
			if len(keys) == 0 {
				return nil
			}
			rows, err := q.Query(ctx, sql, keys)
			if err != nil {
				return err
			}
			var key int64
			var hash []byte
			_, err = pgx.ForEachRow(rows, []any{&key, &hash}, func() error {
				if i, ok := place[index(key)]; ok && len(hash) == tlog.HashSize {
					out[i] = tlog.Hash(hash)
					found++
				}
				return nil
			})
			return err
		}
		err := read("SELECT leaf_index, hash FROM "+l.Table("audit_leaf")+" WHERE leaf_index = ANY($1)", leaves,
			func(n int64) int64 { return tlog.StoredHashIndex(0, n) })
		if err == nil {
			err = read("SELECT hash_index, hash FROM "+l.Table("audit_hash")+" WHERE hash_index = ANY($1)", nodes,
				func(x int64) int64 { return x })
		}
		if err != nil {
			return nil, fmt.Errorf("reading hashes of log %s: %w", l.Name(), err)
		}
		if found != len(place) {
			return nil, fmt.Errorf("log %s: %w", l.Name(), ErrMissingHash)
		}
		return out, nil
	})
}

// Head is the newest checkpoint of an epoch with the bounds of what it sealed.
type Head struct {
	Size       int64
	Root       tlog.Hash
	Note       string
	XidFrom    uint64
	XidTo      uint64
	LastSeq    int64
	WindowDone bool
	SealedAt   time.Time
}

// SealedBelow is the transaction id below which every entry is sealed.
func (h Head) SealedBelow() uint64 {
	if h.WindowDone {
		return h.XidTo
	}
	return h.XidFrom
}

// Latest returns the epoch's newest head; a zero Size means there is none yet.
func Latest(ctx context.Context, q Querier, l audit.Log, epoch int) (Head, error) {
	var h Head
	var root []byte
	err := q.QueryRow(ctx, `SELECT tree_size, root, note, xid_from, xid_to, last_seq, window_done, sealed_at
		FROM `+l.Table("audit_checkpoint")+` WHERE epoch = $1 ORDER BY tree_size DESC LIMIT 1`, epoch).
		Scan(&h.Size, &root, &h.Note, &h.XidFrom, &h.XidTo, &h.LastSeq, &h.WindowDone, &h.SealedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return Head{}, nil
	}
	if err != nil {
		return h, fmt.Errorf("reading the head of log %s: %w", l.Name(), err)
	}
	copy(h.Root[:], root)
	return h, nil
}
