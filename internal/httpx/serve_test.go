package httpx_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/caresphere/caresphere/internal/httpx"
)

func TestDrainLetsRequestsFinish(t *testing.T) {
	app := httpx.New(httpx.Config{DrainDelay: 300 * time.Millisecond, DrainTimeout: 5 * time.Second})
	began, release := make(chan struct{}, 1), make(chan struct{})
	app.Get("/slow", func(c *fiber.Ctx) error {
		began <- struct{}{}
		select {
		case <-release:
			return c.SendString("whole")
		case <-httpx.Context(c).Done():
			return context.Cause(httpx.Context(c))
		}
	})
	app.Get("/quick", func(c *fiber.Ctx) error { return c.SendString("ok") })
	in := serve(t, app)
	type answer struct {
		body string
		err  error
	}
	got := make(chan answer, 1)
	c := in.client(t, "")
	go func() {
		resp, err := c.Get(in.url("/slow"))
		if err != nil {
			got <- answer{err: err}
			return
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		got <- answer{string(b), err}
	}()
	<-began
	require.False(t, httpx.Draining(app)())
	in.stop()
	require.Eventually(t, httpx.Draining(app), time.Second, time.Millisecond)
	// While readiness already says no, the listener still answers.
	resp, _ := do(t, in.client(t, ""), "GET", in.url("/quick"), "", "")
	require.Equal(t, 200, resp.StatusCode)
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", in.addr)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	}, 5*time.Second, 10*time.Millisecond, "the listener never closed")
	close(release)
	a := <-got
	require.NoError(t, a.err)
	require.Equal(t, "whole", a.body)
	require.NoError(t, <-in.done)
}

func TestDrainEndsWhatTakesTooLong(t *testing.T) {
	app := httpx.New(httpx.Config{DrainTimeout: 200 * time.Millisecond})
	began := make(chan struct{}, 2)
	cause := make(chan error, 1)
	app.Get("/slow", func(c *fiber.Ctx) error {
		began <- struct{}{}
		<-httpx.Context(c).Done()
		cause <- context.Cause(httpx.Context(c))
		return context.Cause(httpx.Context(c))
	})
	stuck := make(chan struct{})
	app.Get("/stuck", func(*fiber.Ctx) error { began <- struct{}{}; <-stuck; return nil })
	in := serve(t, app)
	c := in.client(t, "")
	for _, path := range []string{"/slow", "/stuck"} {
		go func() {
			if resp, err := c.Get(in.url(path)); err == nil {
				_ = resp.Body.Close()
			}
		}()
		<-began
	}
	in.stop()
	require.ErrorIs(t, <-cause, httpx.ErrDraining)
	select {
	case err := <-in.done:
		require.ErrorContains(t, err, "1 requests were cut off")
	case <-time.After(15 * time.Second):
		t.Fatal("a handler that ignores its context held up the process")
	}
	close(stuck)
}

func TestRunServesHealthToTheEnd(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent(),
		// fasthttp's cleaner of idle workers ends at its next turn, within ten seconds.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
	a := ca(t)
	pair := issue(t, a, "server")
	conf, err := httpx.ServerTLS(pair.Cert, pair.Key)
	require.NoError(t, err)
	app := httpx.New(httpx.Config{DrainDelay: 500 * time.Millisecond})
	app.Get("/", func(c *fiber.Ctx) error { return c.SendString("ok") })
	ok := true
	health := httpx.Health(httpx.HealthConfig{Draining: httpx.Draining(app), Metrics: prometheus.NewRegistry(), Checks: []httpx.Check{
		{Name: "good", Run: func(context.Context) error { return nil }},
		{Name: "sometimes", Run: func(context.Context) error {
			if ok {
				return nil
			}
			return errors.New("it is down at 10.0.0.1")
		}},
	}})
	mainLn, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	healthLn, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	done := make(chan error, 1)
	go func() {
		done <- httpx.Run(ctx, httpx.Endpoint{App: health, Listener: healthLn, TLS: conf}, httpx.Endpoint{App: app, Listener: mainLn, TLS: conf})
	}()
	clientConf, err := httpx.ClientTLS(a.CertPath(), "", "")
	require.NoError(t, err)
	tr := &http.Transport{TLSClientConfig: clientConf}
	c := &http.Client{Transport: tr, Timeout: 5 * time.Second}
	url := "https://" + healthLn.Addr().String()

	resp, body := do(t, c, "GET", url+"/readyz", "", "")
	require.Equal(t, 200, resp.StatusCode, body)
	require.Contains(t, body, `"name":"good","ok":true`)
	ok = false
	resp, body = do(t, c, "GET", url+"/readyz", "", "")
	require.Equal(t, 503, resp.StatusCode)
	require.Contains(t, body, `"name":"sometimes","ok":false`)
	require.NotContains(t, body, "10.0.0.1")
	ok = true
	resp, _ = do(t, c, "GET", url+"/livez", "", "")
	require.Equal(t, 200, resp.StatusCode)
	resp, _ = do(t, c, "GET", url+"/metrics", "", "")
	require.Equal(t, 200, resp.StatusCode)
	require.True(t, strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain"))

	stop()
	require.Eventually(t, func() bool {
		resp, body := do(t, c, "GET", url+"/readyz", "", "")
		return resp.StatusCode == 503 && strings.Contains(body, "not_draining")
	}, time.Second, 5*time.Millisecond)
	tr.CloseIdleConnections()
	require.NoError(t, <-done)
}

func TestRunFailsWhenAPortIsTaken(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = ln.Close() }()
	err = httpx.Run(context.Background(), httpx.Endpoint{App: httpx.Health(httpx.HealthConfig{}), Address: "127.0.0.1:0"},
		httpx.Endpoint{App: httpx.New(httpx.Config{}), Address: ln.Addr().String()})
	require.ErrorContains(t, err, "listening on "+ln.Addr().String())
}

func TestACheckThatHangsIsNotWaitedFor(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	start := time.Now()
	r := httpx.RunChecks(context.Background(), []httpx.Check{
		{Name: "hangs", Timeout: 50 * time.Millisecond, Run: func(context.Context) error { <-hang; return nil }},
		{Name: "panics", Run: func(context.Context) error { panic("x") }},
		{Name: "good", Run: func(context.Context) error { return nil }},
	})
	require.False(t, r.Ready)
	require.Equal(t, []bool{false, false, true}, []bool{r.Checks[0].OK, r.Checks[1].OK, r.Checks[2].OK})
	require.Less(t, time.Since(start), 2*time.Second)
}
