package identity_test

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/identity"
	"github.com/caresphere/caresphere/tenants"
)

// TestARefusalWithoutADatabaseIsNotMeant: Kratos answers 401 also when it cannot look a
// session up. A server that does the same stands in here, to count what it is asked;
// the full disk of the end-to-end tests shows the real one.
func TestARefusalWithoutADatabaseIsNotMeant(t *testing.T) {
	var away atomic.Bool
	var whoami, health atomic.Int64
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/sessions/whoami":
			whoami.Add(1)
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/health/ready" && away.Load():
			health.Add(1)
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			health.Add(1)
		}
	}))
	defer server.Close()
	trust, ok := server.Client().Transport.(*http.Transport)
	require.True(t, ok)
	c, err := identity.Open(identity.Config{PublicURL: server.URL, TLS: &tls.Config{RootCAs: trust.TLSClientConfig.RootCAs, MinVersion: tls.VersionTLS12}})
	require.NoError(t, err)
	ask := func() error {
		_, err := c.Whoami(context.Background(), identity.Credential{Token: "ory_st_nobody"})
		return err
	}
	require.True(t, tenants.IsKind(ask(), tenants.KindUnauthenticated))
	away.Store(true)
	require.True(t, tenants.IsKind(ask(), tenants.KindUnavailable), "a refusal of before is no answer to this one")
	away.Store(false)
	require.True(t, tenants.IsKind(ask(), tenants.KindUnauthenticated))

	// Many refusals at once do not ask many times more.
	whoami.Store(0)
	health.Store(0)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { assert.True(t, tenants.IsKind(ask(), tenants.KindUnauthenticated)) })
	}
	wg.Wait()
	require.EqualValues(t, 50, whoami.Load())
	require.LessOrEqual(t, health.Load(), whoami.Load())
	require.Positive(t, health.Load())
}
