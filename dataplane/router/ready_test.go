package router_test

import (
	"context"
	"encoding/json"
	"io"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/httpx"
)

func TestReadyMeansTheWholeWay(t *testing.T) {
	first := newCluster(t, nil)
	state := httpx.Readiness{Ready: true, Checks: []httpx.CheckResult{{Name: "kratos", OK: true}, {Name: "provisioner", OK: true}}}
	var mu sync.Mutex
	app := httpx.New(httpx.Config{TrustedPeers: []string{"router"}})
	app.Get("/internal/readyz", func(f *fiber.Ctx) error {
		mu.Lock()
		defer mu.Unlock()
		if !state.Ready {
			f.Status(503)
		}
		return f.JSON(state)
	})
	ln := listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- httpx.Serve(ctx, app, ln, first.serverTLS("controlplane")) }()
	stopControl := sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stopControl)
	c := newClusterWith(t, first, "https://"+ln.Addr().String())
	ask := func() (int, map[string]bool) {
		resp, body := get(t, c.client(), c.url+"/readyz")
		var r httpx.Readiness
		require.NoError(t, json.Unmarshal([]byte(body), &r), body)
		require.Equal(t, resp.StatusCode == 200, r.Ready)
		out := map[string]bool{}
		for _, ch := range r.Checks {
			out[ch.Name] = ch.OK
		}
		return resp.StatusCode, out
	}
	status, checks := ask()
	require.Equal(t, 503, status, "ready without a worker")
	require.Equal(t, map[string]bool{"controlplane": true, "workers": false, "controlplane.kratos": true, "controlplane.provisioner": true}, checks)

	worker, stopWorker := c.server("dataplane", ok)
	c.publish(worker)
	c.awaitWorkers(1)
	status, checks = ask()
	require.Equal(t, 200, status, checks)

	mu.Lock()
	state.Ready, state.Checks[1].OK = false, false
	mu.Unlock()
	status, checks = ask()
	require.Equal(t, 503, status)
	require.False(t, checks["controlplane.provisioner"])
	require.True(t, checks["controlplane.kratos"])
	mu.Lock()
	state.Ready, state.Checks[1].OK = true, true
	mu.Unlock()
	status, _ = ask()
	require.Equal(t, 200, status)

	stopControl()
	status, checks = ask()
	require.Equal(t, 503, status)
	require.False(t, checks["controlplane"])
	stopWorker()
	c.awaitWorkers(0)
	_, checks = ask()
	require.False(t, checks["workers"])
	resp, _ := get(t, c.client(), c.url+"/livez")
	require.Equal(t, 200, resp.StatusCode)
}

// TestAClientThatLeavesReadinessTakesNothingAlong is for the race detector: the check of
// the control plane is left while it ends.
func TestAClientThatLeavesReadinessTakesNothingAlong(t *testing.T) {
	first := newCluster(t, nil)
	asked, hang := make(chan struct{}), atomic.Bool{}
	hang.Store(true)
	app := httpx.New(httpx.Config{TrustedPeers: []string{"router"}})
	app.Get("/internal/readyz", func(f *fiber.Ctx) error {
		if hang.Load() {
			asked <- struct{}{}
			<-httpx.Context(f).Done()
		}
		return f.JSON(httpx.Readiness{Ready: true, Checks: []httpx.CheckResult{{Name: "kratos", OK: true}}})
	})
	ln := listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- httpx.Serve(ctx, app, ln, first.serverTLS("controlplane")) }()
	t.Cleanup(func() { cancel(); <-done })
	c := newClusterWith(t, first, "https://"+ln.Addr().String())
	for range 10 {
		conn := c.dial()
		_, err := io.WriteString(conn, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
		require.NoError(t, err)
		<-asked
		require.NoError(t, conn.Close())
	}
	hang.Store(false)
	_, body := get(t, c.client(), c.url+"/readyz")
	require.Contains(t, body, "controlplane.kratos")
}
