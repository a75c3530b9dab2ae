package bench_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/internal/devstack/pki"
	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/internal/routes"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/tenants"
)

// BenchmarkRouter sends a JSON answer of a kilobyte through the router's own
// process, beside nginx and HAProxy where they are installed: TLS in front, mutual
// TLS behind, connections kept. us_cpu_* is each one's CPU a request, and x_* the
// router's as a multiple of theirs; direct is without any of them.
func BenchmarkRouter(b *testing.B) {
	ca := testkit.CA(b)
	mine := ca.Issue(b, "router")
	worker := startAnswering(b, ca)
	front := &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost", MinVersion: tls.VersionTLS12}
	request := always([]byte("GET /t/oak/v1/small HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\n\r\n"))
	through := func(name string, start func(testing.TB, *testkit.Authority, pki.Pair, string) (string, int)) contender {
		addr, pid := start(b, ca, mine, worker)
		return contender{name: name, addr: addr, tls: front, request: request, status: " 200 ", cpu: func() time.Duration { return cpuOf(pid) }}
	}
	all := []contender{through("router", startRouterProcess)}
	if _, err := exec.LookPath("nginx"); err == nil {
		all = append(all, through("nginx", startNginx))
	}
	if _, err := exec.LookPath("haproxy"); err == nil {
		all = append(all, through("haproxy", startHAProxy))
	}
	pair, err := tls.LoadX509KeyPair(mine.Cert, mine.Key)
	must(b, err)
	direct := front.Clone()
	direct.Certificates = []tls.Certificate{pair}
	compare(b, append(all, contender{name: "direct", addr: worker, tls: direct, request: request, status: " 200 "})...)
}

// startAnswering is a worker that answers at once.
func startAnswering(b *testing.B, ca *testkit.Authority) string {
	b.Helper()
	app := httpx.New(httpx.Config{TrustedPeers: []string{"router"}})
	answer := `{"text":"` + strings.Repeat("a", 1000) + `"}`
	app.Get("/internal/readyz", func(c *fiber.Ctx) error { return c.JSON(httpx.Readiness{Ready: true}) })
	app.Get("/t/oak/v1/small", func(c *fiber.Ctx) error {
		c.Set(fiber.HeaderContentType, "application/json")
		return c.SendString(answer)
	})
	pair := ca.Issue(b, "dataplane")
	conf, err := httpx.MutualTLS(ca.Path(), pair.Cert, pair.Key, "router")
	must(b, err)
	return serve(b, func(ctx context.Context, ln net.Listener) error { return httpx.Serve(ctx, app, ln, conf) })
}

func startRouterProcess(b testing.TB, ca *testkit.Authority, mine pki.Pair, worker string) (string, int) {
	b.Helper()
	dir := b.TempDir()
	bin := filepath.Join(dir, "router")
	if out, err := exec.Command("go", "build", "-o", bin, "github.com/caresphere/caresphere/cmd/router").CombinedOutput(); err != nil {
		b.Fatalf("building the router: %v\n%s", err, out)
	}
	private, public, err := note.GenerateKey(rand.Reader, "caresphere-route")
	must(b, err)
	signer, err := note.NewSigner(private)
	must(b, err)
	verifier, err := note.NewVerifier(public)
	must(b, err)
	// The last good table on disk is all that a router needs to serve.
	store, err := routes.Open(filepath.Join(dir, "state"), verifier)
	must(b, err)
	doc, err := routes.Sign(tenants.RouteTable{Version: 1, IssuedAt: time.Now(),
		Routes:  []tenants.Route{{Slug: "oak", TenantID: tenants.NewID(), CellID: "main", Epoch: 1, Mode: tenants.GateOpen, NotAfter: time.Now().Add(time.Hour)}},
		Workers: []tenants.Worker{{ID: "worker-a", CellID: "main", URL: "https://" + worker}}}, signer)
	must(b, err)
	_, err = store.Put(doc)
	must(b, err)
	pub := filepath.Join(dir, "route.pub")
	must(b, os.WriteFile(pub, []byte(public+"\n"), 0o600))
	addr := freeAddr(b)
	pid := start(b, addr, []string{
		"CARESPHERE_TLS_CA=" + ca.Path(), "CARESPHERE_TLS_CERT=" + mine.Cert, "CARESPHERE_TLS_KEY=" + mine.Key,
		"CARESPHERE_LISTEN=" + addr, "CARESPHERE_HEALTH_LISTEN=" + freeAddr(b), "CARESPHERE_CONTROLPLANE_URL=https://127.0.0.1:1",
		"CARESPHERE_ROUTE_PUB=" + pub, "CARESPHERE_STATE_DIR=" + filepath.Join(dir, "state"),
		"CARESPHERE_PUBLIC_ORIGIN=https://localhost", "CARESPHERE_LOG_LEVEL=error", "PATH=" + os.Getenv("PATH")}, bin)
	return addr, pid
}

