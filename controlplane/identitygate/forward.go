package identitygate

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caresphere/caresphere/controlplane/session"
	"github.com/caresphere/caresphere/internal/identity"
	"github.com/caresphere/caresphere/tenants"
)

const (
	// forwardTimeout bounds one request of Kratos; hashing a password takes a third of a second.
	forwardTimeout = 10 * time.Second
	// maxAnswer bounds an answer: a settings flow with its QR code has some 40 KiB.
	maxAnswer = 1 << 20
)

// upstream sends requests to Kratos.
type upstream struct {
	base   string
	client *http.Client
}

func newUpstream(base string, conf *tls.Config) (*upstream, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%q is not an https address", base)
	}
	return &upstream{base: strings.TrimSuffix(base, "/"), client: &http.Client{
		Timeout: forwardTimeout,
		Transport: &http.Transport{TLSClientConfig: conf.Clone(), MaxIdleConnsPerHost: 32, MaxConnsPerHost: 128,
			IdleConnTimeout: 90 * time.Second, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// request is all that Kratos is told.
type request struct {
	method, path string
	query        url.Values
	cred         identity.Credential
	contentType  string
	body         []byte
	json         bool
	origin       string
	info         session.Info
}

// answer is what came back and may be passed on.
type answer struct {
	status  int
	cookies []*http.Cookie
	header  http.Header
	body    []byte
}

// passed are the headers of Kratos' answers that a client gets, besides cookies.
var passed = []string{"Content-Type", "Location", "Cache-Control", "Vary"}

func (u *upstream) do(ctx context.Context, r request) (answer, error) {
	target := u.base + "/" + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, bytes.NewReader(r.body))
	if err != nil {
		return answer{}, fmt.Errorf("asking Kratos: %w", err)
	}
	r.headers(req.Header)
	res, err := u.client.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // without the address, which holds the flow's id
		}
		return answer{}, tenants.WrapError(tenants.KindUnavailable, "signing in is not available at the moment", fmt.Errorf("asking Kratos: %w", err))
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil || len(body) > maxAnswer {
		return answer{}, tenants.WrapError(tenants.KindUnavailable, "signing in is not available at the moment", fmt.Errorf("reading Kratos' answer: %w", err))
	}
	if res.StatusCode >= 500 {
		return answer{}, tenants.WrapError(tenants.KindUnavailable, "signing in is not available at the moment", fmt.Errorf("asking Kratos: status %d", res.StatusCode))
	}
	a := answer{status: res.StatusCode, body: body, header: http.Header{}}
	for _, name := range passed {
		if v := res.Header.Get(name); v != "" {
			a.header.Set(name, v)
		}
	}
	for _, k := range res.Cookies() {
		// A paused submission would be resumed in place of a later one, past the guards.
		if k.Name != "ory_kratos_continuity" {
			a.cookies = append(a.cookies, k)
		}
	}
	return a, nil
}

func (r request) headers(h http.Header) {
	h.Set("Accept", "text/html")
	if r.json {
		h.Set("Accept", "application/json")
	}
	if r.body != nil {
		h.Set("Content-Type", r.contentType)
	}
	if r.cred.Token != "" {
		h.Set("X-Session-Token", r.cred.Token)
	} else {
		if r.cred.Cookie != "" {
			h.Set("Cookie", r.cred.Cookie)
		}
		if r.origin != "" {
			h.Set("Origin", r.origin)
		}
	}
	h.Set("User-Agent", r.info.Device)
	h.Set("X-Forwarded-For", r.info.IP)
	h.Set("X-Real-Ip", r.info.IP)
	h.Set("X-Forwarded-Proto", "https")
	h.Set("X-Request-Id", r.info.RequestID)
}
