package record

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/caresphere/caresphere/tenants"
)

// MaxSize bounds the canonical form in bytes: the database's own limits on a
// row's fields, every character of them escaped, stay below it.
const MaxSize = 64 << 10

// ErrNotCanonical is wrapped by every error of Decode.
var ErrNotCanonical = errors.New("not a canonical audit entry")

// Decode reads what Append wrote and refuses every other byte sequence: unknown,
// missing, repeated or reordered fields, spaces, other escapes, numbers with
// leading zeros, invalid UTF-8, trailing bytes. The error names the field.
func Decode(b []byte) (Entry, error) {
	if len(b) > MaxSize {
		return Entry{}, fmt.Errorf("%w: longer than %d bytes", ErrNotCanonical, MaxSize)
	}
	if !utf8.Valid(b) {
		return Entry{}, fmt.Errorf("%w: not UTF-8", ErrNotCanonical)
	}
	r := reader{rest: string(b)} // one copy, which the entry's texts are parts of
	var e Entry
	e.Seq = r.integer(`{"seq":`)
	e.ID = r.id(`,"id":`)
	e.At = r.time(`,"at":`)
	e.DBRole = r.text(`,"db_role":`)
	e.ActorKind = tenants.ActorKind(r.text(`,"actor_kind":`))
	e.ActorID = r.id(`,"actor_id":`)
	e.Role = r.text(`,"role":`)
	e.SessionID = r.id(`,"session_id":`)
	e.OrganizationID = r.id(`,"organization_id":`)
	e.FacilityID = r.id(`,"facility_id":`)
	e.Action = r.text(`,"action":`)
	e.RecordType = r.text(`,"record_type":`)
	e.RecordID = r.text(`,"record_id":`)
	e.Outcome = Outcome(r.text(`,"outcome":`))
	e.IP = r.text(`,"ip":`)
	e.Device = r.text(`,"device":`)
	e.RequestID = r.text(`,"request_id":`)
	e.Detail = r.detail(`,"detail":`)
	r.expect("}")
	if r.err == nil && len(r.rest) > 0 {
		r.fail("end")
	}
	if r.err != nil {
		return Entry{}, r.err
	}
	// The last word: whatever slipped through above does not come out the same.
	again := spellings.Get().(*[]byte) //nolint:forcetypeassert // it holds nothing else
	defer spellings.Put(again)
	*again = Append((*again)[:0], &e)
	if !bytes.Equal(*again, b) {
		return Entry{}, fmt.Errorf("%w: another spelling", ErrNotCanonical)
	}
	return e, nil
}

// spellings are buffers for the last word of Decode: a verifier reads millions.
var spellings = sync.Pool{New: func() any { return new([]byte) }}

// reader consumes the canonical form from the front; its first error stays.
type reader struct {
	rest string
	err  error
}

func (r *reader) fail(where string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: at %s", ErrNotCanonical, where)
	}
	r.rest = ""
}

func (r *reader) expect(literal string) {
	if r.err != nil {
		return
	}
	rest, ok := strings.CutPrefix(r.rest, literal)
	if !ok {
		r.fail(literal)
		return
	}
	r.rest = rest
}

func (r *reader) integer(key string) int64 {
	r.expect(key)
	n := 0
	for n < len(r.rest) && (r.rest[n] == '-' || r.rest[n] >= '0' && r.rest[n] <= '9') {
		n++
	}
	v, err := strconv.ParseInt(r.rest[:n], 10, 64)
	if err != nil {
		r.fail(key)
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) id(key string) tenants.ID {
	s := r.text(key)
	if s == "" {
		return tenants.NilID
	}
	id, err := tenants.ParseID(s)
	if err != nil {
		r.fail(key)
	}
	return id
}

func (r *reader) time(key string) time.Time {
	t, err := time.Parse(timeForm, r.text(key))
	if err != nil {
		r.fail(key)
	}
	return t
}

func (r *reader) text(key string) string {
	r.expect(key)
	return r.quoted(key)
}

// quoted reads a JSON string in the one spelling that appendString has.
func (r *reader) quoted(where string) string {
	r.expect(`"`)
	plain := 0
	for plain < len(r.rest) && r.rest[plain] != '"' && r.rest[plain] != '\\' {
		plain++
	}
	if plain == len(r.rest) {
		r.fail(where)
		return ""
	}
	if r.rest[plain] == '"' {
		s := r.rest[:plain]
		r.rest = r.rest[plain+1:]
		return s
	}
	var out []byte
	for i := 0; i < len(r.rest); i++ {
		switch c := r.rest[i]; {
		case c == '"':
			r.rest = r.rest[i+1:]
			return string(out)
		case c != '\\':
			out = append(out, c)
		case i+1 < len(r.rest) && (r.rest[i+1] == '"' || r.rest[i+1] == '\\'):
			i++
			out = append(out, r.rest[i])
		case i+5 < len(r.rest) && r.rest[i+1] == 'u':
			v, err := strconv.ParseUint(r.rest[i+2:i+6], 16, 8)
			if err != nil {
				r.fail(where)
				return ""
			}
			out = append(out, byte(v))
			i += 5
		default:
			r.fail(where)
			return ""
		}
	}
	r.fail(where)
	return ""
}

func (r *reader) detail(key string) map[string]string {
	r.expect(key)
	r.expect("{")
	var m map[string]string
	for r.err == nil && len(r.rest) > 0 && r.rest[0] != '}' {
		if len(m) > 0 {
			r.expect(",")
		}
		k := r.quoted(key)
		r.expect(":")
		v := r.quoted(key)
		if _, twice := m[k]; twice {
			r.fail(key)
		}
		if m == nil {
			m = map[string]string{}
		}
		m[k] = v
	}
	r.expect("}")
	return m
}