func startNginx(b testing.TB, ca *testkit.Authority, mine pki.Pair, worker string) (string, int) {
	b.Helper()
	dir, addr := b.TempDir(), freeAddr(b)
	conf := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log stderr error;
events { worker_connections 1024; }
http {
  access_log off; client_body_temp_path %[1]s/a; proxy_temp_path %[1]s/b; fastcgi_temp_path %[1]s/c; uwsgi_temp_path %[1]s/d; scgi_temp_path %[1]s/e;
  keepalive_requests 10000000;
  upstream worker { server %[2]s; keepalive 64; keepalive_requests 10000000; }
  server {
    listen %[3]s ssl; ssl_certificate %[4]s; ssl_certificate_key %[5]s;
    location / {
      proxy_pass https://worker; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
      proxy_set_header X-Real-Ip $remote_addr; proxy_set_header X-Request-Id $request_id; proxy_set_header Caresphere-Placement-Epoch 1;
      proxy_ssl_certificate %[4]s; proxy_ssl_certificate_key %[5]s; proxy_ssl_trusted_certificate %[6]s; proxy_ssl_verify on; proxy_ssl_name dataplane;
    }
  }
}`, dir, worker, addr, mine.Cert, mine.Key, ca.Path())
	path := filepath.Join(dir, "nginx.conf")
	must(b, os.WriteFile(path, []byte(conf), 0o600))
	return addr, start(b, addr, nil, "nginx", "-p", dir, "-c", path)
}

func startHAProxy(b testing.TB, ca *testkit.Authority, mine pki.Pair, worker string) (string, int) {
	b.Helper()
	dir, addr := b.TempDir(), freeAddr(b)
	cert, err := os.ReadFile(mine.Cert)
	must(b, err)
	key, err := os.ReadFile(mine.Key)
	must(b, err)
	both := filepath.Join(dir, "both.pem")
	must(b, os.WriteFile(both, append(cert, key...), 0o600))
	conf := fmt.Sprintf(`global
  nbthread 2
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
frontend front
  bind %[1]s ssl crt %[2]s
  http-request set-header X-Real-Ip %%[src]
  http-request set-header Caresphere-Placement-Epoch 1
  default_backend worker
backend worker
  server a %[3]s ssl crt %[2]s ca-file %[4]s verify required verifyhost dataplane pool-max-conn 64
`, addr, both, worker, ca.Path())
	path := filepath.Join(dir, "haproxy.cfg")
	must(b, os.WriteFile(path, []byte(conf), 0o600))
	return addr, start(b, addr, nil, "haproxy", "-db", "-f", path)
}

// start runs a server until the benchmark ends and waits until it listens.
func start(b testing.TB, addr string, env []string, name string, args ...string) (pid int) {
	b.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env, cmd.Stderr = env, os.Stderr
	must(b, cmd.Start())
	b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	deadline := time.Now().Add(15 * time.Second)
	for {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			_ = conn.Close()
			break
		}
		if time.Now().After(deadline) {
			b.Fatalf("%s does not listen: %v", name, err)
		}
		<-time.After(20 * time.Millisecond)
	}
	<-time.After(2 * time.Second) // the router's first health checks
	return cmd.Process.Pid
}

func freeAddr(b testing.TB) string {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(b, err)
	defer func() { _ = ln.Close() }()
	return ln.Addr().String()
}

// cpuOf is the CPU time of all threads of a process, by /proc, in nanoseconds'
// precision where the kernel counts so.
func cpuOf(pid int) (sum time.Duration) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, path := range tasks {
		raw, _ := os.ReadFile(path)
		if f := strings.Fields(string(raw)); len(f) > 0 {
			ns, _ := strconv.ParseInt(f[0], 10, 64)
			sum += time.Duration(ns)
		}
	}
	return sum
}

func must(b testing.TB, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}
