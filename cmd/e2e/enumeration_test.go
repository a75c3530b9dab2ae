package e2e_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestNobodyLearnsWhoIsACustomer asks for an organization that is served and for one
// that does not exist, without a session, with one that means nothing and with another
// organization's: the answers are the same. The allowed twin is its own nurse.
func TestNobodyLearnsWhoIsACustomer(t *testing.T) {
	t.Parallel()
	w := here(t)
	served, other := w.other(t), w.tenant(t, "curious")
	plain := w.wire(t, w.Origin())
	body := m{"family": "Okonkwo"}
	for who, x := range map[string]wire{"nobody": plain, "a made-up token": plain.with("Authorization", "Bearer ory_st_"+strings.Repeat("a", 32)),
		"a made-up cookie": plain.with("Cookie", "caresphere_session=made-up"), "a stranger": plain.as(other.Nurse.Client)} {
		for _, r := range []struct {
			method, path string
			body         any
		}{
			{http.MethodGet, "/v1/facilities", nil}, {http.MethodGet, "/v1/session", nil}, {http.MethodGet, "/v1/no-such-thing", nil},
			{http.MethodPost, "/v1/clients/search", body}, {http.MethodPost, "/v1/probe", nil}, {http.MethodDelete, "/v1/facilities", nil},
		} {
			var shown [2]string
			for i, slug := range []string{served.Slug, "nobody-" + word()} {
				a, err := x.try(within(t, 15*time.Second), r.method, "/t/"+slug+r.path, r.body)
				require.NoError(t, err)
				require.GreaterOrEqual(t, a.status, 400)
				known, _, _ := strings.Cut(a.body, `"request_id"`)
				shown[i] = http.StatusText(a.status) + " " + known
			}
			require.Equal(t, shown[0], shown[1], "%s: %s %s", who, r.method, r.path)
		}
	}
	a, err := plain.as(served.Nurse.Client).try(within(t, 15*time.Second), http.MethodGet, "/t/"+served.Slug+"/v1/session", nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, a.status, a.body)
}
