package keyring

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/caresphere/caresphere/internal/kms/driver"
)

// sweepPatience is how long Open waits for the lock to sweep.
const sweepPatience = 2 * time.Second

// sweepAtOpen removes what writers left that were killed between writing and renaming.
// Who cannot have the lock leaves it to the next one, and to Shred, which must: the
// file may be that of a writer at work, and keys can be used without the lock.
func (r *Keyring) sweepAtOpen() error {
	left, err := r.leftovers()
	if err != nil || len(left) == 0 {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), sweepPatience)
	defer cancel()
	unlock, err := r.lock(ctx)
	if err != nil {
		return nil
	}
	defer unlock()
	return r.sweep()
}

// sweep overwrites and removes the unfinished files among the keys. Each has some
// tenant's key in it, all versions, wrapped by a master key that lives on. The lock is
// held, so that none of them is being written.
func (r *Keyring) sweep() error {
	left, err := r.leftovers()
	if err != nil {
		return err
	}
	for _, path := range left {
		if err := destroy(path); err != nil {
			return fmt.Errorf("keyring: removing an unfinished key file: %w: %w", driver.ErrUnavailable, err)
		}
	}
	if len(left) == 0 {
		return nil
	}
	if err := syncDir(filepath.Join(r.dir, "keys")); err != nil {
		return fmt.Errorf("keyring: removing an unfinished key file: %w: %w", driver.ErrUnavailable, err)
	}
	return nil
}

// leftovers returns the paths of unfinished files among the keys.
func (r *Keyring) leftovers() (paths []string, err error) {
	dir := filepath.Join(r.dir, "keys")
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("keyring: listing keys: %w: %w", driver.ErrUnavailable, err)
	}
	for _, f := range files {
		if strings.HasPrefix(f.Name(), ".") && strings.HasSuffix(f.Name(), tmpSuffix) && f.Type().IsRegular() {
			paths = append(paths, filepath.Join(dir, f.Name()))
		}
	}
	return paths, nil
}

// destroy overwrites the file and removes it.
func destroy(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = overwrite(f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Remove(path)
}
