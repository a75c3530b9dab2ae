package router_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/dataplane/router"
	"github.com/caresphere/caresphere/internal/httpx"
)

// crowded is a cluster of one worker with two places for streams of each kind. Its
// description is long, and its uploads are read to their end.
func crowded(t *testing.T) (c *cluster, began chan struct{}) {
	c = newCluster(t, func(cfg *router.Config) { cfg.MaxStreams = 2 })
	began = make(chan struct{}, 8)
	worker, _ := c.server("dataplane", func(app *fiber.App) {
		app.Get("/openapi.json", func(f *fiber.Ctx) error {
			const size = 256 << 20 // more than what lies between holds
			httpx.StreamReader(f, io.NopCloser(io.LimitReader(zeros{}, size)), size)
			return nil
		})
		app.Post("/t/oak/upload", func(f *fiber.Ctx) error {
			began <- struct{}{}
			if _, err := io.Copy(io.Discard, httpx.BodyStream(f)); err != nil {
				return err
			}
			return f.SendString("ok")
		})
		ok(app)
	})
	c.publish(worker)
	c.awaitWorkers(1)
	return c, began
}

// others wants requests served at once, and the worker as healthy as it was.
func (c *cluster) others(full float64) {
	c.t.Helper()
	cl := c.client()
	for range 30 {
		resp, body := get(c.t, cl, c.url+"/t/oak/v1/x")
		require.Equal(c.t, 200, resp.StatusCode, body)
	}
	require.Equal(c.t, full, c.metric("caresphere_router_full_total"))
	require.Zero(c.t, c.metric("caresphere_router_ejections_total"))
	require.EqualValues(c.t, 1, c.metric("caresphere_router_worker_healthy"))
}

// begin asks for the long answer, and reads of it no more than the head.
func (c *cluster) begin() (*tls.Conn, int) {
	c.t.Helper()
	conn := c.dial()
	_, err := io.WriteString(conn, "GET /t/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(c.t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(c.t, err)
	return conn, resp.StatusCode
}

func TestClientsThatDoNotReadKeepNobodyWaiting(t *testing.T) {
	c, _ := crowded(t)
	first, status := c.begin()
	require.Equal(t, 200, status)
	_, status = c.begin()
	require.Equal(t, 200, status)
	c.others(0)
	resp, _ := get(t, c.client(), c.url+"/t/openapi.json")
	require.Equal(t, 503, resp.StatusCode)
	require.Equal(t, "1", resp.Header.Get("Retry-After"))
	c.others(1)
	require.NoError(t, first.Close())
	require.Eventually(t, func() bool { _, status := c.begin(); return status == 200 }, 10*time.Second, 10*time.Millisecond)
}

func TestBodiesThatDoNotComeKeepNobodyWaiting(t *testing.T) {
	c, began := crowded(t)
	const head = "POST /t/oak/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
	var held []*tls.Conn
	for range 2 {
		conn := c.dial()
		_, err := io.WriteString(conn, head+strings.Repeat("a", 70_000))
		require.NoError(t, err)
		<-began
		held = append(held, conn)
	}
	c.others(0)
	upload := func() int {
		resp, err := c.client().Post(c.url+"/t/oak/upload", "", strings.NewReader(strings.Repeat("a", 100_000)))
		require.NoError(t, err)
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	require.Equal(t, 503, upload())
	c.others(1)
	// The body that has come whole makes room.
	_, err := io.WriteString(held[0], strings.Repeat("a", 930_000))
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(held[0]), nil)
	require.NoError(t, err)
	require.Equal(t, 200, resp.StatusCode)
	require.Equal(t, 200, upload())
}

func TestAServerThatTakesNoBodyIsGivenUp(t *testing.T) {
	c := newCluster(t, func(cfg *router.Config) {
		cfg.AnswerTimeout, cfg.PauseTimeout = 300*time.Millisecond, 300*time.Millisecond
	})
	hang := make(chan struct{})
	defer close(hang)
	c.publish(c.raw("dataplane", func(conn net.Conn, req *http.Request) {
		if strings.HasSuffix(req.URL.Path, "/takes") {
			_, _ = io.Copy(io.Discard, req.Body)
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
			if strings.HasSuffix(req.URL.Path, "/all/takes") {
				_, _ = io.WriteString(conn, "all of it")
			}
		}
		<-hang
	}))
	c.awaitWorkers(1)
	for path, status := range map[string]int{"nothing": 503, "takes": 503, "all/takes": 200} {
		t.Run(path, func(t *testing.T) {
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
			defer cancel()
			const size = 32 << 20 // more than what lies between holds
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+"/t/oak/v1/"+path, io.LimitReader(zeros{}, size))
			require.NoError(t, err)
			req.ContentLength = size
			resp, err := c.client().Do(req)
			if err == nil {
				_ = resp.Body.Close()
				require.Equal(t, status, resp.StatusCode)
			} else {
				require.NotEqual(t, 200, status, "%v", err) // the answer was lost: it came amid the body
			}
			require.Less(t, time.Since(began), 10*time.Second)
		})
	}
}
