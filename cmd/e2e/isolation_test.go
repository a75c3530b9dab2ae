package e2e_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type m = map[string]any

// A browser sends cookies along with whatever a foreign page makes it ask: those
// alone do not change anything. A token is sent by its holder only.
func TestCookiesAloneChangeNothing(t *testing.T) {
	t.Parallel()
	w := here(t)
	l := w.other(t)
	x, body := w.wire(t, w.Origin()), m{"shift": "day", "body": "From a foreign page."}
	r := admit(t, l, "Egwu")
	path := "/t/" + l.Slug + "/v1/clients/" + r.client.ID + "/notes"
	cookies := x.as(l.Nurse.Client)
	for name, from := range map[string]wire{
		"another origin":    cookies.with("Origin", "https://evil.example"),
		"another site":      cookies.with("Origin", "").with("Sec-Fetch-Site", "cross-site"),
		"a sibling's page":  cookies.with("Origin", w.OperatorOrigin()),
		"an opaque origin":  cookies.with("Origin", "null"),
		"the operators' UI": cookies.with("Origin", w.OperatorOrigin()).with("Sec-Fetch-Site", "same-site"),
	} {
		a := from.do(t, http.MethodPost, path, body)
		assert.Equal(t, http.StatusForbidden, a.status, "%s: %s", name, a.body)
	}
	require.Len(t, notes(t, l, r.client.ID), 1)
	require.Equal(t, http.StatusCreated, cookies.with("Sec-Fetch-Site", "same-origin").do(t, http.MethodPost, path, body).status)
	token := x.as(w.bearer(t, l.Nurse))
	a := token.do(t, http.MethodPost, path, body)
	require.Equal(t, http.StatusCreated, a.status, a.body)
	require.Len(t, notes(t, l, r.client.ID), 3)
}
