package router_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
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
	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/dataplane/router"
	"github.com/caresphere/caresphere/internal/devstack/pki"
	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/internal/obs"
	"github.com/caresphere/caresphere/internal/routes"
	"github.com/caresphere/caresphere/tenants"
)

var logs syncBuffer

func TestMain(m *testing.M) {
	if addr := os.Getenv("ROUTER_TEST_WORKER"); addr != "" {
		workerProcess(addr)
		return
	}
	slog.SetDefault(obs.NewLogger(&logs, "test", slog.LevelInfo))
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

// cluster is a router in front of workers and a control plane, each on a real
// socket with mutual TLS.
type cluster struct {
	t        testing.TB
	ca       *pki.Authority
	signer   note.Signer
	store    *routes.Store
	url      string
	addr     string
	app      *fiber.App
	table    tenants.RouteTable
	refresh  func(context.Context) error
	obs      *obs.Obs
	stop     func()
	done     chan error
	routerIs *router.Router
	frontCA  *pki.Authority // of the public listener, where it is another
}

// tenantOf the slugs that tests use.
var tenantOak, tenantElm = tenants.ID{1}, tenants.ID{2}

func newCluster(t testing.TB, change func(*router.Config)) *cluster {
	t.Helper()
	c := &cluster{t: t}
	var err error
	c.ca, err = pki.Open(t.TempDir(), "ca", "Test CA")
	require.NoError(t, err)
	sk, vk, err := note.GenerateKey(rand.Reader, "caresphere-route")
	require.NoError(t, err)
	c.signer, err = note.NewSigner(sk)
	require.NoError(t, err)
	verifier, err := note.NewVerifier(vk)
	require.NoError(t, err)
	c.store, err = routes.Open(t.TempDir(), verifier)
	require.NoError(t, err)
	var flush func(context.Context) error
	c.obs, flush, err = obs.Setup(context.Background(), "router", obs.Config{LogTo: &logs})
	require.NoError(t, err)
	t.Cleanup(func() { _ = flush(context.Background()) })

	mine := c.issue("router")
	cfg := router.Config{Routes: c.store, Obs: c.obs, HealthEvery: 30 * time.Millisecond,
		Refresh: func(ctx context.Context) error { return c.refresh(ctx) }}
	c.refresh = func(context.Context) error { return nil }
	cfg.WorkerTLS, err = httpx.ClientTLS(c.ca.CertPath(), mine.Cert, mine.Key, "dataplane")
	require.NoError(t, err)
	cfg.ControlTLS, err = httpx.ClientTLS(c.ca.CertPath(), mine.Cert, mine.Key, "controlplane")
	require.NoError(t, err)
	cfg.ControlPlane = "https://127.0.0.1:1"
	if change != nil {
		change(&cfg)
	}
	r := router.New(cfg)
	c.routerIs, c.app = r, r.App()
	front, err := httpx.ServerTLS(mine.Cert, mine.Key)
	require.NoError(t, err)
	ln := listen(t)
	c.addr = ln.Addr().String()
	c.url = "https://" + c.addr
	ctx, stop := context.WithCancel(context.Background())
	background, end := context.WithCancel(context.Background())
	c.done = make(chan error, 1)
	ran := make(chan struct{})
	go func() { r.Run(background); close(ran) }()
	go func() { c.done <- httpx.Serve(ctx, c.app, ln, front); close(c.done) }()
	c.stop = stop
	t.Cleanup(func() { stop(); <-c.done; end(); <-ran })
	return c
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return ln
}

func (c *cluster) issue(cn string) pki.Pair {
	c.t.Helper()
	pair, err := c.ca.IssueIn(c.t.TempDir(), cn, cn, "localhost", "127.0.0.1")
	require.NoError(c.t, err)
	return pair
}

func (c *cluster) serverTLS(cn string) *tls.Config {
	c.t.Helper()
	pair := c.issue(cn)
	conf, err := httpx.MutualTLS(c.ca.CertPath(), pair.Cert, pair.Key, "router")
	require.NoError(c.t, err)
	return conf
}

// server starts an app with mutual TLS and returns its URL and its end.
func (c *cluster) server(cn string, routes func(*fiber.App)) (string, func()) {
	c.t.Helper()
	app := httpx.New(httpx.Config{TrustedPeers: []string{"router"}, DrainTimeout: time.Second,
		Streaming: func(f *fiber.Ctx) bool { return strings.HasSuffix(f.Path(), "/upload") }})
	app.Get("/internal/readyz", func(f *fiber.Ctx) error { return f.JSON(httpx.Readiness{Ready: true}) })
	routes(app)
	ln := listen(c.t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- httpx.Serve(ctx, app, ln, c.serverTLS(cn)); close(done) }()
	stop := func() { cancel(); <-done }
	c.t.Cleanup(stop)
	return "https://" + ln.Addr().String(), stop
}

// raw starts a server that speaks bytes: handle gets the connection and the head of a request.
func (c *cluster) raw(cn string, handle func(conn net.Conn, req *http.Request)) string {
	c.t.Helper()
	ln := tls.NewListener(listen(c.t), c.serverTLS(cn))
	c.t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				br := bufio.NewReader(conn)
				for {
					req, err := http.ReadRequest(br)
					if err != nil {
						return
					}
					if req.URL.Path == "/internal/readyz" {
						_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
						continue
					}
					handle(conn, req)
					return
				}
			}()
		}
	}()
	return "https://" + ln.Addr().String()
}

