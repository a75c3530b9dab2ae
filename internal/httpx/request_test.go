package httpx_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/tenants"
)

func echoApp(cfg httpx.Config) *fiber.App {
	app := httpx.New(cfg)
	app.All("/*", func(c *fiber.Ctx) error {
		ip, device, id := httpx.RequestInfo(httpx.Context(c))
		return c.JSON(fiber.Map{"ip": ip, "device": device, "id": id, "peer": httpx.PeerCN(c), "cip": c.IP(),
			"host": c.Hostname(), "xff": c.Get("X-Forwarded-For"), "epoch": c.Get("Caresphere-Placement-Epoch"),
			"trace": c.Get("traceparent"), "path": c.Path(), "body": len(c.Body())})
	})
	return app
}

func TestAmbiguousRequestsAreRefused(t *testing.T) {
	in := serve(t, echoApp(httpx.Config{}))
	get := func(target string) string { return "GET " + target + " HTTP/1.1\r\nHost: localhost\r\n\r\n" }
	for name, tc := range map[string]struct {
		request string
		status  int
	}{
		"plain":                  {get("/a/b-c_d.e~f"), 200},
		"encoded where it must":  {get("/caf%C3%A9?q=a%20b&r=%2F"), 200},
		"empty segment":          {get("/a//b"), 400},
		"leading empty segment":  {get("//a"), 400},
		"dot segment":            {get("/a/../b"), 400},
		"dot":                    {get("/a/./b"), 400},
		"trailing dots":          {get("/a/.."), 400},
		"encoded letter":         {get("/%61"), 400},
		"encoded dots":           {get("/a/%2e%2e/b"), 400},
		"encoded slash":          {get("/a%2fb"), 400},
		"encoded backslash":      {get("/a%5Cb"), 400},
		"backslash":              {get(`/a\b`), 400},
		"encoded NUL":            {get("/a%00b"), 400},
		"encoded percent":        {get("/a%252fb"), 400},
		"encoded line end":       {get("/a%0d%0ab"), 400},
		"broken escape":          {get("/a%zz"), 400},
		"cut escape":             {get("/a%4"), 400},
		"not UTF-8 in the path":  {get("/a%ff"), 400},
		"raw byte in the path":   {get("/a\xff"), 400},
		"not UTF-8 in the query": {get("/a?name=%ff"), 400},
		"broken query escape":    {get("/a?name=%g0"), 400},
		"NUL in the query":       {get("/a?name=%00"), 400},
		"fragment":               {get("/a#b"), 400},
		"absolute form":          {get("http://localhost/a"), 400},
		"asterisk":               {"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", 400},
		"user in Host":           {"GET / HTTP/1.1\r\nHost: user@localhost\r\n\r\n", 400},
		"path in Host":           {"GET / HTTP/1.1\r\nHost: localhost/x\r\n\r\n", 400},
		"no Host":                {"GET / HTTP/1.1\r\nAccept: */*\r\n\r\n", 400},
		"two Hosts":              {"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
		"space in a name":        {"GET / HTTP/1.1\r\nHost: localhost\r\nX Y: 1\r\n\r\n", 400},
		"space before the colon": {"GET / HTTP/1.1\r\nHost: localhost\r\nX-Y : 1\r\n\r\n", 400},
		"folded header":          {"GET / HTTP/1.1\r\nHost: localhost\r\nX-Y: 1\r\n 2\r\n\r\n", 400},
		"HTTP/1.0":               {"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n", 505},
		"HTTP/0.9":               {"GET /\r\n\r\n", 400},
		"unknown method":         {"BREW / HTTP/1.1\r\nHost: localhost\r\n\r\n", 405},
		"TRACE":                  {"TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n", 405},
		"both lengths":           {"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		"two lengths":            {"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400},
		"signed length":          {"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: +5\r\n\r\nhello", 400},
		"other coding":           {"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400},
		"bad chunk":              {"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400},
		"large head":             {"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("a", 20<<10) + "\r\n\r\n", 431},
		"many headers":           {"GET / HTTP/1.1\r\nHost: localhost\r\n" + strings.Repeat("X: 1\r\n", 120) + "\r\n", 431},
		"long target":            {get("/" + strings.Repeat("a", 9<<10)), 414},
	} {
		t.Run(name, func(t *testing.T) {
			resp, body := in.raw(t, tc.request)
			require.NotNil(t, resp, "closed without an answer")
			require.Equal(t, tc.status, resp.StatusCode, body)
			require.NotEmpty(t, resp.Header.Get("Strict-Transport-Security"))
			require.Equal(t, "nosniff", resp.Header.Get("X-Content-Type-Options"))
			require.Empty(t, resp.Header.Get("Server"))
			if tc.status == 200 {
				return
			}
			problem(t, resp, body)
			require.NotContains(t, body, "localhost")
			require.NotContains(t, body, "fasthttp")
		})
	}
}

func TestSmuggledRequestIsNeverServed(t *testing.T) {
	var served []string
	app := httpx.New(httpx.Config{})
	app.All("/*", func(c *fiber.Ctx) error { served = append(served, c.Path()); return c.SendStatus(204) })
	in := serve(t, app)
	for _, head := range []string{
		"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
		"Transfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
		"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"Content-Length: 5\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
	} {
		in.raw(t, "POST /outer HTTP/1.1\r\nHost: localhost\r\n"+head+"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n")
	}
	require.NotContains(t, served, "/smuggled")
	resp, _ := in.raw(t, "POST /outer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi")
	require.Equal(t, 204, resp.StatusCode)
	require.Equal(t, []string{"/outer"}, served)
}

func TestClaimsAreBelievedFromTheRouterAlone(t *testing.T) {
	in := serve(t, echoApp(httpx.Config{TrustedPeers: []string{"router"}}), "router", "dataplane")
	id := tenants.NewID().String()
	claims := []string{"X-Real-Ip", "203.0.113.9", "X-Forwarded-For", "203.0.113.9", "X-Forwarded-Host", "evil.example",
		"X-Request-Id", id, "Caresphere-Placement-Epoch", "7", "User-Agent", strings.Repeat("é", 150),
		"Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}

	_, body := do(t, in.client(t, "router"), "GET", in.url("/"), "", "", claims...)
	require.Contains(t, body, `"ip":"203.0.113.9"`)
	require.Contains(t, body, id)
	require.Contains(t, body, `"epoch":"7"`)
	require.Contains(t, body, "0af7651916cd43dd8448eb211c80319c")
	require.Contains(t, body, `"device":"`+strings.Repeat("é", 100)+`"`)
	require.NotContains(t, body, "evil.example")

	resp, body := do(t, in.client(t, "dataplane"), "GET", in.url("/"), "", "", claims...)
	require.Contains(t, body, `"ip":"127.0.0.1"`)
	require.Contains(t, body, `"peer":"dataplane"`)
	require.NotContains(t, body, "203.0.113.9")
	require.NotContains(t, body, "evil.example")
	require.NotContains(t, body, id)
	require.NotContains(t, body, "0af7651916cd43dd8448eb211c80319c")
	require.Contains(t, body, `"epoch":""`)
	_, err := tenants.ParseID(resp.Header.Get("X-Request-Id"))
	require.NoError(t, err)
}

func TestPeersAreKnownByCertificate(t *testing.T) {
	in := serve(t, echoApp(httpx.Config{}), "router")
	resp, _ := do(t, in.client(t, "router"), "GET", in.url("/"), "", "")
	require.Equal(t, 200, resp.StatusCode)

	for name, conf := range map[string]*tls.Config{
		"no certificate": in.clientTLS(t, ""),
		"another name":   in.clientTLS(t, "dataplane"),
		"another authority": func() *tls.Config {
			o := serve(t, echoApp(httpx.Config{}))
			c := o.clientTLS(t, "router")
			c.RootCAs = in.ca.Pool()
			return c
		}(),
		"TLS 1.1": func() *tls.Config {
			c := in.clientTLS(t, "router")
			c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
			return c
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			c := &http.Client{Transport: &http.Transport{TLSClientConfig: conf}, Timeout: 5 * time.Second}
			_, err := c.Get(in.url("/"))
			require.Error(t, err)
		})
	}

	// A client that expects another server is not satisfied by the same CA.
	pair := issue(t, in.ca, "router")
	conf, err := httpx.ClientTLS(in.ca.CertPath(), pair.Cert, pair.Key, "controlplane")
	require.NoError(t, err)
	_, err = (&http.Client{Transport: &http.Transport{TLSClientConfig: conf}}).Get(in.url("/"))
	require.ErrorContains(t, err, "is not one of")
}

func TestARenewedCertificateIsTakenUp(t *testing.T) {
	a := ca(t)
	pair := issue(t, a, "first")
	conf, err := httpx.ServerTLS(pair.Cert, pair.Key)
	require.NoError(t, err)
	name := func() string {
		cert, err := conf.GetCertificate(nil)
		require.NoError(t, err)
		return cert.Leaf.Subject.CommonName
	}
	require.Equal(t, "first", name())
	cert, err := os.ReadFile(pair.Cert)
	require.NoError(t, err)

	require.NoError(t, os.WriteFile(pair.Cert, []byte("half a file"), 0o600))
	require.Eventually(t, func() bool { name(); return strings.Contains(logged.String(), "the last good one stays") },
		10*time.Second, 50*time.Millisecond)
	require.Equal(t, "first", name())

	next := issue(t, a, "second")
	for from, to := range map[string]string{next.Key: pair.Key, next.Cert: pair.Cert} {
		b, err := os.ReadFile(from)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(to, b, 0o600))
	}
	require.NotEmpty(t, cert)
	require.Eventually(t, func() bool { return name() == "second" }, 10*time.Second, 50*time.Millisecond)
}

func TestSameOriginGuard(t *testing.T) {
	app := httpx.New(httpx.Config{})
	app.Use(httpx.SameOrigin("https://care.example"))
	app.All("/", func(c *fiber.Ctx) error { return c.SendStatus(204) })
	in := serve(t, app)
	c := in.client(t, "")
	for i, tc := range []struct {
		method  string
		headers []string
		status  int
	}{
		{"GET", []string{"Sec-Fetch-Site", "cross-site", "Cookie", "a=b"}, 204},
		{"POST", []string{"Sec-Fetch-Site", "same-origin", "Cookie", "a=b"}, 204},
		{"POST", []string{"Sec-Fetch-Site", "same-origin", "Origin", "https://care.example"}, 204},
		{"POST", []string{"Origin", "https://care.example", "Cookie", "a=b"}, 204},
		{"POST", []string{"Authorization", "Bearer x"}, 204},
		{"POST", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"POST", []string{"Sec-Fetch-Site", "same-site", "Cookie", "a=b"}, 403},
		{"POST", []string{"Sec-Fetch-Site", "none", "Cookie", "a=b"}, 403},
		{"POST", []string{"Sec-Fetch-Site", "same-origin", "Origin", "https://evil.example"}, 403},
		{"DELETE", []string{"Origin", "https://evil.example"}, 403},
		{"POST", []string{"Origin", "null", "Cookie", "a=b"}, 403},
		{"PUT", []string{"Cookie", "a=b"}, 403},
	} {
		t.Run(fmt.Sprint(i, tc), func(t *testing.T) {
			resp, body := do(t, c, tc.method, in.url("/"), "", "", tc.headers...)
			require.Equal(t, tc.status, resp.StatusCode, body)
		})
	}
}

func TestRequirePeer(t *testing.T) {
	app := httpx.New(httpx.Config{})
	app.Get("/internal", httpx.RequirePeer("dataplane"), func(c *fiber.Ctx) error {
		require.Equal(t, "dataplane", httpx.PeerFrom(httpx.Context(c)))
		return c.SendStatus(204)
	})
	in := serve(t, app, "router", "dataplane")
	resp, _ := do(t, in.client(t, "dataplane"), "GET", in.url("/internal"), "", "")
	require.Equal(t, 204, resp.StatusCode)
	resp, body := do(t, in.client(t, "router"), "GET", in.url("/internal"), "", "")
	require.Equal(t, 403, resp.StatusCode)
	require.Equal(t, tenants.KindForbidden, func() tenants.Kind { p := problem(t, resp, body); return p.Kind() }())
}

func TestRequestInfoOfAnotherContextIsEmpty(t *testing.T) {
	ip, device, id := httpx.RequestInfo(context.Background())
	require.Equal(t, "", ip+device+id+httpx.PeerFrom(context.Background()))
}
