package router_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/dataplane/router"
	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/tenants"
)

func ok(app *fiber.App) {
	app.All("/*", func(c *fiber.Ctx) error { return c.SendString("ok") })
}

// breaking is a worker that passes its health checks and drops every request.
func (c *cluster) breaking(count *atomic.Int32) string {
	return c.raw("dataplane", func(net.Conn, *http.Request) { count.Add(1) })
}

func TestAnIdempotentRequestSurvivesAWorkerThatBreaks(t *testing.T) {
	c := newCluster(t, nil)
	var dropped atomic.Int32
	good, _ := c.server("dataplane", ok)
	c.publish(good, c.breaking(&dropped)) // oak keeps to the second
	c.awaitWorkers(2)
	cl := c.client()
	for range 30 {
		for _, r := range []struct {
			method, body string
			headers      []string
		}{{"GET", "", nil}, {"PUT", "x", nil}, {"DELETE", "", nil}, {"POST", "x", []string{"Idempotency-Key", "k"}}} {
			resp, body := send(t, cl, r.method, c.url+"/t/oak/v1/x", r.body, r.headers...)
			require.Equal(t, 200, resp.StatusCode, body)
		}
	}
	require.Positive(t, dropped.Load())
	require.Positive(t, c.metric("caresphere_router_retries_total"))
	require.Positive(t, c.metric("caresphere_router_ejections_total"), "a worker that always breaks was never ejected")
}

func TestAnUnsafeRequestIsNeverSentTwice(t *testing.T) {
	c := newCluster(t, nil)
	var a, b atomic.Int32
	c.publish(c.breaking(&a), c.breaking(&b))
	c.awaitWorkers(2)
	resp, body := send(t, c.client(), "POST", c.url+"/t/oak/v1/x", "x")
	require.Equal(t, 503, resp.StatusCode, body)
	require.EqualValues(t, 1, a.Load()+b.Load())
	// One that may be repeated is sent to both. The transport may add one more each,
	// for an idle connection that turned out to be stale.
	a.Store(0)
	b.Store(0)
	resp, _ = send(t, c.client(), "POST", c.url+"/t/oak/v1/x", "x", "Idempotency-Key", "k")
	require.Equal(t, 503, resp.StatusCode)
	for _, n := range []int32{a.Load(), b.Load()} {
		require.GreaterOrEqual(t, n, int32(1))
		require.LessOrEqual(t, n, int32(2))
	}
	// A large body was not kept, so it cannot be repeated.
	a.Store(0)
	b.Store(0)
	resp, err := c.client().Post(c.url+"/t/oak/v1/x", "", strings.NewReader(strings.Repeat("x", 100_000)))
	if err == nil {
		_ = resp.Body.Close()
		require.Equal(t, 503, resp.StatusCode)
	}
	require.EqualValues(t, 1, a.Load()+b.Load())
}

func TestARequestThatNeverLeftIsAlwaysRepeated(t *testing.T) {
	c := newCluster(t, func(cfg *router.Config) { cfg.HealthEvery = time.Hour }) // health checks do not help here
	good, _ := c.server("dataplane", ok)
	closed := listen(t)
	url := "https://" + closed.Addr().String()
	require.NoError(t, closed.Close())
	impostor, _ := c.server("somebody", ok) // the right authority, the wrong name
	for _, bad := range []string{url, impostor} {
		c.publish(bad, good)
		for range 20 {
			resp, body := send(t, c.client(), "POST", c.url+"/t/oak/v1/x", "x")
			require.Equal(t, 200, resp.StatusCode, body)
		}
	}
}

func TestMisdirectedIsSentAgainByANewerTable(t *testing.T) {
	c := newCluster(t, nil)
	var moved, asked atomic.Int32
	c.publish("https://127.0.0.1:1")
	worker, _ := c.server("dataplane", func(app *fiber.App) {
		app.All("/*", func(f *fiber.Ctx) error {
			if f.Get(router.HeaderEpoch) != "8" {
				moved.Add(1)
				return tenants.NewError(tenants.KindMisdirected, "not here any more")
			}
			return f.SendString("ok")
		})
	})
	c.publish(worker)
	c.awaitWorkers(1)
	newer := true
	c.refresh = func(context.Context) error {
		asked.Add(1)
		if newer {
			c.table.Routes[0].Epoch = 8
			c.publish(worker)
		}
		return nil
	}
	// Not idempotent: the answer is the client's to deal with.
	resp, _ := send(t, c.client(), "POST", c.url+"/t/oak/v1/x", "x")
	require.Equal(t, 421, resp.StatusCode)
	require.Zero(t, asked.Load())
	resp, body := get(t, c.client(), c.url+"/t/oak/v1/x")
	require.Equal(t, 200, resp.StatusCode, body)
	require.EqualValues(t, 1, asked.Load())
	// Where the newer table says the same, once is enough.
	newer = false
	c.table.Routes[0].Epoch = 9
	c.publish(worker)
	moved.Store(0)
	resp, _ = get(t, c.client(), c.url+"/t/oak/v1/x")
	require.Equal(t, 421, resp.StatusCode)
	require.EqualValues(t, 2, moved.Load())
	// A tenant that the newer table does not have is gone.
	c.refresh = func(context.Context) error { c.table.Routes = c.table.Routes[1:]; c.publish(worker); return nil }
	resp, _ = get(t, c.client(), c.url+"/t/oak/v1/x")
	require.Equal(t, 404, resp.StatusCode)
}

