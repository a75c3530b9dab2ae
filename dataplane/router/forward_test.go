package router_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/dataplane/router"
	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/tenants"
)

// mirror answers with what it was asked.
func mirror(name string) func(*fiber.App) {
	return func(app *fiber.App) {
		app.All("/*", func(c *fiber.Ctx) error {
			ip, device, id := httpx.RequestInfo(httpx.Context(c))
			seen := map[string]string{}
			for k, v := range c.Request().Header.All() {
				seen[string(k)] += string(v) + ";"
			}
			c.Response().Header.Add("Set-Cookie", "a=1; Path=/")
			c.Response().Header.Add("Set-Cookie", "b=2; Path=/x; HttpOnly")
			c.Set("Caresphere-Secret", "x")
			c.Set("Connection", "X-Own")
			c.Set("X-Own", "1")
			return c.JSON(fiber.Map{"by": name, "path": c.Path(), "query": string(c.Request().URI().QueryString()), "method": c.Method(),
				"ip": ip, "device": device, "id": id, "host": c.Hostname(), "headers": seen, "body": string(c.Body())})
		})
	}
}

func TestRequestsGoWhereTheTableSays(t *testing.T) {
	c := newCluster(t, nil)
	control, _ := c.server("controlplane", mirror("controlplane"))
	c = newClusterWith(t, c, control)
	worker, _ := c.server("dataplane", mirror("worker"))
	c.publish(worker)
	c.awaitWorkers(1)
	cl := c.client()
	for path, by := range map[string]string{
		"/": "controlplane", "/api/v1/me?x=1": "controlplane", "/.ory/sessions/whoami": "controlplane", "/openapi.json": "controlplane",
		"/tea": "controlplane", "/t/oak/v1/clients?cursor=a%20b": "worker", "/t/elm/v1/session": "worker", "/t/openapi.json": "worker",
	} {
		resp, body := get(t, cl, c.url+path)
		require.Equal(t, 200, resp.StatusCode, path)
		require.Contains(t, body, `"by":"`+by+`"`, path)
		want, _, _ := strings.Cut(path, "?")
		if path == "/t/openapi.json" {
			want = "/openapi.json"
		}
		require.Contains(t, body, `"path":"`+want+`"`)
	}
	_, body := get(t, cl, c.url+"/t/oak/v1/clients?cursor=a%20b")
	require.Contains(t, body, `"query":"cursor=a%20b"`)
	require.Contains(t, body, `"Caresphere-Placement-Epoch":"7;"`)
	_, body = get(t, cl, c.url+"/t/elm/v1/clients")
	require.Contains(t, body, `"Caresphere-Placement-Epoch":"3;"`)

	for _, path := range []string{"/t", "/t/", "/t/oak", "/t/oak/", "/internal/v1/routes", "/internal", "/internal/readyz"} {
		resp, body := get(t, cl, c.url+path)
		require.Equal(t, 404, resp.StatusCode, path+body)
		require.Equal(t, httpx.MIMEProblem, resp.Header.Get("Content-Type"))
	}
	// Unknown and withdrawn look the same to a worker too, which alone can tell who asks.
	c.table.Routes = c.table.Routes[:1]
	c.publish(worker)
	for _, path := range []string{"/t/nobody/v1/x", "/t/OAK/v1/x", "/t/elm/v1/x"} {
		_, body := get(t, cl, c.url+path, "X", "1")
		require.Contains(t, body, `"path":"/t/absent/v1/x"`, path)
		require.NotContains(t, body, "Caresphere-Placement-Epoch", path)
	}
	resp, _ := get(t, cl, c.url+"/t/oak/v1/x")
	require.Equal(t, 200, resp.StatusCode)
	// A route ends with the agreement, with no newer table at all.
	c.table.Routes[0].NotAfter = time.Now().Add(300 * time.Millisecond)
	c.publish(worker)
	require.Eventually(t, func() bool {
		_, body := get(t, cl, c.url+"/t/oak/v1/x")
		return strings.Contains(body, `"path":"/t/absent/v1/x"`)
	}, 5*time.Second, 20*time.Millisecond)
}

