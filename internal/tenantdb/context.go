package tenantdb

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caresphere/caresphere/tenants"
)

// Setting is the session setting that carries the signed context. The worker sets
// it for one transaction: SELECT set_config('caresphere.context', $1, true).
const Setting = "caresphere.context"

// The SQLSTATEs that the tenant schema raises.
const (
	// CodeBadContext: the context is missing where one is needed, forged, of
	// another backend or role, or expired. A defect or an attack, never the user's doing.
	CodeBadContext = "CS001"
	// CodeImmutable: the row is append-only, or what it says is final.
	CodeImmutable = "CS002"
	// CodeSessionOver: the session is unknown, revoked, idle or too old.
	CodeSessionOver = "CS401"
	// CodeNotActive: the member is gone or disabled.
	CodeNotActive = "CS403"
	// CodeStaleAuthz: role, assignments or grants changed since the worker read
	// them: read again, decide again.
	CodeStaleAuthz = "CS409"
	// CodeForeignStatement: the session has other prepared statements than the worker
	// knows of. Nothing was done; another connection serves.
	CodeForeignStatement = "CS410"
)

// Kind says in which capacity a transaction runs; the policies know these three.
type Kind string

// The kinds of context.
const (
	// KindMember: a person whose role and facilities are established.
	KindMember Kind = "member"
	// KindLookup: a person about to be established: sees the own member row,
	// assignments, grants and session, the settings and the facilities.
	KindLookup Kind = "lookup"
	// KindSystem: the worker's own bookkeeping: data keys and the probe.
	KindSystem Kind = "system"
)

const contextKeySize = 32

// ContextKey signs the contexts of one tenant's role. The zero value signs
// nothing that a database accepts.
type ContextKey struct{ key [contextKeySize]byte }

// NewContextKey returns a random key.
func NewContextKey() ContextKey {
	var k ContextKey
	_, _ = rand.Read(k.key[:])
	return k
}

// Blocks returns the two padded blocks of RFC 2104, the form in which
// cell.context_key keeps the key.
func (k ContextKey) Blocks() (inner, outer []byte) {
	inner, outer = make([]byte, sha256.BlockSize), make([]byte, sha256.BlockSize)
	copy(inner, k.key[:])
	copy(outer, k.key[:])
	for i := range inner {
		inner[i] ^= 0x36
		outer[i] ^= 0x5c
	}
	return inner, outer
}

// ContextKeyFromBlock recovers the key from its inner block, so that a renewed
// credential carries the key that the database already knows.
func ContextKeyFromBlock(inner []byte) (ContextKey, error) {
	var k ContextKey
	if len(inner) != sha256.BlockSize {
		return k, errors.New("tenantdb: a context key's block has 64 bytes")
	}
	for i := range k.key {
		k.key[i] = inner[i] ^ 0x36
	}
	return k, nil
}

// Format prints no key material, whatever the verb.
func (k ContextKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[context key]") }

// MarshalText refuses: a context key is stored sealed or not at all.
func (k ContextKey) MarshalText() ([]byte, error) {
	return nil, errors.New("tenantdb: a context key is not for marshalling")
}

// Mint returns the signed context for the actor's tenant, in the form that
// cell.context verifies: v1|role|pid|expiry ms|kind|actor|member role|session|facilities|mac.
// It holds on the connection whose backend has this pid, logged in as the tenant's
// role, until the expiry: seconds, not minutes. Only KindMember carries a role and
// facilities; a role that is not a declared one is left out, which allows nothing.
func Mint(key ContextKey, pid uint32, kind Kind, a tenants.Actor, expiry time.Time) string {
	return mint(key, pid, kind, a, expiry, tenants.NilID)
}

// MintRead is Mint for a member's read whose audit entry is written after its
// transaction, with others': the access mark names that entry. The form begins with
// v2 and has the entry's id before the mac.
func MintRead(key ContextKey, pid uint32, a tenants.Actor, entry tenants.ID, expiry time.Time) string {
	return mint(key, pid, KindMember, a, expiry, entry)
}

// MintEntries signs a list of audit entries for cell.write_entries, on the connection
// whose backend has this pid: b1|role|pid|expiry ms|sha256 of the list|mac. The list
// is what audit.Entries makes; all of it must be the tenant's.
func MintEntries(key ContextKey, pid uint32, tenant tenants.ID, list string, expiry time.Time) string {
	digest := sha256.Sum256([]byte(list))
	return key.sign("b1|" + tenants.RoleName(tenant) + "|" + strconv.FormatUint(uint64(pid), 10) + "|" +
		strconv.FormatInt(expiry.UnixMilli(), 10) + "|" + hex.EncodeToString(digest[:]))
}

// sign puts the mac behind the words.
func (k ContextKey) sign(words string) string {
	m := hmac.New(sha256.New, k.key[:])
	_, _ = io.WriteString(m, words)
	return words + "|" + hex.EncodeToString(m.Sum(nil))
}

func mint(key ContextKey, pid uint32, kind Kind, a tenants.Actor, expiry time.Time, entry tenants.ID) string {
	var b strings.Builder
	b.Grow(320 + 37*len(a.Facilities))
	if entry.IsZero() {
		b.WriteString("v1|")
	} else {
		b.WriteString("v2|")
	}
	b.WriteString(tenants.RoleName(a.TenantID))
	b.WriteByte('|')
	b.WriteString(strconv.FormatUint(uint64(pid), 10))
	b.WriteByte('|')
	b.WriteString(strconv.FormatInt(expiry.UnixMilli(), 10))
	b.WriteByte('|')
	b.WriteString(string(kind))
	b.WriteByte('|')
	writeID(&b, a.ID)
	b.WriteByte('|')
	if kind == KindMember && slices.Contains(tenants.AllRoles(), a.Role) {
		b.WriteString(string(a.Role))
	}
	b.WriteByte('|')
	writeID(&b, a.SessionID)
	b.WriteByte('|')
	if kind == KindMember {
		for i, f := range a.Facilities {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(f.String())
		}
	}
	if !entry.IsZero() {
		b.WriteByte('|')
		b.WriteString(entry.String())
	}
	return key.sign(b.String())
}

func writeID(b *strings.Builder, id tenants.ID) {
	if !id.IsZero() {
		b.WriteString(id.String())
	}
}