func TestATenantsErrorsNeverEjectAWorker(t *testing.T) {
	c := newCluster(t, nil)
	worker, _ := c.server("dataplane", func(app *fiber.App) {
		app.All("/t/oak/*", func(*fiber.Ctx) error { return errors.New("this tenant is broken") })
		app.All("/t/elm/v1/down", func(*fiber.Ctx) error { return tenants.NewError(tenants.KindUnavailable, "its key is away") })
		app.All("/*", func(f *fiber.Ctx) error { return f.SendString("ok") })
	})
	c.publish(worker)
	c.awaitWorkers(1)
	for range 40 {
		resp, _ := get(t, c.client(), c.url+"/t/oak/v1/x")
		require.Equal(t, 500, resp.StatusCode)
		resp, _ = get(t, c.client(), c.url+"/t/elm/v1/down")
		require.Equal(t, 503, resp.StatusCode)
	}
	require.Zero(t, c.metric("caresphere_router_ejections_total"))
	resp, _ := get(t, c.client(), c.url+"/t/elm/v1/x")
	require.Equal(t, 200, resp.StatusCode)
}

func TestASickWorkerIsLeftAsideAndComesBack(t *testing.T) {
	c := newCluster(t, nil)
	var sick atomic.Bool
	var servedBySick atomic.Int32
	flaky := func(app *fiber.App) {
		app.All("/*", func(f *fiber.Ctx) error { servedBySick.Add(1); return f.SendString("ok") })
	}
	app := httpx.New(httpx.Config{TrustedPeers: []string{"router"}})
	app.Get("/internal/readyz", func(f *fiber.Ctx) error {
		if sick.Load() {
			return f.SendStatus(503)
		}
		return f.JSON(httpx.Readiness{Ready: true})
	})
	flaky(app)
	ln := listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- httpx.Serve(ctx, app, ln, c.serverTLS("dataplane")) }()
	t.Cleanup(func() { cancel(); <-done })
	good, stopGood := c.server("dataplane", ok)
	c.publish("https://"+ln.Addr().String(), good)
	c.awaitWorkers(2)
	sick.Store(true)
	c.awaitWorkers(1)
	servedBySick.Store(0)
	for range 30 {
		resp, _ := get(t, c.client(), c.url+"/t/oak/v1/x")
		require.Equal(t, 200, resp.StatusCode)
	}
	require.Zero(t, servedBySick.Load())
	// When all look sick, all are used: the checks are then more likely wrong.
	stopGood()
	c.awaitWorkers(0)
	resp, _ := get(t, c.client(), c.url+"/t/oak/v1/x")
	require.Equal(t, 200, resp.StatusCode)
	require.Positive(t, servedBySick.Load())
	sick.Store(false)
	c.awaitWorkers(1)
}

