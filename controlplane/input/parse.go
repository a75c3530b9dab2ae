// Package input reads what people type about themselves: addresses and names.
//
// It owns the one spelling of each and what is refused. It trusts nothing, keeps
// nothing and never repeats a value in an error.
package input

import (
	"net/mail"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/caresphere/caresphere/tenants"
)

// ParseEmail returns the address in its one spelling, lower case. Only plain ASCII
// addresses of at most 254 characters (RFC 5321, 4.5.3.1.3) are taken. The error
// is KindInvalid and names the field.
func ParseEmail(field, s string) (string, error) {
	bad := tenants.Invalid(field, "must be an e-mail address, as name@example.org")
	s = strings.ToLower(strings.TrimSpace(s))
	if len(s) > 254 {
		return "", tenants.Invalid(field, "must have at most 254 characters")
	}
	for _, c := range []byte(s) {
		if c <= 0x20 || c >= 0x7f || strings.IndexByte(`"(),:;<>[\]`, c) >= 0 {
			return "", bad
		}
	}
	a, err := mail.ParseAddress(s)
	if err != nil || a.Address != s || a.Name != "" {
		return "", bad
	}
	local, domain, _ := strings.Cut(s, "@")
	if len(local) > 64 || !strings.Contains(domain, ".") || strings.HasPrefix(domain, ".") || strings.HasSuffix(domain, ".") {
		return "", bad
	}
	return s, nil
}

// ParseName returns a person's or an organization's name, trimmed, of 2 to most
// characters. Names go into letters to people who have not asked for them: what
// could be a link or markup is refused. The error is KindInvalid and names the field.
func ParseName(field, s string, most int) (string, error) {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == '\u00a0' }), " ")
	if !utf8.ValidString(s) {
		return "", tenants.Invalid(field, "must be valid UTF-8")
	}
	n := utf8.RuneCountInString(s)
	if n < 2 {
		return "", tenants.Invalid(field, "must have at least 2 characters")
	}
	if n > most {
		return "", tenants.Invalid(field, "has too many characters")
	}
	for _, r := range s {
		if unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Co, unicode.Zl, unicode.Zp) {
			return "", tenants.Invalid(field, "must not contain control characters")
		}
	}
	lower := strings.ToLower(s)
	if strings.ContainsAny(s, "<>{}|\\^`") || strings.Contains(lower, "://") || strings.Contains(lower, "www.") {
		return "", tenants.Invalid(field, "must be a name, without links or markup")
	}
	return s, nil
}
