package keyring

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/caresphere/caresphere/internal/kms/driver"
)

// ledger remembers shredded keys in a file of JSON lines outside the keyring's
// directory: a backup of the directory that is restored later still has the
// shredded keys, and the ledger says that they are dead.
type ledger struct {
	path string

	mu   sync.Mutex
	seen os.FileInfo
	gone map[string]bool
}

type ledgerLine struct {
	Key string    `json:"key"`
	At  time.Time `json:"at"`
}

// has tells whether the key was shredded. The file is read again only when it changed.
func (l *ledger) has(key string) (bool, error) {
	if l.path == "" {
		return false, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	info, err := os.Stat(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		if l.seen != nil {
			return false, fmt.Errorf("keyring: the shred ledger vanished: %w", driver.ErrIntegrity)
		}
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("keyring: shred ledger: %w: %w", driver.ErrUnavailable, err)
	}
	if l.seen == nil || !os.SameFile(l.seen, info) || l.seen.Size() != info.Size() || !l.seen.ModTime().Equal(info.ModTime()) {
		raw, err := os.ReadFile(l.path)
		if err != nil {
			return false, fmt.Errorf("keyring: shred ledger: %w: %w", driver.ErrUnavailable, err)
		}
		gone, _, err := parseLedger(raw)
		if err != nil {
			return false, err
		}
		l.seen, l.gone = info, gone
	}
	return l.gone[key], nil
}

// parseLedger returns the keys in the ledger, and how much of it is whole. What stands
// behind that is the beginning of a line whose writer was killed or had no room: nobody
// was told that its key is shredded. A line that lacks nothing but its end counts, for
// no part of one can be read as a whole. Any other line that cannot be read is ErrIntegrity.
func parseLedger(raw []byte) (gone map[string]bool, whole int, err error) {
	gone = map[string]bool{}
	for text := range bytes.Lines(raw) {
		var line ledgerLine
		if err := json.Unmarshal(text, &line); err != nil {
			if text[len(text)-1] != '\n' {
				break
			}
			return nil, 0, fmt.Errorf("keyring: a line of the shred ledger is not readable: %w", driver.ErrIntegrity)
		}
		gone[line.Key] = true
		whole += len(text)
	}
	return gone, whole, nil
}

// add appends the key and syncs; the keyring's lock is held. When it fails the ledger
// is as it was, as far as the disk lets it.
func (l *ledger) add(key string) error {
	if l.path == "" {
		return nil
	}
	// A ledger that vanished is not begun anew.
	if _, err := l.has(key); err != nil {
		return err
	}
	f, err := os.OpenFile(l.path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("keyring: shred ledger: %w: %w", driver.ErrUnavailable, err)
	}
	err = appendKey(f, key)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = syncDir(filepath.Dir(l.path))
	}
	if err != nil && !errors.Is(err, driver.ErrIntegrity) {
		err = fmt.Errorf("keyring: shred ledger: %w: %w", driver.ErrUnavailable, err)
	}
	return err
}

// appendKey writes the key's line behind what is whole of the file, unless it is there.
func appendKey(f *os.File, key string) error {
	raw, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	gone, whole, err := parseLedger(raw)
	if err != nil {
		return err
	}
	if whole < len(raw) {
		if err := f.Truncate(int64(whole)); err != nil {
			return err
		}
	}
	var line []byte
	if whole > 0 && raw[whole-1] != '\n' {
		line = []byte("\n")
	}
	if !gone[key] {
		entry, err := json.Marshal(ledgerLine{Key: key, At: time.Now().UTC()})
		if err != nil {
			return err
		}
		line = append(append(line, entry...), '\n')
	}
	_, err = f.Write(line)
	if err == nil {
		// Also for a key that is there: who wrote it may have died before this.
		err = f.Sync()
	}
	if err != nil {
		err = errors.Join(err, f.Truncate(int64(whole)))
	}
	return err
}
