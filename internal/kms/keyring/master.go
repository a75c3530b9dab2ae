package keyring

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const masterSize = 32

// Create makes the directory and its master key when neither is there. It never
// replaces a master key, and refuses to make one beside keys that another master
// wrapped: those would be lost without a word.
func Create(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "keys"), 0o700); err != nil {
		return fmt.Errorf("keyring: making the directory: %w", err)
	}
	path := filepath.Join(dir, "master.key")
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	entries, err := os.ReadDir(filepath.Join(dir, "keys"))
	if err != nil {
		return fmt.Errorf("keyring: looking for keys: %w", err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("keyring: %s is missing, and there are keys that need it: restore it", path)
	}
	master := make([]byte, masterSize)
	_, _ = rand.Read(master)
	defer clear(master)
	tmp := filepath.Join(dir, ".master-"+rand.Text())
	if err := writeFile(tmp, master); err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp) }()
	// A link fails when somebody else was first, where a rename would replace.
	if err := os.Link(tmp, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("keyring: making the master key: %w", err)
	}
	return syncDir(dir)
}

// readMaster returns the master key after checking that only its owner can read it.
func readMaster(dir string) ([]byte, error) {
	for _, p := range []string{dir, filepath.Join(dir, "keys")} {
		info, err := os.Stat(p)
		if err != nil {
			return nil, fmt.Errorf("keyring: %w", err)
		}
		if info.Mode().Perm()&0o022 != 0 {
			return nil, fmt.Errorf("keyring: %s is writable by others (mode %04o): chmod 700", p, info.Mode().Perm())
		}
	}
	path := filepath.Join(dir, "master.key")
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("keyring: master key: %w", err)
	}
	defer func() { _ = f.Close() }()
	// The open file is checked, not the name: nobody can swap it in between.
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("keyring: master key: %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("keyring: %s must be a file that only its owner can read (mode %04o): chmod 600", path, info.Mode().Perm())
	}
	if info.Size() != masterSize {
		return nil, fmt.Errorf("keyring: %s must hold %d bytes, it has %d", path, masterSize, info.Size())
	}
	master := make([]byte, masterSize)
	if _, err := f.ReadAt(master, 0); err != nil {
		return nil, fmt.Errorf("keyring: master key: %w", err)
	}
	return master, nil
}
