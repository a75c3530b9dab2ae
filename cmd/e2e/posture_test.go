package e2e_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/devstack"
)

// secured fails unless an answer has every header of a public answer, each once.
func secured(t *testing.T, what string, r reply) {
	t.Helper()
	for name, want := range map[string]string{
		"Strict-Transport-Security":    "max-age=63072000; includeSubDomains",
		"X-Content-Type-Options":       "nosniff",
		"Referrer-Policy":              "same-origin",
		"X-Frame-Options":              "DENY",
		"Cross-Origin-Opener-Policy":   "same-origin",
		"Cross-Origin-Resource-Policy": "same-origin",
		"Permissions-Policy":           "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
	} {
		require.Equal(t, []string{want}, r.head.Values(name), "%s: %s", what, name)
	}
	require.Len(t, r.head.Values("Content-Security-Policy"), 1, what)
	policy := r.head.Get("Content-Security-Policy")
	for _, part := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"} {
		require.Contains(t, policy, part, what)
	}
	for _, never := range []string{"unsafe-inline", "unsafe-eval", "*", "http:"} {
		require.NotContains(t, policy, never, what)
	}
	require.Len(t, r.head.Values("Content-Type"), 1, what)
	require.Len(t, r.head.Values("X-Request-Id"), 1, what)
	for _, never := range []string{"Server", "X-Powered-By", "Via", "Access-Control-Allow-Origin", "Caresphere-Placement-Epoch"} {
		require.Empty(t, r.head.Values(never), "%s: %s", what, never)
	}
	cookies := (&http.Response{Header: r.head}).Cookies()
	for _, c := range cookies {
		require.True(t, c.Secure && c.HttpOnly, "%s: %s", what, c.Name)
		require.Contains(t, []http.SameSite{http.SameSiteLaxMode, http.SameSiteStrictMode}, c.SameSite, "%s: %s", what, c.Name)
	}
}

func TestEveryKindOfAnswerIsSecured(t *testing.T) {
	w := here(t)
	l := w.other(t)
	front, console := w.wire(t, w.Origin()), w.wire(t, w.OperatorOrigin())
	front.head.Set("Accept", "application/json")
	pages := w.wire(t, w.Origin()).with("Accept", "text/html")
	owner := front.as(l.Owner.Client)
	tenant := "/t/" + l.Slug + "/v1"
	home := pages.do(t, "GET", "/", nil)
	_, rest, ok := strings.Cut(home.body, `href="/assets/`)
	require.True(t, ok)
	style, _, _ := strings.Cut(rest, `"`)
	for _, tc := range []struct {
		what, method, path string
		by                 wire
		body               any
		status             int
		kind               string
		cached             bool
	}{
		{"a page", "GET", "/", pages, nil, 200, "text/html; charset=utf-8", false},
		{"a page with a form", "GET", "/signup", pages, nil, 200, "text/html; charset=utf-8", false},
		{"a page of an error", "GET", "/nothing", pages, nil, 404, "text/html; charset=utf-8", false},
		{"an asset", "GET", "/assets/" + style, pages, nil, 200, "text/css; charset=utf-8", true},
		{"a redirect of Kratos", "GET", "/.ory/self-service/login/browser", pages, nil, 303, "text/html; charset=utf-8", false},
		{"a refusal of Kratos", "GET", "/.ory/sessions/whoami", front, nil, 401, "application/json", false},
		{"a part of Kratos that is closed", "GET", "/.ory/admin/identities", front, nil, 404, "application/problem+json", false},
		{"a description", "GET", "/openapi.json", front, nil, 200, "application/json", true},
		{"a worker's description", "GET", "/t/openapi.json", front, nil, 200, "application/json", true},
		{"readiness", "GET", "/readyz", front, nil, 200, "application/json", false},
		{"nobody", "GET", "/api/v1/me", front, nil, 401, "application/problem+json", false},
		{"somebody", "GET", "/api/v1/me", owner, nil, 200, "application/json", false},
		{"a contract", "GET", "/api/v1/baas/" + l.BAA.ID + "/pdf", owner, nil, 200, "application/pdf", false},
		{"a contract's text", "GET", "/api/v1/baas/" + l.BAA.ID + "/document", owner, nil, 200, "text/html; charset=utf-8", false},
		{"a worker's answer", "GET", tenant + "/session", owner, nil, 200, "application/json", false},
		{"a worker's export", "GET", tenant + "/audit/export?format=csv", owner, nil, 200, "text/csv; charset=utf-8", false},
		{"a worker's refusal", "GET", tenant + "/session", front, nil, 401, "application/problem+json", false},
		{"a worker's not found", "GET", tenant + "/nothing", owner, nil, 404, "application/problem+json", false},
		{"a worker's bad input", "POST", tenant + "/facilities", owner, []byte(`{"name":`), 400, "application/problem+json", false},
		{"an unknown tenant", "GET", "/t/nobody/v1/session", owner, nil, 404, "application/problem+json", false},
		{"a method that is not there", "TRACE", "/", front, nil, 405, "application/problem+json", false},
		{"a path in another form", "GET", "/%61pi/v1/me", front, nil, 400, "application/problem+json", false},
		{"the operators' page", "GET", "/nothing", console.with("Accept", "text/html"), nil, 404, "text/html; charset=utf-8", false},
		{"the operators' refusal", "GET", "/api/v1/organizations", console, nil, 401, "application/problem+json", false},
	} {
		r := tc.by.do(t, tc.method, tc.path, tc.body)
		require.Equal(t, tc.status, r.status, "%s: %s", tc.what, r.body)
		require.Equal(t, tc.kind, r.head.Get("Content-Type"), tc.what)
		secured(t, tc.what, r)
		require.Equal(t, tc.cached, !strings.Contains(r.head.Get("Cache-Control"), "no-store"), "%s: %s", tc.what, r.head.Get("Cache-Control"))
	}
}

