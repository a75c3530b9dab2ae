package tenants

import (
	"crypto/rand"
	"database/sql/driver"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"
)

// ID identifies one thing of any kind: a UUID (RFC 9562), made as version 7 so
// that ids sort by the time they were made.
type ID [16]byte

// NilID is the zero ID. No stored thing has it, and every guard refuses it.
var NilID ID

// NewID returns a fresh version 7 ID. The random source cannot fail: Go ends the
// process rather than return weak bytes.
func NewID() ID {
	var id ID
	_, _ = rand.Read(id[6:])
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(time.Now().UnixMilli()))
	copy(id[:6], ms[2:])
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id
}

// ParseID reads the canonical 36 character form in lower case. Any other
// spelling is refused, so that one thing has one name in paths, logs and caches.
// The error is of kind KindInvalid.
func ParseID(s string) (ID, error) {
	var id ID
	if err := id.UnmarshalText([]byte(s)); err != nil {
		return NilID, err
	}
	return id, nil
}

// IsZero tells whether the ID is NilID.
func (id ID) IsZero() bool { return id == NilID }

// String returns the canonical 36 character form.
func (id ID) String() string {
	var b [36]byte
	id.encode(&b)
	return string(b[:])
}

// Hex returns the 32 hexadecimal digits without dashes, for names of schemas and roles.
func (id ID) Hex() string { return hex.EncodeToString(id[:]) }

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) {
	return id.AppendText(make([]byte, 0, 36))
}

// AppendText implements encoding.TextAppender.
func (id ID) AppendText(to []byte) ([]byte, error) {
	var b [36]byte
	id.encode(&b)
	return append(to, b[:]...), nil
}

func (id ID) encode(b *[36]byte) {
	hex.Encode(b[0:8], id[0:4])
	b[8] = '-'
	hex.Encode(b[9:13], id[4:6])
	b[13] = '-'
	hex.Encode(b[14:18], id[6:8])
	b[18] = '-'
	hex.Encode(b[19:23], id[8:10])
	b[23] = '-'
	hex.Encode(b[24:36], id[10:16])
}

// UnmarshalText implements encoding.TextUnmarshaler; see ParseID.
func (id *ID) UnmarshalText(b []byte) error {
	if len(b) != 36 || b[8] != '-' || b[13] != '-' || b[18] != '-' || b[23] != '-' {
		return Invalid("id", "must be a UUID in its canonical form")
	}
	var digits [32]byte
	n := 0
	for i, c := range b {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			continue
		}
		if c >= 'A' && c <= 'F' {
			return Invalid("id", "must be a UUID in lower case")
		}
		digits[n] = c
		n++
	}
	if _, err := hex.Decode(id[:], digits[:]); err != nil {
		*id = NilID
		return Invalid("id", "must be a UUID in its canonical form")
	}
	return nil
}

// Value implements driver.Valuer.
func (id ID) Value() (driver.Value, error) { return id.String(), nil }

// Scan implements sql.Scanner for text and binary forms.
func (id *ID) Scan(src any) error {
	switch v := src.(type) {
	case string:
		return id.UnmarshalText([]byte(v))
	case []byte:
		if len(v) == 16 {
			copy(id[:], v)
			return nil
		}
		return id.UnmarshalText(v)
	case [16]byte:
		*id = v
		return nil
	default:
		return fmt.Errorf("tenants: cannot read an id from %T", src)
	}
}