// publish gives the router a table in which both tenants live in the cell of the workers.
func (c *cluster) publish(workers ...string) {
	c.t.Helper()
	c.table.Version++
	c.table.IssuedAt = time.Now()
	c.table.Workers = nil
	for i, url := range workers {
		c.table.Workers = append(c.table.Workers, tenants.Worker{ID: fmt.Sprintf("worker-%c", 'a'+i), CellID: "main", URL: url})
	}
	if c.table.Routes == nil {
		c.table.Routes = []tenants.Route{
			{Slug: "oak", TenantID: tenantOak, CellID: "main", Epoch: 7, Mode: tenants.GateOpen, NotAfter: time.Now().Add(time.Hour)},
			{Slug: "elm", TenantID: tenantElm, CellID: "main", Epoch: 3, Mode: tenants.GateOpen, NotAfter: time.Now().Add(time.Hour)},
		}
	}
	doc, err := routes.Sign(c.table, c.signer)
	require.NoError(c.t, err)
	_, err = c.store.Put(doc)
	require.NoError(c.t, err)
}

func (c *cluster) client() *http.Client {
	c.t.Helper()
	conf, err := httpx.ClientTLS(c.front(), "", "")
	require.NoError(c.t, err)
	tr := &http.Transport{TLSClientConfig: conf, DisableCompression: true, MaxIdleConnsPerHost: 64}
	c.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func (c *cluster) dial() *tls.Conn {
	c.t.Helper()
	conf, err := httpx.ClientTLS(c.front(), "", "")
	require.NoError(c.t, err)
	conf.ServerName = "localhost"
	conn, err := tls.Dial("tcp", c.addr, conf)
	require.NoError(c.t, err)
	c.t.Cleanup(func() { _ = conn.Close() })
	require.NoError(c.t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	return conn
}

func (c *cluster) front() string {
	if c.frontCA != nil {
		return c.frontCA.CertPath()
	}
	return c.ca.CertPath()
}

// awaitWorkers waits until so many workers are known as healthy.
func (c *cluster) awaitWorkers(n int) {
	c.t.Helper()
	require.Eventually(c.t, func() bool { return c.metric("caresphere_router_worker_healthy") == float64(n) }, 10*time.Second, 5*time.Millisecond)
}

// metric is the sum of a metric over its labels.
func (c *cluster) metric(name string) (sum float64) {
	c.t.Helper()
	families, err := c.obs.Metrics.Gather()
	require.NoError(c.t, err)
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

func get(t testing.TB, c *http.Client, url string, headers ...string) (*http.Response, string) {
	t.Helper()
	return send(t, c, "GET", url, "", headers...)
}

func send(t testing.TB, c *http.Client, method, url, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequest(method, url, r)
	require.NoError(t, err)
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := c.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp, string(b)
}
