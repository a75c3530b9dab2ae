// Package keyring is the embedded key service: one directory with a master key
// file and one file a tenant key.
//
// It owns that directory. It trusts the file system's permissions for the master
// key, and nothing else in the directory: each key file is authenticated under
// the master. Tenant keys are random, never derived from the master, so that
// destroying a file's material destroys the key. Several processes may share the
// directory; each use reads the file, so that Disable holds everywhere at once.
// It never writes a key in plain text and never keeps an unwrapped tenant key
// longer than a call.
package keyring

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/caresphere/caresphere/internal/kms/driver"
	"github.com/caresphere/caresphere/tenants"
)

// Options are what a keyring may be told beyond its directory.
type Options struct {
	// ShredLedger is a file outside the directory, or "" for none.
	ShredLedger string
}

// Keyring implements driver.KMS on a directory.
type Keyring struct {
	dir    string
	master cipher.AEAD
	macKey []byte
	ledger ledger
}

var _ driver.KMS = (*Keyring)(nil)

// Open opens the keyring, making directory and master key on first use, and removes
// what a killed writer left among the keys. It refuses a master key that others can
// read and a directory that others can write.
func Open(dir string, opts Options) (*Keyring, error) {
	if err := Create(dir); err != nil {
		return nil, err
	}
	master, err := readMaster(dir)
	if err != nil {
		return nil, err
	}
	defer clear(master)
	aead, err := gcm(master)
	if err != nil {
		return nil, err
	}
	macKey, err := hkdf.Key(sha256.New, master, nil, "caresphere keyring file v1", 32)
	if err != nil {
		return nil, fmt.Errorf("keyring: deriving the file key: %w", err)
	}
	r := &Keyring{dir: dir, master: aead, macKey: macKey, ledger: ledger{path: opts.ShredLedger}}
	if err := r.sweepAtOpen(); err != nil {
		return nil, err
	}
	return r, nil
}

// gcm returns AES-256-GCM that puts a random nonce before the ciphertext.
func gcm(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// masterContext binds a wrapped tenant key to its name and version.
func masterContext(key string, version int) []byte {
	return []byte("v1|" + key + "|" + strconv.Itoa(version))
}

// addVersion appends a fresh random version to the record.
func (r *Keyring) addVersion(k *tenantKey) {
	next := 1
	if len(k.Versions) > 0 {
		next = k.newest().Number + 1
	}
	raw := make([]byte, driver.DataKeySize)
	_, _ = rand.Read(raw)
	defer clear(raw)
	k.Versions = append(k.Versions, version{
		Number: next, CreatedAt: time.Now().UTC(),
		Wrapped: r.master.Seal(nil, nil, raw, masterContext(k.Name, next)), //nolint:gosec // G407: this AEAD draws its own nonce
	})
}

// open returns the AEAD of one version of a tenant's key.
func (r *Keyring) open(k *tenantKey, v version) (cipher.AEAD, error) {
	raw, err := r.master.Open(nil, nil, v.Wrapped, masterContext(k.Name, v.Number))
	if err != nil {
		return nil, fmt.Errorf("keyring: tenant key: %w", driver.ErrIntegrity)
	}
	defer clear(raw)
	return gcm(raw)
}

// live returns the record of a key that exists, in any state but shredded.
func (r *Keyring) live(key string) (*tenantKey, error) {
	if err := driver.CheckKey(key); err != nil {
		return nil, err
	}
	gone, err := r.ledger.has(key)
	if err != nil {
		return nil, err
	}
	k, err := r.read(key)
	if err != nil {
		return nil, err
	}
	if gone || k == nil || k.State == driver.StateShredded {
		return nil, fmt.Errorf("keyring: %w", driver.ErrKeyGone)
	}
	return k, nil
}

// usable is live, and not disabled.
func (r *Keyring) usable(key string) (*tenantKey, error) {
	k, err := r.live(key)
	if err != nil {
		return nil, err
	}
	if k.State != driver.StateAlive {
		return nil, fmt.Errorf("keyring: %w", driver.ErrKeyDisabled)
	}
	return k, nil
}

// wrap seals a data key by the newest version: format byte, version (4 bytes,
// big endian), nonce, ciphertext, tag. The first five bytes are authenticated.
func (r *Keyring) wrap(k *tenantKey, context, plain []byte) ([]byte, int, error) {
	v := k.newest()
	aead, err := r.open(k, v)
	if err != nil {
		return nil, 0, err
	}
	head := binary.BigEndian.AppendUint32([]byte{fileFormat}, uint32(v.Number))
	return aead.Seal(head, nil, plain, append(head[:wrapHead:wrapHead], context...)), v.Number, nil //nolint:gosec // G407: this AEAD draws its own nonce
}

const wrapHead = 5

// WrapVersion implements driver.KMS.
func (r *Keyring) WrapVersion(wrapped []byte) (int, error) {
	if len(wrapped) < wrapHead || wrapped[0] != fileFormat {
		return 0, fmt.Errorf("keyring: wrapped data key: %w", driver.ErrIntegrity)
	}
	number := int(binary.BigEndian.Uint32(wrapped[1:wrapHead]))
	if number < 1 {
		return 0, fmt.Errorf("keyring: wrapped data key: %w", driver.ErrIntegrity)
	}
	return number, nil
}

func (r *Keyring) unwrap(k *tenantKey, context, wrapped []byte) ([]byte, error) {
	number, err := r.WrapVersion(wrapped)
	if err != nil {
		return nil, err
	}
	if number < k.MinVersion {
		return nil, fmt.Errorf("keyring: version %d: %w", number, driver.ErrVersionRetired)
	}
	v, ok := k.find(number)
	if !ok {
		return nil, fmt.Errorf("keyring: wrapped data key: %w", driver.ErrIntegrity)
	}
	aead, err := r.open(k, v)
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, nil, wrapped[wrapHead:], append(wrapped[:wrapHead:wrapHead], context...))
	if err != nil || len(plain) != driver.DataKeySize {
		return nil, fmt.Errorf("keyring: wrapped data key: %w", driver.ErrIntegrity)
	}
	return plain, nil
}

