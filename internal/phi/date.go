package phi

import (
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/caresphere/caresphere/tenants"
)

// Date is a protected civil date, as a date of birth: no time, no zone. Its zero
// value is no date. It cannot be compared with ==: use Compare.
type Date struct{ reveal func() time.Time }

const dateForm = "2006-01-02"

// ParseDate reads the form 2006-01-02 of RFC 3339. The date must exist in the
// Gregorian calendar, in the years 1 to 9999. Empty text is the zero Date. The
// error is of kind KindInvalid and never repeats the value.
func ParseDate(t Text) (Date, error) { return parseDate(t.plain()) }

// NewDate returns the date; see ParseDate for what is accepted.
func NewDate(year int, month time.Month, day int) (Date, error) {
	d := time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
	if d.Year() != year || d.Month() != month || d.Day() != day || year < 1 || year > 9999 {
		return Date{}, errNotADate()
	}
	return dateOf(d), nil
}

func errNotADate() error {
	return tenants.Invalid("date", "must be a date that exists, as 2006-01-02")
}

func parseDate(s string) (Date, error) {
	if s == "" {
		return Date{}, nil
	}
	d, err := time.Parse(dateForm, s)
	if err != nil || d.Year() < 1 {
		// The cause quotes the value, so it is not kept.
		return Date{}, errNotADate()
	}
	return dateOf(d), nil
}

func dateOf(d time.Time) Date { return Date{reveal: func() time.Time { return d }} }

func (d Date) plain() string {
	if d.reveal == nil {
		return ""
	}
	return d.reveal().Format(dateForm)
}

// IsZero tells whether there is no date.
func (d Date) IsZero() bool { return d.reveal == nil }

// Text returns the date as protected text in the form that ParseDate reads, for
// sealing and for blind indexes.
func (d Date) Text() Text { return NewText(d.plain()) }

// Compare returns -1, 0 or 1 as d is before, the same as, or after o. No date is
// before every date.
func (d Date) Compare(o Date) int {
	switch {
	case d.reveal == nil && o.reveal == nil:
		return 0
	case d.reveal == nil:
		return -1
	case o.reveal == nil:
		return 1
	}
	return d.reveal().Compare(o.reveal())
}

// After tells whether the date is later than the day of now in now's zone.
func (d Date) After(now time.Time) bool {
	if d.reveal == nil {
		return false
	}
	today := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, time.UTC)
	return d.reveal().After(today)
}

// String returns Mark.
func (d Date) String() string { return Mark }

// GoString returns Mark.
func (d Date) GoString() string { return Mark }

// Format writes Mark, whatever the verb and flags.
func (d Date) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(Mark)) }

// LogValue returns Mark.
func (d Date) LogValue() slog.Value { return slog.StringValue(Mark) }

// MarshalJSON returns Mark; EncodeJSON is the encoder that reveals.
func (d Date) MarshalJSON() ([]byte, error) { return []byte(`"` + Mark + `"`), nil }

// MarshalText returns Mark.
func (d Date) MarshalText() ([]byte, error) { return []byte(Mark), nil }

// MarshalBinary refuses with ErrPlain.
func (d Date) MarshalBinary() ([]byte, error) { return nil, ErrPlain }

// Value refuses with ErrPlain.
func (d Date) Value() (driver.Value, error) { return nil, ErrPlain }

// TextValue refuses with ErrPlain.
func (d Date) TextValue() (pgtype.Text, error) { return pgtype.Text{}, ErrPlain }

// BytesValue refuses with ErrPlain.
func (d Date) BytesValue() ([]byte, error) { return nil, ErrPlain }

// DateValue refuses with ErrPlain.
func (d Date) DateValue() (pgtype.Date, error) { return pgtype.Date{}, ErrPlain }

// UnmarshalJSON accepts a string as ParseDate does; null leaves the date as it is.
func (d *Date) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	var s string
	if len(b) == 0 || b[0] != '"' || json.Unmarshal(b, &s) != nil {
		return errors.New("must be a date, as 2006-01-02")
	}
	parsed, err := parseDate(s)
	if err != nil {
		return err
	}
	*d = parsed
	return nil
}