// newClusterWith starts another router with the given control plane and the same keys.
func newClusterWith(t testing.TB, old *cluster, control string, more ...func(*router.Config)) *cluster {
	t.Helper()
	c := newCluster(t, func(cfg *router.Config) {
		mine := old.issue("router")
		var err error
		cfg.WorkerTLS, err = httpx.ClientTLS(old.ca.CertPath(), mine.Cert, mine.Key, "dataplane")
		require.NoError(t, err)
		cfg.ControlTLS, err = httpx.ClientTLS(old.ca.CertPath(), mine.Cert, mine.Key, "controlplane")
		require.NoError(t, err)
		cfg.ControlPlane = control
		for _, m := range more {
			m(cfg)
		}
	})
	c.ca, c.frontCA = old.ca, c.ca
	return c
}

func TestClaimsOfClientsNeverArrive(t *testing.T) {
	c := newCluster(t, nil)
	worker, _ := c.server("dataplane", mirror("worker"))
	c.publish(worker)
	c.awaitWorkers(1)
	resp, body := get(t, c.client(), c.url+"/t/oak/v1/x",
		"X-Forwarded-For", "203.0.113.66", "X-Real-Ip", "203.0.113.66", "Forwarded", "for=203.0.113.66", "X-Forwarded-Host", "evil.example",
		"X-Forwarded-Proto", "http", "Caresphere-Placement-Epoch", "99", "Caresphere-Actor", "owner", "X-Request-Id", tenants.NewID().String(),
		"Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Connection", "X-Real-Ip, X-Drop", "X-Drop", "1",
		"Te", "trailers", "Proxy-Authorization", "Basic x", "Authorization", "Bearer token", "Cookie", "s=1; t=2", "User-Agent", "device/1")
	require.Equal(t, 200, resp.StatusCode)
	for _, never := range []string{"203.0.113.66", "evil.example", `"99;"`, "Caresphere-Actor", "0af7651916cd43dd", "X-Drop", "Proxy-Auth", "trailers"} {
		require.NotContains(t, body, never)
	}
	for _, always := range []string{`"ip":"127.0.0.1"`, `"X-Forwarded-For":"127.0.0.1;"`, `"X-Forwarded-Proto":"https;"`, `"Caresphere-Placement-Epoch":"7;"`,
		`"X-Forwarded-Host":"` + c.addr + `;"`, `"host":"` + c.addr + `"`, `"Authorization":"Bearer token;"`, `"Cookie":"s=1; t=2;"`, `"device":"device/1"`,
		`"id":"` + resp.Header.Get("X-Request-Id") + `"`} {
		require.Contains(t, body, always)
	}
	// And on the way back.
	require.Equal(t, []string{"a=1; Path=/", "b=2; Path=/x; HttpOnly"}, resp.Header.Values("Set-Cookie"))
	for _, h := range []string{"Caresphere-Secret", "X-Own", "Server"} {
		require.Empty(t, resp.Header.Get(h), h)
	}
	require.Len(t, resp.Header.Values("X-Request-Id"), 1)
	require.Len(t, resp.Header.Values("Strict-Transport-Security"), 1)
	require.Len(t, resp.Header.Values("Content-Type"), 1)
}

