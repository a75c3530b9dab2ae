package sealer

import (
	"golang.org/x/mod/sumdb/tlog"

	"github.com/caresphere/caresphere/internal/audit/tree"
)

// frontier is the part of a tree that extending it needs, by stored hash index:
// the roots of its complete subtrees, and what was added since.
type frontier map[int64]tlog.Hash

// ReadHashes implements tlog.HashReader.
func (f frontier) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		h, ok := f[x]
		if !ok {
			return nil, tree.ErrMissingHash
		}
		out[i] = h
	}
	return out, nil
}

// read fills an empty frontier with that of a stored tree and returns its root:
// the root is made of exactly these hashes.
func (f frontier) read(stored tlog.HashReader, size int64) (tlog.Hash, error) {
	if size == 0 {
		return tlog.Hash{}, nil
	}
	return tlog.TreeHash(size, tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		hashes, err := stored.ReadHashes(indexes)
		for i := range hashes {
			f[indexes[i]] = hashes[i]
		}
		return hashes, err
	}))
}

// append adds leaf n and returns the hashes to store: the leaf's, and those of
// the subtrees that it completes.
func (f frontier) append(n int64, leaf tlog.Hash) ([]tlog.Hash, error) {
	added, err := tlog.StoredHashesForRecordHash(n, leaf, f)
	at := tlog.StoredHashIndex(0, n)
	for i, h := range added {
		f[at+int64(i)] = h
	}
	return added, err
}

// prune forgets what a tree of this size does not need any more.
func (f frontier) prune(size int64) {
	kept := frontier{}
	if _, err := kept.read(f, size); err != nil {
		return
	}
	clear(f)
	for x, h := range kept {
		f[x] = h
	}
}
