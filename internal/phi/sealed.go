package phi

import (
	"encoding/binary"
	"errors"

	"github.com/caresphere/caresphere/tenants"
)

// The sealed form: version byte, data key id (16), nonce (12), ciphertext, tag (16).
// The nonce is random (cipher.NewGCMWithRandomNonce writes and reads it), which
// NIST SP 800-38D allows for 2^32 messages a key: the daily keys stay far below.
const (
	sealedVersion = 1
	headSize      = 1 + 16
	nonceSize     = 12
	tagSize       = 16
)

// Overhead is how many bytes longer a sealed value is than the plain one.
const Overhead = headSize + nonceSize + tagSize

// sealedHead returns the header, with room for the rest.
func sealedHead(id tenants.ID, plain int) []byte {
	head := make([]byte, headSize, Overhead+plain)
	head[0] = sealedVersion
	copy(head[1:], id[:])
	return head
}

// splitSealed returns the key's id and what follows the header.
func splitSealed(sealed []byte) (tenants.ID, []byte, error) {
	if len(sealed) < Overhead || sealed[0] != sealedVersion {
		return tenants.NilID, nil, errSealed()
	}
	return tenants.ID(sealed[1:headSize]), sealed[headSize:], nil
}

func errSealed() error {
	return tenants.NewError(tenants.KindIntegrity, "a stored value failed its check")
}

// check returns the place's purpose. A place that is not whole is a defect.
func (p Place) check() (purpose string, err error) {
	if p.Tenant.IsZero() || p.Row.IsZero() || p.Table == "" || p.Column == "" ||
		len(p.Table) > 255 || len(p.Column) > 255 {
		return "", tenants.WrapError(tenants.KindInternal, "", errors.New("phi: a place needs tenant, table, column and row"))
	}
	switch p.Purpose {
	case "":
		return PurposeField, nil
	case PurposeField, PurposeCredential:
		return p.Purpose, nil
	default:
		return "", tenants.WrapError(tenants.KindInternal, "", errors.New("phi: no such purpose to seal for"))
	}
}

// additional returns the additional data: header, tenant, table, column, row,
// with lengths before the names, so that no two places give the same bytes.
func (p Place) additional(head []byte) []byte {
	b := make([]byte, 0, headSize+16+1+len(p.Table)+1+len(p.Column)+16)
	b = append(b, head[:headSize]...)
	b = append(b, p.Tenant[:]...)
	b = append(b, byte(len(p.Table)))
	b = append(b, p.Table...)
	b = append(b, byte(len(p.Column)))
	b = append(b, p.Column...)
	return append(b, p.Row[:]...)
}

// appendLen appends s after its length in two bytes; callers keep s below 64 KiB.
func appendLen(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}
