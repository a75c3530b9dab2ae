package main

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/testkit"
)

// left is how much of its life an account's session has left in Kratos.
func (w *world) left(t *testing.T, email string) time.Duration {
	t.Helper()
	conn, identity := w.inKratos(t, email)
	var expires time.Time
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT max(expires_at) FROM sessions WHERE identity_id = $1", identity).Scan(&expires))
	return time.Until(expires)
}

// The admin API alone prolongs sessions. Without it they live as long as they would.
func TestASessionThatCannotBeProlongedGoesOnUntilItsEnd(t *testing.T) {
	t.Parallel()
	proxy := testkit.Toxiproxy(t, testkit.Kratos(t).AdminURL)
	through, err := url.Parse("https://" + proxy.Addr)
	require.NoError(t, err)
	w := startWith(t, func(s *settings) { s.KratosAdminURL = "https://localhost:" + through.Port() })
	prolonged, down, hanging := w.onboarded(t), w.onboarded(t), w.onboarded(t)
	for _, o := range []*owner{prolonged, down, hanging} {
		require.Equal(t, http.StatusOK, o.get("/api/v1/me").status)
		w.agedInKratos(t, o.email, "expires_at", "8 minutes")
	}

	require.Equal(t, http.StatusOK, prolonged.get("/api/v1/me").status)
	require.Greater(t, w.left(t, prolonged.email), 14*time.Minute)

	for o, fault := range map[*owner]func(){down: proxy.Down, hanging: proxy.Hang} {
		fault()
		for range 3 {
			r := o.get("/api/v1/me")
			require.Equal(t, http.StatusOK, r.status, "%s", r.body)
		}
		require.Less(t, w.left(t, o.email), 8*time.Minute)
		w.agedInKratos(t, o.email, "expires_at", "8 minutes")
		require.Equal(t, http.StatusUnauthorized, o.get("/api/v1/me").status, "its life is over")
		proxy.Heal()
	}
}