func TestMethodsStatusesAndBodiesPassThrough(t *testing.T) {
	c := newCluster(t, nil)
	worker, _ := c.server("dataplane", func(app *fiber.App) {
		app.All("/t/oak/v1/:status<int>", func(f *fiber.Ctx) error {
			n, _ := f.ParamsInt("status")
			if n == 204 || n == 304 {
				return f.SendStatus(n)
			}
			f.Set("Location", "/elsewhere")
			f.Set("Cache-Control", "private")
			return f.Status(n).SendString(f.Method() + string(f.Body()))
		})
	})
	c.publish(worker)
	c.awaitWorkers(1)
	cl := c.client()
	for _, status := range []int{200, 201, 204, 302, 304, 400, 401, 403, 404, 409, 500, 503} {
		resp, body := get(t, cl, fmt.Sprintf("%s/t/oak/v1/%d", c.url, status))
		require.Equal(t, status, resp.StatusCode)
		if status != 204 && status != 304 {
			require.Equal(t, "GET", body)
			require.Equal(t, []string{"private"}, resp.Header.Values("Cache-Control"))
		}
	}
	for _, m := range []string{"POST", "PUT", "PATCH", "DELETE"} {
		_, body := send(t, cl, m, c.url+"/t/oak/v1/200", "hello")
		require.Equal(t, m+"hello", body)
	}
	resp, body := send(t, cl, "HEAD", c.url+"/t/oak/v1/200", "")
	require.Equal(t, 200, resp.StatusCode)
	require.Empty(t, body)
	require.EqualValues(t, 4, resp.ContentLength)
	// One connection carries them all.
	require.LessOrEqual(t, c.metric("caresphere_router_retries_total"), 0.0)
}

func TestBodiesStreamBothWaysInLittleMemory(t *testing.T) {
	const size = 192 << 20
	c := newCluster(t, nil)
	var got atomic.Int64
	worker, _ := c.server("dataplane", func(app *fiber.App) {
		app.Post("/t/oak/upload", func(f *fiber.Ctx) error {
			n, err := io.Copy(io.Discard, httpx.BodyStream(f))
			got.Store(n)
			if err != nil {
				return err
			}
			return f.SendString("ok")
		})
		app.Get("/t/oak/download", func(f *fiber.Ctx) error {
			httpx.StreamReader(f, io.NopCloser(io.LimitReader(zeros{}, size)), size)
			return nil
		})
		app.Get("/t/oak/slowly", func(f *fiber.Ctx) error {
			httpx.Stream(f, func(ctx context.Context, w *bufio.Writer) error {
				_, _ = io.WriteString(w, "first\n")
				_ = w.Flush()
				<-ctx.Done()
				return ctx.Err()
			})
			return nil
		})
	})
	c.publish(worker)
	c.awaitWorkers(1)
	cl := c.client()
	peak := watchHeap(t)
	req, err := http.NewRequest("POST", c.url+"/t/oak/upload", io.LimitReader(zeros{}, size))
	require.NoError(t, err)
	resp, err := cl.Do(req)
	require.NoError(t, err)
	_ = resp.Body.Close()
	require.Equal(t, 200, resp.StatusCode)
	require.EqualValues(t, size, got.Load())

	resp, err = cl.Get(c.url + "/t/oak/download")
	require.NoError(t, err)
	n, err := io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	require.NoError(t, err)
	require.EqualValues(t, size, n)
	require.Less(t, peak(), uint64(48<<20))

	// What a worker writes early arrives early.
	resp, err = cl.Get(c.url + "/t/oak/slowly")
	require.NoError(t, err)
	line, err := bufio.NewReader(resp.Body).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "first\n", line)
	_ = resp.Body.Close()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// watchHeap samples the heap until the returned function is called; it gives the growth.
func watchHeap(t testing.TB) func() uint64 {
	t.Helper()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	before := m.HeapAlloc
	stop, done := make(chan struct{}), make(chan uint64)
	go func() {
		var most uint64
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				most = max(most, m.HeapAlloc-min(before, m.HeapAlloc))
			case <-stop:
				done <- most
				return
			}
		}
	}()
	return func() uint64 { close(stop); return <-done }
}

func TestAGoneClientEndsTheRequestUpstream(t *testing.T) {
	c := newCluster(t, nil)
	began, ended := make(chan struct{}, 1), make(chan error, 1)
	worker, _ := c.server("dataplane", func(app *fiber.App) {
		app.All("/t/oak/v1/wait", func(f *fiber.Ctx) error {
			began <- struct{}{}
			<-httpx.Context(f).Done()
			ended <- context.Cause(httpx.Context(f))
			return nil
		})
	})
	c.publish(worker)
	c.awaitWorkers(1)
	for _, head := range []string{"GET /t/oak/v1/wait HTTP/1.1\r\nHost: x\r\n\r\n", "POST /t/oak/v1/wait HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"} {
		conn := c.dial()
		_, err := io.WriteString(conn, head)
		require.NoError(t, err)
		<-began
		require.NoError(t, conn.Close())
		select {
		case cause := <-ended:
			require.ErrorIs(t, cause, httpx.ErrClientGone)
		case <-time.After(3 * time.Second):
			t.Fatal("the worker went on for a client that has gone")
		}
	}
	require.Zero(t, c.metric("caresphere_router_ejections_total"))
}

