package phi

import (
	"crypto/subtle"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgtype"
)

// Mark is what stands in place of a protected value wherever it is printed.
const Mark = "[PHI]"

// ErrPlain says that something tried to store or transmit a protected value in plain
// text. It is a defect of the caller: seal the value with a Cipher first.
var ErrPlain = errors.New("phi: a protected value must be sealed before it is stored")

// Text is a protected string. Its zero value is the empty string. It cannot be
// compared with == or be a map key: use Equal.
//
// The value lives inside a closure: unlike a string, or a pointer to one, it is
// out of reach of printers that walk memory by reflection and ignore methods.
type Text struct{ reveal func() string }

// NewText protects the string.
func NewText(s string) Text {
	if s == "" {
		return Text{}
	}
	return Text{reveal: func() string { return s }}
}

// plain returns the value. Only the response encoder, the cipher and the
// normalizers of this package call it.
func (t Text) plain() string {
	if t.reveal == nil {
		return ""
	}
	return t.reveal()
}

// IsZero tells whether the text is empty.
func (t Text) IsZero() bool { return t.reveal == nil }

// Len returns the length in characters (Unicode code points).
func (t Text) Len() int { return utf8.RuneCountInString(t.plain()) }

// Equal tells, in constant time, whether both hold the same text.
func (t Text) Equal(o Text) bool {
	return subtle.ConstantTimeCompare([]byte(t.plain()), []byte(o.plain())) == 1
}

// String returns Mark.
func (t Text) String() string { return Mark }

// GoString returns Mark.
func (t Text) GoString() string { return Mark }

// Format writes Mark, whatever the verb and flags.
func (t Text) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(Mark)) }

// LogValue returns Mark.
func (t Text) LogValue() slog.Value { return slog.StringValue(Mark) }

// MarshalJSON returns Mark; EncodeJSON is the encoder that reveals.
func (t Text) MarshalJSON() ([]byte, error) { return []byte(`"` + Mark + `"`), nil }

// MarshalText returns Mark.
func (t Text) MarshalText() ([]byte, error) { return []byte(Mark), nil }

// MarshalBinary refuses with ErrPlain: binary forms (gob and the like) store.
func (t Text) MarshalBinary() ([]byte, error) { return nil, ErrPlain }

// Value refuses with ErrPlain, so that no driver sends plain text to a database.
func (t Text) Value() (driver.Value, error) { return nil, ErrPlain }

// TextValue refuses with ErrPlain. pgx would otherwise store what String returns,
// and the value would be lost without a word.
func (t Text) TextValue() (pgtype.Text, error) { return pgtype.Text{}, ErrPlain }

// BytesValue refuses with ErrPlain.
func (t Text) BytesValue() ([]byte, error) { return nil, ErrPlain }

// UnmarshalJSON accepts a JSON string; null leaves the text as it is, as
// encoding/json does for a string. The error never repeats the value.
func (t *Text) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	var s string
	if len(b) == 0 || b[0] != '"' || json.Unmarshal(b, &s) != nil {
		return errors.New("must be a string")
	}
	*t = NewText(s)
	return nil
}