func TestThePublicListenersSpeakCurrentTLSAlone(t *testing.T) {
	w := here(t)
	for _, origin := range []string{w.Origin(), w.OperatorOrigin()} {
		u, err := url.Parse(origin)
		require.NoError(t, err)
		shake := func(change func(*tls.Config)) (tls.ConnectionState, error) {
			conf := &tls.Config{RootCAs: w.roots, ServerName: u.Hostname(), MinVersion: tls.VersionTLS12}
			change(conf)
			conn, err := tls.Dial("tcp", u.Host, conf)
			if err != nil {
				return tls.ConnectionState{}, err
			}
			defer func() { _ = conn.Close() }()
			return conn.ConnectionState(), nil
		}
		for version, ok := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
			_, err := shake(func(c *tls.Config) { c.MinVersion, c.MaxVersion = version, version })
			require.Equal(t, ok, err == nil, "%s %s: %v", origin, tls.VersionName(version), err)
		}
		_, err = shake(func(c *tls.Config) {
			c.MaxVersion = tls.VersionTLS12
			c.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, tls.TLS_RSA_WITH_AES_128_GCM_SHA256}
		})
		require.Error(t, err, "%s takes a suite without authenticated encryption or forward secrecy", origin)
		state, err := shake(func(*tls.Config) {})
		require.NoError(t, err)
		leaf := state.PeerCertificates[0]
		require.NoError(t, leaf.VerifyHostname("localhost"))
		require.Error(t, leaf.VerifyHostname("example.com"))
		require.False(t, leaf.IsCA)
		require.Greater(t, time.Until(leaf.NotAfter), 24*time.Hour)
		require.NotContains(t, []string{"SHA1-RSA", "ECDSA-SHA1", "MD5-RSA"}, leaf.SignatureAlgorithm.String())
	}
	// Nobody without a program's certificate reaches what stands behind the front.
	for _, port := range []devstack.Port{devstack.PortControlPlane, devstack.PortWorkerA} {
		u, err := url.Parse(w.URL(port))
		require.NoError(t, err)
		conn, err := tls.Dial("tcp", u.Host, &tls.Config{RootCAs: w.roots, ServerName: u.Hostname(), MinVersion: tls.VersionTLS12})
		if err == nil { // with TLS 1.3 the refusal comes with the first read
			require.NoError(t, conn.SetDeadline(time.Now().Add(5*time.Second)))
			_, err = conn.Read(make([]byte, 1))
			_ = conn.Close()
		}
		require.ErrorContains(t, err, "certificate required")
	}
}

func TestTheRunningRouterTakesNoRequestInTwoWays(t *testing.T) {
	w := here(t)
	l := w.other(t)
	u, err := url.Parse(w.Origin())
	require.NoError(t, err)
	auth := "Host: " + u.Host + "\r\nAuthorization: Bearer " + l.Owner.Token() + "\r\n"
	if l.Owner.Token() == "" {
		auth = "Host: " + u.Host + "\r\nOrigin: " + w.Origin() + "\r\nCookie: " + l.Owner.Cookie("/t/") + "\r\n"
	}
	converse := func(text string) (statuses []int) {
		conn, err := tls.Dial("tcp", u.Host, &tls.Config{RootCAs: w.roots, ServerName: u.Hostname(), MinVersion: tls.VersionTLS12})
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
		_, _ = io.WriteString(conn, text)
		br := bufio.NewReader(conn)
		for {
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				return statuses
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			statuses = append(statuses, resp.StatusCode)
		}
	}
	at := " /t/" + l.Slug + "/v1/session HTTP/1.1\r\n" + auth
	inner := "GET" + at + "Connection: close\r\n\r\n"
	require.Equal(t, []int{200}, converse(inner))
	require.Equal(t, []int{200, 200}, converse("GET"+at+"\r\n"+inner))
	for name, text := range map[string]string{
		"CL.TE":     "POST" + at + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"TE.TE":     "POST" + at + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
		"CL.CL":     "POST" + at + "Content-Length: 0\r\nContent-Length: 5\r\n\r\n",
		"bare LF":   "GET" + at + "X-A: 1\nX-B: 2\r\n\r\n",
		"folded":    "GET" + at + "X-A: 1\r\n 2\r\n\r\n",
		"absolute":  "GET " + w.Origin() + "/t/" + l.Slug + "/v1/session HTTP/1.1\r\n" + auth + "\r\n",
		"dots":      "GET /t/nobody/../" + l.Slug + "/v1/session HTTP/1.1\r\n" + auth + "\r\n",
		"encoded":   "GET /t/" + l.Slug + "/v1%2fsession HTTP/1.1\r\n" + auth + "\r\n",
		"two Hosts": "GET" + at + "Host: x\r\n\r\n",
	} {
		require.Equal(t, []int{400}, converse(text+inner), name)
	}
}
