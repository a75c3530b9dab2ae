package main

import (
	"context"
	"crypto/rand"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/internal/kms"
	"github.com/caresphere/caresphere/internal/kms/keyring"
	"github.com/caresphere/caresphere/internal/obs"
	"github.com/caresphere/caresphere/internal/routes"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/tenants"
)

// controlPlane answers what a worker asks of the control plane, over mutual TLS.
type controlPlane struct {
	mu    sync.Mutex
	calls []string
	table []byte
}

func (c *controlPlane) note(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, what)
}

func (c *controlPlane) saw(what string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, call := range c.calls {
		if call == what {
			return true
		}
	}
	return false
}

func (c *controlPlane) serve(t *testing.T) (url string) {
	t.Helper()
	ca := testkit.CA(t)
	pair := ca.Issue(t, "controlplane")
	conf, err := httpx.MutualTLS(ca.Path(), pair.Cert, pair.Key, "dataplane")
	if err != nil {
		t.Fatal(err)
	}
	app := httpx.New(httpx.Config{Name: "controlplane", DrainTimeout: time.Second})
	app.Get(routes.Path, func(f *fiber.Ctx) error {
		if f.Query("after") == "0" {
			return f.Send(c.table)
		}
		<-httpx.Context(f).Done()
		return f.SendStatus(http.StatusNoContent)
	})
	for _, method := range []string{http.MethodPut, http.MethodDelete} {
		app.Add(method, "/internal/v1/workers/:id", func(f *fiber.Ctx) error {
			c.note(method + " " + f.Params("id"))
			return f.SendStatus(http.StatusNoContent)
		})
	}
	ln := listen(t)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = httpx.Serve(ctx, app, ln, conf) }()
	t.Cleanup(func() { stop(); <-ended })
	return "https://" + ln.Addr().String()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// free returns an address that nothing listens on.
func free(t *testing.T) string {
	t.Helper()
	ln := listen(t)
	defer func() { _ = ln.Close() }()
	return ln.Addr().String()
}

func keyFile(t *testing.T, name string) (private, public, signer string) {
	t.Helper()
	s, v, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	private, public = filepath.Join(dir, "key"), filepath.Join(dir, "pub")
	for path, text := range map[string]string{private: s, public: v} {
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return private, public, s
}

// TestAWorkerComesAndGoes runs the command's own wiring: it becomes ready with the
// signed table, serves routers alone, announces itself, and on its end says
// farewell and drains.
func TestAWorkerComesAndGoes(t *testing.T) {
	_, routePub, routeKey := keyFile(t, "caresphere-route")
	exportKey, exportPub, _ := keyFile(t, "caresphere-export")
	_, auditPub, _ := keyFile(t, "caresphere-audit")
	_, probePub, _ := keyFile(t, "caresphere-probe")
	signer, err := note.NewSigner(routeKey)
	if err != nil {
		t.Fatal(err)
	}
	control := &controlPlane{}
	if control.table, err = routes.Sign(tenants.RouteTable{Version: 3, IssuedAt: time.Now()}, signer); err != nil {
		t.Fatal(err)
	}
	keys := t.TempDir()
	if err := keyring.Create(keys); err != nil {
		t.Fatal(err)
	}
	ca, kratos, cell := testkit.CA(t), testkit.Kratos(t), testkit.CellDB(t)
	mine := ca.Issue(t, "dataplane")
	cfg := settings{
		Config: obs.Config{LogLevel: "info", Traces: "none", LogTo: io.Discard}, KMS: kms.Config{URL: "keyring:" + keys, CellID: "main"},
		CA: ca.Path(), Cert: mine.Cert, Key: mine.Key, HealthListen: free(t), PublicOrigin: "https://localhost:8443",
		Listen: free(t), CellID: "main", WorkerID: "worker-a", WorkerURL: "https://127.0.0.1:1", CellDSN: cell.DSN("cell_worker"),
		Kratos: kratos.PublicURL, ControlPlane: control.serve(t), RoutePub: routePub, ProbePub: probePub, AuditPub: auditPub,
		ExportKey: exportKey, StateDir: t.TempDir(),
	}
	o, flush, err := obs.Setup(t.Context(), "dataplane", cfg.Config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = flush(context.Background()) }()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	w, err := newWorker(ctx, cfg, o)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	ended := make(chan error, 1)
	go func() { ended <- w.run(ctx) }()

	router := peer(t, ca, "router")
	await(t, "readiness", func() bool { return status(router, "https://"+cfg.Listen+"/internal/readyz") == http.StatusOK })
	await(t, "the heartbeat", func() bool { return control.saw("PUT worker-a") })
	if s := status(router, "https://"+cfg.Listen+"/t/harbor/v1/clients"); s != http.StatusUnauthorized {
		t.Errorf("a request without a session answers %d", s)
	}
	if s := status(router, "https://"+cfg.Listen+"/openapi.json"); s != http.StatusOK {
		t.Errorf("the description answers %d", s)
	}
	if s := status(peer(t, ca, "controlplane"), "https://"+cfg.Listen+"/internal/readyz"); s != 0 {
		t.Errorf("a peer that is no router is answered %d", s)
	}
	if s := status(router, "https://"+cfg.HealthListen+"/metrics"); s != http.StatusOK {
		t.Errorf("metrics answer %d", s)
	}
	_, lines, err := w.exportKeys()
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(exportPub)
	if err != nil || !strings.Contains(lines, strings.TrimSpace(string(want))) {
		t.Errorf("the export key's public line is not among %q", lines)
	}
	stop()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the worker ended with %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the worker does not end")
	}
	if !control.saw("DELETE worker-a") {
		t.Error("the worker went without a farewell")
	}
}

func peer(t *testing.T, ca *testkit.Authority, name string) *http.Client {
	t.Helper()
	pair := ca.Issue(t, name)
	conf, err := httpx.ClientTLS(ca.Path(), pair.Cert, pair.Key, "dataplane")
	if err != nil {
		t.Fatal(err)
	}
	c := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: conf}}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// status is the answer's, or 0 if there is none.
func status(c *http.Client, url string) int {
	res, err := c.Get(url)
	if err != nil {
		return 0
	}
	defer func() { _ = res.Body.Close() }()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not come about within 10 s", what)
		}
	}
}
