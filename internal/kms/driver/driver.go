// Package driver says what every key management driver promises: the interface,
// its errors, the names of keys and the context that binds a wrapped data key.
//
// It owns no key material and does no cryptography. It trusts nothing: names and
// purposes are checked here before any driver sees them. Users take these types
// by their aliases in package kms; only drivers, their conformance suite and
// internal/phi import this package.
package driver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"

	"github.com/caresphere/caresphere/tenants"
)

// KMS holds one versioned key a tenant and wraps data keys with it. The tenant's
// key itself never leaves it. Every method is safe for concurrent use, respects
// the context's deadline, and returns errors that satisfy errors.Is with one of
// the Err values of this package.
type KMS interface {
	// Ensure makes the key when it is absent and checks it when it is there.
	// A shredded key stays shredded: ErrKeyGone.
	Ensure(ctx context.Context, key string) error
	// NewDataKey returns 32 fresh random bytes, also wrapped by the key's newest
	// version and bound to purpose and id. The caller zeroes Plain.
	// ErrKeyDisabled, ErrKeyGone.
	NewDataKey(ctx context.Context, key, purpose string, id tenants.ID) (DataKey, error)
	// Unwrap returns the plain data key. It must be given the key, purpose and id
	// that it was made with, else ErrIntegrity. ErrKeyDisabled, ErrKeyGone, and
	// ErrVersionRetired for a wrap older than Retire's minimum.
	Unwrap(ctx context.Context, key, purpose string, id tenants.ID, wrapped []byte) ([]byte, error)
	// Rewrap wraps the same data key by the key's newest version and returns that
	// version; nobody sees the plain data key. It works on a disabled key.
	Rewrap(ctx context.Context, key, purpose string, id tenants.ID, wrapped []byte) (newWrapped []byte, version int, err error)
	// WrapVersion reads from a wrapped data key which version of its key wrapped it,
	// without asking anybody. It does not check the wrap; ErrIntegrity for what is
	// not of the driver's form.
	WrapVersion(wrapped []byte) (int, error)
	// Rotate adds a version, which wraps from then on, and returns its number.
	Rotate(ctx context.Context, key string) (version int, err error)
	// Retire destroys all versions below minVersion. A lower minimum than the one
	// in force changes nothing; one above the newest version is ErrInvalid.
	Retire(ctx context.Context, key string, minVersion int) error
	// Disable makes NewDataKey and Unwrap refuse at once, for every process.
	Disable(ctx context.Context, key string) error
	// Enable reverses Disable. ErrKeyGone for a shredded key.
	Enable(ctx context.Context, key string) error
	// Shred destroys the key for ever. A second Shred is not an error.
	Shred(ctx context.Context, key string) error
	// Status tells the key's state; an absent key is StateAbsent and no error.
	Status(ctx context.Context, key string) (Status, error)
	// Names lists the keys that are there, shredded ones left out, in order. It is
	// for the provisioner, who accounts for every key; ErrAuth for other roles.
	Names(ctx context.Context) ([]string, error)
	// Health is nil when the KMS would serve this process's calls now.
	Health(ctx context.Context) error
	// Close ends background work and forgets credentials.
	Close() error
}

// Reconciler is a KMS that keeps in two places which keys are disabled: what it
// records, and what refuses.
type Reconciler interface {
	// Reconcile makes what refuses follow what is recorded, and returns in how many
	// places it did not. It is for the provisioner.
	Reconcile(ctx context.Context) (mended int, err error)
}

// DataKey is a fresh data key.
type DataKey struct {
	// Plain is the key, 32 bytes. Never store it; zero it after use.
	Plain []byte
	// Wrapped is what may be stored.
	Wrapped []byte
	// Version is the version of the tenant's key that wrapped it.
	Version int
}

// Format prints no key material, whatever the verb.
func (k DataKey) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "DataKey{version %d}", k.Version)
}

// State is the life of a tenant's key.
type State string

// The states.
const (
	StateAbsent   State = "absent"
	StateAlive    State = "alive"
	StateDisabled State = "disabled"
	StateShredded State = "shredded"
)

// Status is what anybody may know of a key.
type Status struct {
	State State
	// Version is the newest version, MinVersion the oldest that still unwraps;
	// both are 0 for an absent or shredded key.
	Version, MinVersion int
}

// What can go wrong. Drivers wrap these with context.
var (
	// ErrUnavailable: the KMS cannot be reached, is sealed, or did not answer in
	// time. Safe to try again.
	ErrUnavailable = errors.New("the key service is not available")
	// ErrKeyGone: the key never was, or was shredded.
	ErrKeyGone = errors.New("the key does not exist")
	// ErrKeyDisabled: the key is alive and refuses to unwrap until Enable.
	ErrKeyDisabled = errors.New("the key is disabled")
	// ErrAuth: our credentials do not allow this.
	ErrAuth = errors.New("the key service refused our credentials")
	// ErrIntegrity: the wrapped key, its context or the stored key was changed.
	ErrIntegrity = errors.New("the wrapped key failed its check")
	// ErrVersionRetired: wrapped by a version that was retired.
	ErrVersionRetired = errors.New("the key version is retired")
	// ErrInvalid: a name, purpose or version no driver accepts; a defect of the caller.
	ErrInvalid = errors.New("not a valid key request")
)

// DataKeySize is the length of a data key in bytes (AES-256).
const DataKeySize = 32

var (
	keyForm     = regexp.MustCompile(`^[a-z0-9]{1,64}$`)
	purposeForm = regexp.MustCompile(`^[a-z][a-z0-9_.]{0,63}$`)
)

// KeyName returns the name of the tenant's key: opaque, so that the KMS and its
// logs do not tell which tenant a key belongs to without this function.
func KeyName(tenant tenants.ID) string {
	h := sha256.Sum256(append([]byte("caresphere kms key v1|"), tenant[:]...))
	return "k" + hex.EncodeToString(h[:16])
}

// CheckKey returns ErrInvalid unless the name has the form that KeyName makes.
func CheckKey(key string) error {
	if !keyForm.MatchString(key) {
		return fmt.Errorf("key name: %w", ErrInvalid)
	}
	return nil
}

// Context returns the bytes that a wrapped data key is bound to:
// `v1|tenant key|purpose|data key id`. None of the parts can contain the bar, so
// different parts never give the same bytes. ErrInvalid for parts of a wrong form.
func Context(key, purpose string, id tenants.ID) ([]byte, error) {
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	if !purposeForm.MatchString(purpose) {
		return nil, fmt.Errorf("purpose: %w", ErrInvalid)
	}
	if id.IsZero() {
		return nil, fmt.Errorf("data key id: %w", ErrInvalid)
	}
	return []byte("v1|" + key + "|" + purpose + "|" + id.String()), nil
}