func TestAnAnswerBeforeTheBodyLeavesNoTrace(t *testing.T) {
	c := newCluster(t, nil)
	url := c.raw("dataplane", func(conn net.Conn, req *http.Request) {
		_, _ = io.WriteString(conn, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
		_, _ = io.CopyN(io.Discard, req.Body, 1<<20)
	})
	c.publish(url)
	c.awaitWorkers(1)
	for range 20 {
		conn := c.dial()
		// The body never comes whole, and what comes of it looks like a request.
		_, err := io.WriteString(conn, "POST /t/oak/v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n"+
			strings.Repeat("GET /t/elm/v1/smuggled HTTP/1.1\r\nHost: x\r\n\r\n", 300))
		require.NoError(t, err)
		br := bufio.NewReader(conn)
		resp, err := http.ReadResponse(br, nil)
		require.NoError(t, err)
		require.Equal(t, 413, resp.StatusCode)
		_, _ = io.ReadAll(resp.Body)
		_, err = http.ReadResponse(br, nil)
		require.Error(t, err, "a piece of a body was answered as a request")
		_ = conn.Close()
	}
}

func TestBadFrontRequestsNeverReachAWorker(t *testing.T) {
	c := newCluster(t, func(cfg *router.Config) { cfg.StreamLimit = 200_000 })
	var served atomic.Int32
	worker, _ := c.server("dataplane", func(app *fiber.App) {
		app.All("/*", func(f *fiber.Ctx) error { served.Add(1); return f.SendStatus(204) })
	})
	c.publish(worker)
	c.awaitWorkers(1)
	for text, status := range map[string]int{
		"GET /t/oak/../elm/v1/x HTTP/1.1\r\nHost: x\r\n\r\n":                                                       400,
		"GET /t/oak/v1/%2e%2e/x HTTP/1.1\r\nHost: x\r\n\r\n":                                                       400,
		"GET /t//oak/v1/x HTTP/1.1\r\nHost: x\r\n\r\n":                                                             400,
		"GET /t%2foak/v1/x HTTP/1.1\r\nHost: x\r\n\r\n":                                                            400,
		"GET /%69nternal/v1/routes HTTP/1.1\r\nHost: x\r\n\r\n":                                                    400,
		"GET /t/oak/v1/x HTTP/1.0\r\nHost: x\r\n\r\n":                                                              505,
		"GET /t/oak/v1/x HTTP/1.1\r\nHost: a@b\r\n\r\n":                                                            400,
		"POST /t/oak/v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": 400,
		"POST /t/oak/v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: 200001\r\n\r\n" + strings.Repeat("a", 9000):       413,
		"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n":                                                                405,
	} {
		conn := c.dial()
		_, err := io.WriteString(conn, text)
		require.NoError(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err, text)
		require.Equal(t, status, resp.StatusCode, text)
		_ = conn.Close()
	}
	require.Zero(t, served.Load())
	resp, _ := get(t, c.client(), c.url+"/t/oak/v1/x")
	require.Equal(t, 204, resp.StatusCode)
	require.EqualValues(t, 1, served.Load())
	// A chunked body over the limit is refused with the limit named, not as an absent worker.
	body := io.LimitReader(zeros{}, 300_000)
	req, err := http.NewRequest("POST", c.url+"/t/oak/v1/x", body)
	require.NoError(t, err)
	if resp, err := c.client().Do(req); err == nil {
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		require.Equal(t, 413, resp.StatusCode, string(b))
		require.Contains(t, string(b), "200000 bytes")
	}
}
