package baa

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/caresphere/caresphere/tenants"
)

// checkLine accepts one line of printable text without surrounding spaces, from
// least to most characters long. Format characters are refused because they can
// make a name look like another one (bidirectional overrides, zero width).
func checkLine(field, s string, least, most int) error {
	if !utf8.ValidString(s) {
		return tenants.Invalid(field, "must be valid UTF-8")
	}
	if n := utf8.RuneCountInString(s); n < least || n > most {
		return tenants.Invalid(field, fmt.Sprintf("must be %d to %d characters", least, most))
	}
	if strings.TrimSpace(s) != s {
		return tenants.Invalid(field, "must not begin or end with spaces")
	}
	for _, r := range s {
		if r != ' ' && (!unicode.IsPrint(r) || r == utf8.RuneError) {
			return tenants.Invalid(field, "must be one line of printable characters")
		}
	}
	return nil
}