// NewDataKey implements driver.KMS.
func (r *Keyring) NewDataKey(ctx context.Context, key, purpose string, id tenants.ID) (driver.DataKey, error) {
	bound, err := driver.Context(key, purpose, id)
	if err != nil {
		return driver.DataKey{}, err
	}
	if err := ctx.Err(); err != nil {
		return driver.DataKey{}, fmt.Errorf("keyring: %w: %w", driver.ErrUnavailable, err)
	}
	k, err := r.usable(key)
	if err != nil {
		return driver.DataKey{}, err
	}
	plain := make([]byte, driver.DataKeySize)
	_, _ = rand.Read(plain)
	wrapped, number, err := r.wrap(k, bound, plain)
	if err != nil {
		return driver.DataKey{}, err
	}
	return driver.DataKey{Plain: plain, Wrapped: wrapped, Version: number}, nil
}

// Unwrap implements driver.KMS.
func (r *Keyring) Unwrap(ctx context.Context, key, purpose string, id tenants.ID, wrapped []byte) ([]byte, error) {
	bound, err := driver.Context(key, purpose, id)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("keyring: %w: %w", driver.ErrUnavailable, err)
	}
	k, err := r.usable(key)
	if err != nil {
		return nil, err
	}
	return r.unwrap(k, bound, wrapped)
}

// Rewrap implements driver.KMS.
func (r *Keyring) Rewrap(ctx context.Context, key, purpose string, id tenants.ID, wrapped []byte) ([]byte, int, error) {
	bound, err := driver.Context(key, purpose, id)
	if err != nil {
		return nil, 0, err
	}
	if err := ctx.Err(); err != nil {
		return nil, 0, fmt.Errorf("keyring: %w: %w", driver.ErrUnavailable, err)
	}
	k, err := r.live(key)
	if err != nil {
		return nil, 0, err
	}
	plain, err := r.unwrap(k, bound, wrapped)
	if err != nil {
		return nil, 0, err
	}
	defer clear(plain)
	return r.wrap(k, bound, plain)
}

// Health implements driver.KMS: the directory and the master key are in place.
func (r *Keyring) Health(context.Context) error {
	master, err := readMaster(r.dir)
	if err != nil {
		return fmt.Errorf("%w: %w", driver.ErrUnavailable, err)
	}
	clear(master)
	if _, err := os.ReadDir(r.dir); err != nil {
		return fmt.Errorf("keyring: %w: %w", driver.ErrUnavailable, err)
	}
	return nil
}

// Close implements driver.KMS.
func (r *Keyring) Close() error { return nil }
