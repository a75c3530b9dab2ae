package phi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/caresphere/caresphere/internal/kms/driver"
	"github.com/caresphere/caresphere/tenants"
)

// Purposes of data keys. A wrapped key is bound to its purpose and opens for no other.
const (
	PurposeField      = "field"
	PurposeBlind      = "blind"
	PurposeCredential = "credential"
)

// Place is where a sealed value belongs. It opens at this place only.
type Place struct {
	Tenant tenants.ID
	Table  string
	Column string
	Row    tenants.ID
	// Purpose is the purpose of the data key; "" means PurposeField.
	Purpose string
}

// StoredKey is a wrapped data key as the tenant's schema keeps it.
type StoredKey struct {
	ID      tenants.ID
	Purpose string
	Wrapped []byte
	// Version is the version of the tenant's key that wrapped it.
	Version   int
	CreatedAt time.Time
}

// KeySource keeps wrapped data keys, one set a tenant. Its methods may be called
// with a context that outlives the caller's, for several callers at once: they
// must not use a caller's transaction.
type KeySource interface {
	// Newest returns the key of the purpose that was made last, or an error of
	// kind KindNotFound.
	Newest(ctx context.Context, tenant tenants.ID, purpose string) (StoredKey, error)
	// ByID returns that key, or an error of kind KindNotFound.
	ByID(ctx context.Context, tenant, id tenants.ID) (StoredKey, error)
	// Add stores a key durably before it returns. For an id that is there already
	// it changes nothing and returns nil or an error of kind KindConflict.
	Add(ctx context.Context, tenant tenants.ID, k StoredKey) error
}

// KMS is what the cipher needs of a key service.
type KMS interface {
	NewDataKey(ctx context.Context, key, purpose string, id tenants.ID) (driver.DataKey, error)
	Unwrap(ctx context.Context, key, purpose string, id tenants.ID, wrapped []byte) ([]byte, error)
}

// Options tune a Cipher; the zero value serves.
type Options struct {
	// CacheFor is how long an unwrapped data key is kept, at most and by default 5 minutes.
	CacheFor time.Duration
	// CacheSize is how many unwrapped data keys are kept; default 4096.
	CacheSize int
	// LoadTimeout bounds one load of a data key; default 5 seconds.
	LoadTimeout time.Duration
	// BlindGeneration is the generation of blind index keys in use; default 1.
	// Raising it needs every blind index made again.
	BlindGeneration uint8
	// Now is the clock that decides on daily keys; default time.Now.
	Now func() time.Time
}

// Cipher seals and opens values of all tenants. It is safe for concurrent use.
// Its errors are of these kinds: KindIntegrity for a value that was changed or
// moved, KindGateClosed when the tenant's key is disabled or gone,
// KindUnavailable when the key service is away, KindInternal for a defect.
type Cipher struct{ keys *keyCache }

// NewCipher returns a cipher over the key service and the tenants' stored keys.
// Close it to forget all keys.
func NewCipher(kms KMS, source KeySource, opts Options) (*Cipher, error) {
	keys, err := newKeyCache(kms, source, opts)
	if err != nil {
		return nil, err
	}
	return &Cipher{keys: keys}, nil
}

// Seal encrypts the text for its place.
func (c *Cipher) Seal(ctx context.Context, p Place, t Text) ([]byte, error) {
	return c.SealBytes(ctx, p, []byte(t.plain()))
}

// Open decrypts what Seal made for the same place.
func (c *Cipher) Open(ctx context.Context, p Place, sealed []byte) (Text, error) {
	plain, err := c.OpenBytes(ctx, p, sealed)
	if err != nil {
		return Text{}, err
	}
	defer clear(plain)
	return NewText(string(plain)), nil
}

// SealBytes encrypts bytes for their place under the newest data key of the
// place's purpose, made new each day (UTC).
func (c *Cipher) SealBytes(ctx context.Context, p Place, plain []byte) ([]byte, error) {
	purpose, err := p.check()
	if err != nil {
		return nil, err
	}
	key, err := c.keys.current(ctx, p.Tenant, purpose)
	if err != nil {
		return nil, kindOf("no data key to seal with", err)
	}
	defer key.release()
	head := sealedHead(key.id, len(plain))
	return key.aead.Seal(head, nil, plain, p.additional(head)), nil //nolint:gosec // G407: this AEAD draws its own nonce
}

// OpenBytes decrypts what SealBytes made for the same place. The caller may zero
// the result after use.
func (c *Cipher) OpenBytes(ctx context.Context, p Place, sealed []byte) ([]byte, error) {
	purpose, err := p.check()
	if err != nil {
		return nil, err
	}
	id, body, err := splitSealed(sealed)
	if err != nil {
		return nil, err
	}
	key, err := c.keys.byID(ctx, p.Tenant, purpose, id)
	if err != nil {
		return nil, kindOf("no data key to open with", err)
	}
	defer key.release()
	plain, err := key.aead.Open(nil, nil, body, p.additional(sealed[:headSize]))
	if err != nil {
		return nil, errSealed()
	}
	return plain, nil
}

// Warm loads the tenant's newest data keys of the purposes, making the day's if
// need be, so that sealing inside a transaction needs no second connection.
func (c *Cipher) Warm(ctx context.Context, tenant tenants.ID, purposes ...string) error {
	for _, purpose := range purposes {
		var key *liveKey
		var err error
		if purpose == PurposeBlind {
			key, err = c.keys.blind(ctx, tenant)
		} else {
			key, err = c.keys.current(ctx, tenant, purpose)
		}
		if err != nil {
			return kindOf("no data key", err)
		}
		key.release()
	}
	return nil
}

// Drop forgets the tenant's keys at once: the next use asks the key service again.
// A load that is under way is not kept.
func (c *Cipher) Drop(tenant tenants.ID) { c.keys.drop(tenant) }

// Close forgets all keys and ends background work. Calls after it fail.
func (c *Cipher) Close() { c.keys.close() }

// kindOf gives an error of the key service or the key source its kind.
func kindOf(doing string, err error) error {
	var known *tenants.Error
	switch {
	case errors.Is(err, driver.ErrKeyDisabled), errors.Is(err, driver.ErrKeyGone):
		return tenants.WrapError(tenants.KindGateClosed, "the organization's key does not serve", err)
	case errors.Is(err, driver.ErrIntegrity), errors.Is(err, driver.ErrVersionRetired):
		return tenants.WrapError(tenants.KindIntegrity, "a stored key failed its check", err)
	case errors.Is(err, driver.ErrUnavailable), errors.Is(err, driver.ErrAuth),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return tenants.WrapError(tenants.KindUnavailable, "the key service is not available", err)
	case errors.As(err, &known) && known.Kind == tenants.KindNotFound:
		return tenants.WrapError(tenants.KindIntegrity, "the value names a data key that does not exist", err)
	case errors.As(err, &known):
		return err
	default:
		return fmt.Errorf("phi: %s: %w", doing, err)
	}
}
