package keyring

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/caresphere/caresphere/internal/kms/driver"
)

// Ensure implements driver.KMS.
func (r *Keyring) Ensure(ctx context.Context, key string) error {
	if err := driver.CheckKey(key); err != nil {
		return err
	}
	unlock, err := r.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	gone, err := r.ledger.has(key)
	if err != nil {
		return err
	}
	k, err := r.read(key)
	if err != nil {
		return err
	}
	if gone || k != nil && k.State == driver.StateShredded {
		return fmt.Errorf("keyring: a shredded key is not made again: %w", driver.ErrKeyGone)
	}
	if k != nil {
		_, err := r.open(k, k.newest())
		return err
	}
	k = &tenantKey{Name: key, State: driver.StateAlive, MinVersion: 1}
	r.addVersion(k)
	return r.write(k)
}

// change applies fn to a live key under the lock and stores what it made.
func (r *Keyring) change(ctx context.Context, key string, fn func(*tenantKey) error) error {
	unlock, err := r.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	k, err := r.live(key)
	if err != nil {
		return err
	}
	if err := fn(k); err != nil {
		return err
	}
	return r.write(k)
}

// Rotate implements driver.KMS.
func (r *Keyring) Rotate(ctx context.Context, key string) (int, error) {
	var number int
	err := r.change(ctx, key, func(k *tenantKey) error {
		r.addVersion(k)
		number = k.newest().Number
		return nil
	})
	return number, err
}

// Retire implements driver.KMS.
func (r *Keyring) Retire(ctx context.Context, key string, minVersion int) error {
	return r.change(ctx, key, func(k *tenantKey) error {
		if minVersion > k.newest().Number {
			return fmt.Errorf("keyring: there is no version %d to keep: %w", minVersion, driver.ErrInvalid)
		}
		k.MinVersion = max(k.MinVersion, minVersion)
		k.Versions = slices.DeleteFunc(k.Versions, func(v version) bool { return v.Number < k.MinVersion })
		return nil
	})
}

// Disable implements driver.KMS.
func (r *Keyring) Disable(ctx context.Context, key string) error {
	return r.change(ctx, key, func(k *tenantKey) error { k.State = driver.StateDisabled; return nil })
}

// Enable implements driver.KMS.
func (r *Keyring) Enable(ctx context.Context, key string) error {
	return r.change(ctx, key, func(k *tenantKey) error { k.State = driver.StateAlive; return nil })
}

// Shred implements driver.KMS. The ledger learns of it first: a crash in between
// leaves a key that is refused already, and a second Shred finishes the work.
// The blocks of the old file, and of files that a killed writer left beside it, are
// overwritten as far as the file system allows.
func (r *Keyring) Shred(ctx context.Context, key string) error {
	if err := driver.CheckKey(key); err != nil {
		return err
	}
	unlock, err := r.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := r.ledger.add(key); err != nil {
		return err
	}
	if err := r.sweep(); err != nil {
		return err
	}
	old, err := os.OpenFile(r.path(key), os.O_RDWR, 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("keyring: shredding: %w: %w", driver.ErrUnavailable, err)
	}
	if old != nil {
		defer func() { _ = old.Close() }()
	}
	if err := r.write(&tenantKey{Name: key, State: driver.StateShredded}); err != nil {
		return err
	}
	if old == nil {
		return nil
	}
	if err := overwrite(old); err != nil {
		return fmt.Errorf("keyring: overwriting the old key: %w: %w", driver.ErrUnavailable, err)
	}
	return nil
}

// overwrite fills the file, which has no name any more or loses it next, with random bytes.
func overwrite(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	noise := make([]byte, info.Size())
	_, _ = rand.Read(noise)
	if _, err := f.WriteAt(noise, 0); err != nil {
		return err
	}
	return f.Sync()
}

// Status implements driver.KMS.
func (r *Keyring) Status(_ context.Context, key string) (driver.Status, error) {
	if err := driver.CheckKey(key); err != nil {
		return driver.Status{}, err
	}
	gone, err := r.ledger.has(key)
	if err != nil {
		return driver.Status{}, err
	}
	k, err := r.read(key)
	switch {
	case err != nil:
		return driver.Status{}, err
	case gone || k != nil && k.State == driver.StateShredded:
		return driver.Status{State: driver.StateShredded}, nil
	case k == nil:
		return driver.Status{State: driver.StateAbsent}, nil
	}
	return driver.Status{State: k.State, Version: k.newest().Number, MinVersion: k.MinVersion}, nil
}
