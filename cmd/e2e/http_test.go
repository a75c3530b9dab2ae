package e2e_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/client"
	"github.com/caresphere/caresphere/internal/devstack"
)

// wire is HTTP without a client's manners: any header, any body, any status.
type wire struct {
	http *http.Client
	base string
	head http.Header
}

// wire speaks to a base URL, with a certificate of a program if one is given.
func (w *world) wire(t *testing.T, base string, certificates ...tls.Certificate) wire {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.roots, Certificates: certificates, MinVersion: tls.VersionTLS12}}
	t.Cleanup(tr.CloseIdleConnections)
	return wire{base: base, head: http.Header{}, http: &http.Client{Transport: tr, Timeout: 15 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// asRouter reaches a worker past the router, as the router would.
func (w *world) asRouter(t *testing.T, p devstack.Port) wire {
	t.Helper()
	return w.wire(t, w.URL(p), w.certificate(t, devstack.Router))
}

// with returns the wire with one more header.
func (x wire) with(name, value string) wire {
	x.head = x.head.Clone()
	x.head.Set(name, value)
	return x
}

// as returns the wire with a client's session, by its token or its cookies.
func (x wire) as(c *client.Client) wire {
	if c.Token() != "" {
		return x.with("Authorization", "Bearer "+c.Token())
	}
	return x.with("Cookie", c.Cookie("/t/")).with("Origin", c.Origin())
}

// reply is an answer, whole.
type reply struct {
	status int
	head   http.Header
	body   string
}

// problem is the kind of a refusal.
func (r reply) problem() string {
	p := client.Problem{}
	_ = json.Unmarshal([]byte(r.body), &p)
	return p.Kind()
}

// try sends a request; body is encoded as JSON unless it is bytes already.
func (x wire) try(ctx context.Context, method, path string, body any) (reply, error) {
	var send io.Reader
	switch b := body.(type) {
	case nil:
	case []byte:
		send = bytes.NewReader(b)
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			return reply{}, err
		}
		send = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, x.base+path, send)
	if err != nil {
		return reply{}, err
	}
	req.Header = x.head.Clone()
	req.Host = req.Header.Get("Host") // which is no header to net/http; empty is the URL's
	if send != nil && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := x.http.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	return reply{status: res.StatusCode, head: res.Header, body: string(raw)}, err
}

func (x wire) do(t *testing.T, method, path string, body any) reply {
	t.Helper()
	r, err := x.try(within(t, 15*time.Second), method, path, body)
	require.NoError(t, err, "%s %s", method, path)
	return r
}
