package keyring

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
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
		gone := map[string]bool{}
		for lines := bufio.NewScanner(bytes.NewReader(raw)); lines.Scan(); {
			var line ledgerLine
			if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
				return false, fmt.Errorf("keyring: a line of the shred ledger is not readable: %w", driver.ErrIntegrity)
			}
			gone[line.Key] = true
		}
		l.seen, l.gone = info, gone
	}
	return l.gone[key], nil
}

// add appends the key and syncs; the keyring's lock is held.
func (l *ledger) add(key string) error {
	if l.path == "" {
		return nil
	}
	if known, err := l.has(key); err != nil || known {
		return err
	}
	line, err := json.Marshal(ledgerLine{Key: key, At: time.Now().UTC()})
	if err != nil {
		return fmt.Errorf("keyring: shred ledger: %w", err)
	}
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err == nil {
		_, err = f.Write(append(line, '\n'))
		if err == nil {
			err = f.Sync()
		}
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}
	if err == nil {
		err = syncDir(filepath.Dir(l.path))
	}
	if err != nil {
		return fmt.Errorf("keyring: shred ledger: %w: %w", driver.ErrUnavailable, err)
	}
	return nil
}
