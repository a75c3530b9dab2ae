package httpx_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/devstack/pki"
	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/internal/obs"
)

var logged syncBuffer

func TestMain(m *testing.M) {
	slog.SetDefault(obs.NewLogger(&logged, "test", slog.LevelDebug))
	os.Exit(m.Run())
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}
func (s *syncBuffer) String() string { s.mu.Lock(); defer s.mu.Unlock(); return s.b.String() }

// ca makes an authority of the test's own.
func ca(t testing.TB) *pki.Authority {
	t.Helper()
	a, err := pki.Open(t.TempDir(), "ca", "Test CA")
	require.NoError(t, err)
	return a
}

func issue(t testing.TB, a *pki.Authority, cn string) pki.Pair {
	t.Helper()
	pair, err := a.IssueIn(t.TempDir(), cn, cn, "localhost", "127.0.0.1")
	require.NoError(t, err)
	return pair
}

// instance is an app that serves on a real socket over TLS.
type instance struct {
	addr string
	ca   *pki.Authority
	stop context.CancelFunc
	done chan error
}

func serve(t testing.TB, app *fiber.App, allowed ...string) *instance {
	t.Helper()
	a := ca(t)
	pair := issue(t, a, "server")
	conf, err := httpx.ServerTLS(pair.Cert, pair.Key)
	if len(allowed) > 0 {
		conf, err = httpx.MutualTLS(a.CertPath(), pair.Cert, pair.Key, allowed...)
	}
	require.NoError(t, err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	in := &instance{addr: ln.Addr().String(), ca: a, stop: stop, done: make(chan error, 1)}
	go func() { in.done <- httpx.Serve(ctx, app, ln, conf); close(in.done) }()
	t.Cleanup(func() { stop(); <-in.done })
	return in
}

func (in *instance) url(path string) string { return "https://" + in.addr + path }

// clientTLS shows the certificate of cn, or none for "".
func (in *instance) clientTLS(t testing.TB, cn string) *tls.Config {
	t.Helper()
	var pair pki.Pair
	if cn != "" {
		pair = issue(t, in.ca, cn)
	}
	conf, err := httpx.ClientTLS(in.ca.CertPath(), pair.Cert, pair.Key)
	require.NoError(t, err)
	return conf
}

func (in *instance) client(t testing.TB, cn string) *http.Client {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: in.clientTLS(t, cn), DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func (in *instance) dial(t testing.TB, cn string) *tls.Conn {
	t.Helper()
	conf := in.clientTLS(t, cn)
	conf.ServerName = "localhost"
	conn, err := tls.Dial("tcp", in.addr, conf)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	return conn
}

// raw sends bytes as they are and returns the first answer; nil when the server just closed.
func (in *instance) raw(t testing.TB, text string) (*http.Response, string) {
	t.Helper()
	conn := in.dial(t, "")
	_, _ = io.WriteString(conn, text) // a refused request may be cut while it is sent
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return nil, ""
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(resp.Body)
	return resp, string(body)
}

func do(t testing.TB, c *http.Client, method, url, contentType, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	require.NoError(t, err)
	if body == "" {
		req.Body, req.ContentLength = nil, 0
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header[headers[i]] = append(req.Header[headers[i]], headers[i+1])
	}
	resp, err := c.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp, string(b)
}

func problem(t testing.TB, resp *http.Response, body string) httpx.ProblemDetails {
	t.Helper()
	require.Equal(t, httpx.MIMEProblem, resp.Header.Get("Content-Type"), body)
	var p httpx.ProblemDetails
	require.NoError(t, json.Unmarshal([]byte(body), &p), body)
	require.Equal(t, resp.StatusCode, p.Status)
	return p
}
