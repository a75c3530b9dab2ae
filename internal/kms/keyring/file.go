package keyring

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/caresphere/caresphere/internal/kms/driver"
)

// tenantKey is one tenant's key as it lies in its file.
type tenantKey struct {
	Format     int          `json:"format"`
	Name       string       `json:"name"`
	State      driver.State `json:"state"`
	MinVersion int          `json:"min_version"`
	Versions   []version    `json:"versions"`
	ChangedAt  time.Time    `json:"changed_at"`
}

// version is one version of a tenant's key, wrapped by the master key.
type version struct {
	Number    int       `json:"version"`
	CreatedAt time.Time `json:"created_at"`
	Wrapped   []byte    `json:"wrapped"`
}

// sealedFile is the file's form: the record's exact bytes and their MAC under a
// key derived from the master, so that an edited state or a file copied to
// another name is noticed.
type sealedFile struct {
	Record json.RawMessage `json:"record"`
	MAC    []byte          `json:"mac"`
}

const fileFormat = 1

// newest returns the highest version; the record is never alive without one.
func (k *tenantKey) newest() version { return k.Versions[len(k.Versions)-1] }

// find returns the version of that number.
func (k *tenantKey) find(number int) (version, bool) {
	for _, v := range k.Versions {
		if v.Number == number {
			return v, true
		}
	}
	return version{}, false
}

func (r *Keyring) path(key string) string { return filepath.Join(r.dir, "keys", key+".json") }

func (r *Keyring) mac(record []byte) []byte {
	h := hmac.New(sha256.New, r.macKey)
	h.Write(record)
	return h.Sum(nil)
}

// read returns the key's record, or nil when there is no file.
func (r *Keyring) read(key string) (*tenantKey, error) {
	raw, err := os.ReadFile(r.path(key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("keyring: reading a key: %w: %w", driver.ErrUnavailable, err)
	}
	var sealed sealedFile
	if err := json.Unmarshal(raw, &sealed); err != nil {
		return nil, fmt.Errorf("keyring: key file is not readable: %w", driver.ErrIntegrity)
	}
	if !hmac.Equal(sealed.MAC, r.mac(sealed.Record)) {
		return nil, fmt.Errorf("keyring: key file was changed, or the master key is another one: %w", driver.ErrIntegrity)
	}
	var k tenantKey
	if err := json.Unmarshal(sealed.Record, &k); err != nil {
		return nil, fmt.Errorf("keyring: key record: %w", driver.ErrIntegrity)
	}
	if k.Format != fileFormat || k.Name != key {
		return nil, fmt.Errorf("keyring: key file belongs to another key or format: %w", driver.ErrIntegrity)
	}
	if k.State != driver.StateShredded && len(k.Versions) == 0 {
		return nil, fmt.Errorf("keyring: key file has no versions: %w", driver.ErrIntegrity)
	}
	return &k, nil
}

// write stores the record so that a crash leaves the old file or the new one.
func (r *Keyring) write(k *tenantKey) error {
	k.Format, k.ChangedAt = fileFormat, time.Now().UTC()
	record, err := json.Marshal(k)
	if err != nil {
		return fmt.Errorf("keyring: encoding a key: %w", err)
	}
	raw, err := json.Marshal(sealedFile{Record: record, MAC: r.mac(record)})
	if err != nil {
		return fmt.Errorf("keyring: encoding a key: %w", err)
	}
	return writeFile(r.path(k.Name), raw)
}

// tmpSuffix ends the name of a file that is being written; a dot begins it.
const tmpSuffix = ".tmp"

// writeFile writes beside, syncs, renames over, and syncs the directory.
func writeFile(path string, raw []byte) (err error) {
	dir := filepath.Dir(path)
	tmp := filepath.Join(dir, "."+rand.Text()+tmpSuffix)
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("keyring: writing: %w: %w", driver.ErrUnavailable, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp)
			err = fmt.Errorf("keyring: writing: %w: %w", driver.ErrUnavailable, err)
		}
	}()
	_, err = f.Write(raw)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err == nil {
		err = syncDir(dir)
	}
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

// lock takes the keyring's lock against every other process and goroutine. The
// kernel drops it when a process dies, so a crash never leaves it taken.
func (r *Keyring) lock(ctx context.Context) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(r.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("keyring: lock: %w: %w", driver.ErrUnavailable, err)
	}
	wait := time.NewTicker(2 * time.Millisecond)
	defer wait.Stop()
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil && ctx.Err() != nil {
			_ = f.Close()
			return nil, fmt.Errorf("keyring: %w: %w", driver.ErrUnavailable, ctx.Err())
		}
		if err == nil {
			// Closing the only descriptor of this open file releases the lock.
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			_ = f.Close()
			return nil, fmt.Errorf("keyring: lock: %w: %w", driver.ErrUnavailable, err)
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, fmt.Errorf("keyring: waiting for the lock: %w: %w", driver.ErrUnavailable, ctx.Err())
		case <-wait.C:
		}
	}
}
