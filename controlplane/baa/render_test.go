package baa

import (
	"bytes"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/evidence"
	"github.com/caresphere/caresphere/tenants"
)

func rendered(t testing.TB, customer string) []byte {
	t.Helper()
	template, err := CurrentTemplate()
	require.NoError(t, err)
	doc, err := template.Render(Terms{AgreementID: tenants.ID{1}, Customer: customer, Platform: "CareSphere, Inc.", TermMonths: 36})
	require.NoError(t, err)
	return doc
}

// A published template is never edited: make a new version instead.
func TestPublishedTemplatesAreAsPublished(t *testing.T) {
	published := map[string]string{
		"templates/v1/agreement.txt":   "7016b216c7eca8f73283e88e422f60444f4fdaf7a3fa4a79f6fd7ebb336ad340",
		"templates/v1/statements.json": "4cdb75e17c7817daee2fc89a70b3190c08c6120d1bfb9793ced74a6527038e3e",
	}
	found := 0
	require.NoError(t, fs.WalkDir(embedded, "templates", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := embedded.ReadFile(path)
		require.NoError(t, err)
		found++
		assert.Equal(t, published[path], evidence.Hash(content), path)
		return nil
	}))
	assert.Equal(t, len(published), found)
}

// 45 CFR 164.504(e)(2) and 164.314(a)(2) say what an agreement must contain.
func TestAgreementCoversWhatTheRuleDemands(t *testing.T) {
	text := string(rendered(t, "Haven House"))
	for _, section := range []string{
		"164.504(e)(2)(i)(B)", "164.504(e)(2)(ii)(B)", "164.504(e)(2)(ii)(C)", "164.504(e)(2)(ii)(D)", "164.504(e)(2)(ii)(E)",
		"164.504(e)(2)(ii)(F)", "164.504(e)(2)(ii)(G)", "164.504(e)(2)(ii)(H)", "164.504(e)(2)(ii)(I)", "164.504(e)(2)(ii)(J)",
		"164.504(e)(2)(iii)", "164.504(e)(4)", "164.314(a)(2)(i)(A)", "164.314(a)(2)(i)(B)", "164.314(a)(2)(i)(C)",
		"164.410", "164.410(b)", "164.502(b)", "164.502(e)(1)(ii)", "164.308(b)(2)", "164.524", "164.526", "164.528", "15 USC 7001",
		"Haven House", "CareSphere, Inc.", "36 months",
	} {
		assert.Contains(t, text, section)
	}
	assert.NotContains(t, text, "{{")
	assert.NotContains(t, text, "<no value>")
}

func TestNamesCannotPoseAsText(t *testing.T) {
	template, err := CurrentTemplate()
	require.NoError(t, err)
	for _, name := range []string{"", "A\n## 11. More", "A\u2028B", "A\rB", "A\x00", "A\u202eB", " A", "A\xff", strings.Repeat("x", 201)} {
		_, err := template.Render(Terms{AgreementID: tenants.ID{1}, Customer: name, Platform: "P", TermMonths: 1})
		assert.Equal(t, tenants.KindInvalid, tenants.KindOf(err), "%q", name)
	}
	page := Page(rendered(t, `<script>alert("x")</script> & Söhne`), "abc")
	assert.Contains(t, page, "&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt; &amp; Söhne")
	assert.NotContains(t, page, "<script>")
	// A name that looks like template code is a name.
	assert.Contains(t, string(rendered(t, "{{.Platform}}")), "{{.Platform}} (the \"Covered Entity\")")
}

func TestTermInWords(t *testing.T) {
	for months, want := range map[int]string{1: "one month", 11: "11 months", 12: "one year", 13: "one year and one month", 36: "3 years", 30: "2 years and 6 months"} {
		assert.Equal(t, want, Terms{TermMonths: months}.Term())
	}
}

func signature(party string) evidence.Signature {
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	return evidence.Signature{Party: party, AgreementID: tenants.ID{1}, OrganizationID: tenants.ID{2}, TemplateVersion: "v1",
		DocumentSHA256: strings.Repeat("ab", 32), Signer: evidence.Signer{Name: "Zoë Ångström 王", Title: "Director", Authority: "may", Email: "z@example.org"},
		Authentication: evidence.Authentication{Methods: []string{"password", "totp"}, SecondFactorAt: at},
		IP:             "192.0.2.1", UserAgent: "UA", SignedAt: at}
}

func TestPDFIsCompactAndDeterministic(t *testing.T) {
	for _, name := range []string{"Haven House", "Клиника Ромашка & Ελπίς", "養老院 😀 Haven", strings.Repeat("W", 200)} {
		doc := rendered(t, name)
		var first []byte
		for i := range 3 {
			pdf, err := renderPDF(doc, signature("customer"), signature("operator"), time.Date(2029, 3, 4, 5, 6, 7, 0, time.UTC))
			require.NoError(t, err)
			if i == 0 {
				first = pdf
			}
			require.True(t, bytes.Equal(first, pdf), "%q renders differently", name)
		}
		assert.True(t, bytes.HasPrefix(first, []byte("%PDF-")))
		assert.Less(t, len(first), 120_000)
	}
}