// TestAKilledWorkerCostsNoIdempotentRequest kills a worker's process under load.
func TestAKilledWorkerCostsNoIdempotentRequest(t *testing.T) {
	c := newCluster(t, nil)
	start := func() (string, *exec.Cmd) {
		ln := listen(t)
		addr := ln.Addr().String()
		require.NoError(t, ln.Close())
		pair := c.issue("dataplane")
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "ROUTER_TEST_WORKER="+addr, "ROUTER_TEST_CA="+c.ca.CertPath(), "ROUTER_TEST_CERT="+pair.Cert, "ROUTER_TEST_KEY="+pair.Key)
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return addr, cmd
	}
	a, first := start()
	b, second := start()
	c.publish("https://"+a, "https://"+b)
	c.awaitWorkers(2)
	cl := c.client()
	var served [2]atomic.Int64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	failures := make(chan string, 1000)
	for i := range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				method, headers := "GET", []string(nil)
				if i%2 == 1 {
					method, headers = "POST", []string{"Idempotency-Key", "k"}
				}
				req, _ := http.NewRequest(method, c.url+"/t/oak/v1/x", nil)
				for j := 0; j+1 < len(headers); j += 2 {
					req.Header.Set(headers[j], headers[j+1])
				}
				resp, err := cl.Do(req)
				if err != nil {
					failures <- err.Error()
					continue
				}
				body, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				switch {
				case err != nil || resp.StatusCode != 200:
					failures <- fmt.Sprint(resp.StatusCode, err, string(body))
				case strings.HasSuffix(string(body), a):
					served[0].Add(1)
				default:
					served[1].Add(1)
				}
			}
		})
	}
	// The tenant keeps to one of them: that one is killed.
	home, other, process := 0, 1, first
	require.Eventually(t, func() bool {
		if served[1].Load() > served[0].Load() {
			home, other, process = 1, 0, second
		}
		return served[home].Load() > 400
	}, 20*time.Second, time.Millisecond)
	require.NoError(t, process.Process.Kill())
	after := served[other].Load()
	require.Eventually(t, func() bool { return served[other].Load() > after+1000 }, 20*time.Second, time.Millisecond)
	close(stop)
	wg.Wait()
	close(failures)
	for f := range failures {
		t.Error("failed: " + f)
	}
}

func TestTenantsAreServedWithTheControlPlaneAway(t *testing.T) {
	c := newCluster(t, nil) // its control plane does not exist
	worker, _ := c.server("dataplane", ok)
	c.publish(worker)
	c.awaitWorkers(1)
	resp, _ := get(t, c.client(), c.url+"/t/oak/v1/x")
	require.Equal(t, 200, resp.StatusCode)
	resp, body := get(t, c.client(), c.url+"/api/v1/me")
	require.Equal(t, 503, resp.StatusCode)
	require.Equal(t, httpx.MIMEProblem, resp.Header.Get("Content-Type"))
	require.NotContains(t, body, "127.0.0.1")
}

func TestDrainFinishesWhatIsUnderWay(t *testing.T) {
	c := newCluster(t, nil)
	began, release := make(chan struct{}, 1), make(chan struct{})
	worker, _ := c.server("dataplane", func(app *fiber.App) {
		app.All("/*", func(f *fiber.Ctx) error { began <- struct{}{}; <-release; return f.SendString("whole") })
	})
	c.publish(worker)
	c.awaitWorkers(1)
	got := make(chan string, 1)
	cl := c.client()
	go func() {
		resp, err := cl.Get(c.url + "/t/oak/v1/x")
		if err != nil {
			got <- err.Error()
			return
		}
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		got <- string(b)
	}()
	<-began
	c.stop()
	require.Eventually(t, httpx.Draining(c.app), 5*time.Second, time.Millisecond)
	close(release)
	require.Equal(t, "whole", <-got)
	require.NoError(t, <-c.done)
}

func TestAServerThatPausesForTooLongIsGivenUp(t *testing.T) {
	c := newCluster(t, func(cfg *router.Config) {
		cfg.AnswerTimeout, cfg.PauseTimeout = 200*time.Millisecond, 200*time.Millisecond
	})
	hang := make(chan struct{})
	defer close(hang)
	url := c.raw("dataplane", func(conn net.Conn, req *http.Request) {
		if req.URL.Path == "/t/oak/v1/body" {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
		}
		<-hang
	})
	c.publish(url)
	c.awaitWorkers(1)
	start := time.Now()
	for _, method := range []string{"POST", "GET", "PUT"} {
		resp, _ := send(t, c.client(), method, c.url+"/t/oak/v1/head", "x")
		require.Equal(t, 503, resp.StatusCode, method)
	}
	resp, err := c.client().Post(c.url+"/t/oak/v1/body", "", nil)
	require.NoError(t, err)
	_, err = io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	require.Error(t, err)
	require.Less(t, time.Since(start), 10*time.Second)
}

func TestLogsAndMetricsNameNoTenantsPath(t *testing.T) {
	c := newCluster(t, nil)
	worker, _ := c.server("dataplane", ok)
	c.publish(worker)
	c.awaitWorkers(1)
	get(t, c.client(), c.url+"/t/oak/v1/clients/MariaMusterfrau?name=MariaMusterfrau")
	require.NotContains(t, logs.String(), "Musterfrau")
	require.Contains(t, logs.String(), `"route":"/t/:slug/*"`)
	families, err := c.obs.Metrics.Gather()
	require.NoError(t, err)
	require.NotContains(t, fmt.Sprint(families), "Musterfrau")
}
