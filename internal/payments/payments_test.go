package payments

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/url"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/tenants"
)

var ctx = context.Background()

func payer() Payer {
	return Payer{OrganizationID: tenants.NewID(), Slug: "haven", LegalName: "Haven House"}
}

func roots(t testing.TB, server *testkit.StripeServer) *tls.Config {
	t.Helper()
	pem, err := os.ReadFile(server.CA)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(pem))
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
}

// Both providers keep the same promises.
func TestProviders(t *testing.T) {
	server := testkit.StripeMock(t)
	stripe, err := Open(Config{StripeKey: "sk_test_123", StripeURL: server.URL, TLS: roots(t, server)})
	require.NoError(t, err)
	manual, err := Open(Config{})
	require.NoError(t, err)
	for plan, p := range map[string]Provider{PlanManual: manual, PlanStripe: stripe} {
		t.Run(plan, func(t *testing.T) {
			assert.Equal(t, plan, p.Plan())
			who := payer()
			one, err := p.Customer(ctx, who)
			require.NoError(t, err)
			two, err := p.Customer(ctx, who)
			require.NoError(t, err)
			if plan == PlanStripe {
				assert.NotEmpty(t, one)
			} else {
				assert.Equal(t, one, two)
			}
			sub, err := p.Subscribe(ctx, who, one)
			require.NoError(t, err)
			assert.NotEmpty(t, sub.Status)
			assert.NotEqual(t, "pending", sub.Status)
			assert.Equal(t, plan == PlanStripe, sub.ID != "")
		})
	}
}

// recorder keeps what goes out to the real server.
type recorder struct {
	next http.RoundTripper
	mu   sync.Mutex
	sent []sent
}

type sent struct {
	method, path, query, key string
	form                     url.Values
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	s := sent{method: req.Method, path: req.URL.Path, query: req.URL.RawQuery, key: req.Header.Get("Idempotency-Key")}
	if req.Body != nil {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		s.form, _ = url.ParseQuery(string(body))
		req.Body = io.NopCloser(bytes.NewReader(body))
	}
	r.mu.Lock()
	r.sent = append(r.sent, s)
	r.mu.Unlock()
	return r.next.RoundTrip(req)
}

func TestStripeIsToldNoMoreThanItNeedsAndNothingTwice(t *testing.T) {
	server := testkit.StripeMock(t)
	rec := &recorder{next: &http.Transport{TLSClientConfig: roots(t, server)}}
	p, err := newStripe(Config{StripeKey: "sk_test_123", StripeURL: server.URL}, rec, callTimeout)
	require.NoError(t, err)
	who, other := payer(), payer()
	for _, x := range []Payer{who, who, other} {
		id, err := p.Customer(ctx, x)
		require.NoError(t, err)
		_, err = p.Subscribe(ctx, x, id)
		require.NoError(t, err)
	}
	keys := map[string]int{}
	allowed := map[string]bool{"name": true, "customer": true, "collection_method": true, "days_until_due": true,
		"items[0][price]": true, "items[0][quantity]": true, "metadata[organization_id]": true, "metadata[slug]": true}
	for _, s := range rec.sent {
		if s.method == http.MethodGet {
			query, _ := url.QueryUnescape(s.query)
			assert.NotContains(t, query, "Haven", "what is looked for is no name")
			continue
		}
		keys[s.key]++
		for field := range s.form {
			assert.True(t, allowed[field], "%s was sent to %s", field, s.path)
		}
		assert.NotEmpty(t, s.form.Get("metadata[organization_id]"))
	}
	assert.Equal(t, map[string]int{
		"caresphere-customer-" + who.OrganizationID.String(): 2, "caresphere-subscription-" + who.OrganizationID.String(): 2,
		"caresphere-customer-" + other.OrganizationID.String(): 1, "caresphere-subscription-" + other.OrganizationID.String(): 1,
	}, keys, "a repeat carries the same key, which makes it harmless")
}

func TestStripeAway(t *testing.T) {
	server := testkit.StripeMock(t)
	proxy := testkit.Toxiproxy(t, server.URL)
	p, err := newStripe(Config{StripeKey: "sk_test_123", StripeURL: "https://" + proxy.Addr},
		&http.Transport{TLSClientConfig: roots(t, server), DisableKeepAlives: true}, 700*time.Millisecond)
	require.NoError(t, err)
	_, err = p.Customer(ctx, payer())
	require.NoError(t, err)

	for name, fault := range map[string]func(){"down": proxy.Down, "hanging": proxy.Hang, "resetting": proxy.Reset, "cut": func() { proxy.CutAfter(20) }} {
		t.Run(name, func(t *testing.T) {
			fault()
			defer proxy.Heal()
			began := time.Now()
			_, err := p.Customer(ctx, payer())
			assert.Equal(t, tenants.KindUnavailable, tenants.KindOf(err))
			_, err = p.Subscribe(ctx, payer(), "cus_1")
			assert.Equal(t, tenants.KindUnavailable, tenants.KindOf(err))
			assert.Less(t, time.Since(began), 5*time.Second)
		})
	}
	_, err = p.Customer(ctx, payer())
	require.NoError(t, err, "it comes back by itself")
}

func TestStripeRefusing(t *testing.T) {
	server := testkit.StripeMock(t)
	p, err := NewStripe(Config{StripeKey: "not a key", StripeURL: server.URL, TLS: roots(t, server)})
	require.NoError(t, err)
	_, err = p.Customer(ctx, payer())
	assert.Equal(t, tenants.KindConflict, tenants.KindOf(err), "%v", err)

	wrong, err := NewStripe(Config{StripeKey: "sk_test_123", StripeURL: server.URL}) // not an authority of the system's
	require.NoError(t, err)
	_, err = wrong.Customer(ctx, payer())
	assert.Equal(t, tenants.KindUnavailable, tenants.KindOf(err), "an unverified certificate is no answer")
}

func TestStripeURL(t *testing.T) {
	for _, bad := range []string{"http://stripe.example", "://", "stripe", "ftp://localhost"} {
		_, err := NewStripe(Config{StripeKey: "sk_test_123", StripeURL: bad})
		assert.Error(t, err, bad)
	}
	for _, good := range []string{"", "https://stripe.example", "http://127.0.0.1:12111"} {
		_, err := NewStripe(Config{StripeKey: "sk_test_123", StripeURL: good})
		assert.NoError(t, err, good)
	}
}
