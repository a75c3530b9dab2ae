package main

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/members"
	"github.com/caresphere/caresphere/controlplane/session"
	"github.com/caresphere/caresphere/controlplane/signup"
	"github.com/caresphere/caresphere/internal/identity"
	"github.com/caresphere/caresphere/tenants"
)

// When Kratos is away, cannot write or is slow, a sign-up's answer tells as little of
// the address as ever: the same calls are made of Kratos, and refusals take the floor's
// time too.
func TestKratosInTroubleDoesNotTellWhoHasAnAccount(t *testing.T) {
	t.Parallel()
	w := start(t)
	known := w.confirmed(t)
	behind, err := url.Parse(w.customers.AdminURL)
	require.NoError(t, err)
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(behind) },
		Transport: &http.Transport{TLSClientConfig: w.customers.TLS(t)},
	}
	var refuses atomic.Value
	var calls atomic.Int32
	refuses.Store("")
	front := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		if what, _ := refuses.Load().(string); what == "all" || what == r.Method {
			http.Error(rw, "{}", http.StatusServiceUnavailable)
			return
		}
		proxy.ServeHTTP(rw, r)
	}))
	t.Cleanup(front.Close)
	conf := front.Client().Transport.(*http.Transport).TLSClientConfig
	ids, err := identity.Open(identity.Config{PublicURL: front.URL, AdminURL: front.URL, TLS: &tls.Config{RootCAs: conf.RootCAs, MinVersion: tls.VersionTLS12}})
	require.NoError(t, err)
	p := w.plane
	ups := signup.New(p.pool, members.New(p.pool, ids, origin), p.counter, p.customers.rules, members.SignUpLifetime, origin)
	try := func(email string) (int32, error) {
		calls.Store(0)
		began := time.Now()
		_, err := ups.SignUp(context.Background(), signup.Request{LegalName: "Maple Grove Care", Slug: unique("try"), CareSetting: tenants.Clinic,
			OwnerName: "Dana Whitfield", Email: email}, "", session.Info{IP: "203.0.113.9"})
		assert.GreaterOrEqual(t, time.Since(began), 400*time.Millisecond)
		return calls.Load(), err
	}
	before := w.rows(t)
	for _, what := range []string{"all", http.MethodPost} {
		refuses.Store(what)
		for _, email := range []string{known.email, unique("nobody") + "@example.org"} {
			_, err := try(email)
			assert.True(t, tenants.IsKind(err, tenants.KindUnavailable), "%s refused, %s: %v", what, email, err)
		}
	}
	assert.Equal(t, before, w.rows(t))
	refuses.Store("")
	made, err := try(unique("nobody") + "@example.org")
	require.NoError(t, err)
	looked, err := try(known.email)
	require.NoError(t, err)
	assert.Equal(t, made, looked, "calls of Kratos")
	assert.Equal(t, http.StatusOK, known.get("/api/v1/me").status, "the account is as it was")
}
