package input_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/input"
	"github.com/caresphere/caresphere/tenants"
)

func TestEmailHasOneSpelling(t *testing.T) {
	for _, c := range [][2]string{{"dana@example.org", "dana@example.org"}, {" Dana.W+x@Example.ORG ", "dana.w+x@example.org"}, {"o'hara@a-b.example", "o'hara@a-b.example"}} {
		got, err := input.ParseEmail("f", c[0])
		require.NoError(t, err, c[0])
		assert.Equal(t, c[1], got)
	}
	for _, bad := range []string{"", "x", "@example.org", "a@b", "a@.org", "a@org.", "a b@example.org", "a@example.org\n", "a@exa\x00mple.org",
		"<a@example.org>", "Dana <a@example.org>", "a@example.org,b@example.org", "\"a\"@example.org", "a@[127.0.0.1]", "ä@example.org", "a@exämple.org",
		strings.Repeat("a", 65) + "@example.org", "a@" + strings.Repeat("b", 250) + ".org"} {
		got, err := input.ParseEmail("body.email", bad)
		if bad == "a@example.org\n" {
			assert.Equal(t, "a@example.org", got, "space around is taken off")
			continue
		}
		var e *tenants.Error
		require.ErrorAs(t, err, &e, "%q", bad)
		assert.Equal(t, "body.email", e.Fields[0].Field)
	}
}

func TestNamesOfPeopleAreTaken(t *testing.T) {
	for _, name := range []string{"Dana Whitfield", "Zoë Ångström", "李小龙", "O'Neil-Smith, MD", "Søren (nights)", "عائشة", "St. Mary's Home & Clinic, Inc."} {
		got, err := input.ParseName("f", "  "+name+"  ", 100)
		require.NoError(t, err, name)
		assert.Equal(t, name, got)
	}
	for _, bad := range []string{"", " ", "A", "Dana\nBcc: x", "Dana\tx", "<b>Dana</b>", "see http://x.example", "www.example.org", "Dana \u202egro", "Dana\u200b\u200b", "a\u2028b", "D\xffana", strings.Repeat("a", 101), "{{.}}"} {
		_, err := input.ParseName("body.name", bad, 100)
		assert.True(t, tenants.IsKind(err, tenants.KindInvalid), "%q", bad)
	}
}

func FuzzParseName(f *testing.F) {
	f.Add("Dana Whitfield")
	f.Add("<script>")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := input.ParseName("f", s, 100)
		if err != nil {
			return
		}
		if !utf8.ValidString(got) || utf8.RuneCountInString(got) > 100 || strings.ContainsAny(got, "\r\n<>") || strings.ContainsFunc(got, unicode.IsControl) {
			t.Fatalf("%q became %q", s, got)
		}
	})
}

func FuzzParseEmail(f *testing.F) {
	f.Add("dana@example.org")
	f.Add("a@b.c\r\nBcc: x@y.z")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := input.ParseEmail("f", s)
		if err != nil {
			return
		}
		again, err := input.ParseEmail("f", got)
		if err != nil || again != got || strings.ContainsAny(got, " \r\n,;<>\"") || strings.Count(got, "@") != 1 {
			t.Fatalf("%q became %q, then %q, %v", s, got, again, err)
		}
	})
}
