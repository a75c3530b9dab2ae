package phi

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"

	"github.com/caresphere/caresphere/tenants"
)

// BlindIndexSize is the length of a blind index in bytes.
const BlindIndexSize = 1 + sha256.Size

// BlindIndex returns what an exact search on a sealed value compares: the
// generation byte and HMAC-SHA-256 of purpose and value under the tenant's blind
// key. The same value gives the same index for the same tenant and purpose only.
// The purpose names what is searched, as "client.family_name". Normalize first,
// when writing and when searching. An empty value has no index: nil.
func (c *Cipher) BlindIndex(ctx context.Context, tenant tenants.ID, purpose string, normalized Text) ([]byte, error) {
	if tenant.IsZero() || purpose == "" || len(purpose) > 255 {
		return nil, tenants.WrapError(tenants.KindInternal, "", errors.New("phi: a blind index needs tenant and purpose"))
	}
	if normalized.IsZero() {
		return nil, nil
	}
	key, err := c.keys.blind(ctx, tenant)
	if err != nil {
		return nil, kindOf("no key for the blind index", err)
	}
	defer key.release()
	mac := hmac.New(sha256.New, key.raw)
	mac.Write(appendLen(nil, purpose))
	mac.Write([]byte(normalized.plain()))
	return mac.Sum([]byte{c.keys.opts.BlindGeneration}), nil
}

// blindKeyID returns the id of the tenant's blind key of a generation. It is
// computed, not random: two workers that make the first blind key at the same
// moment collide on it, and one key wins for both. It is a version 8 UUID
// (RFC 9562, 5.8).
func blindKeyID(tenant tenants.ID, generation uint8) tenants.ID {
	h := sha256.New()
	h.Write([]byte("caresphere blind key v1|"))
	h.Write(tenant[:])
	h.Write([]byte{generation})
	id := tenants.ID(h.Sum(nil)[:16])
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id
}
