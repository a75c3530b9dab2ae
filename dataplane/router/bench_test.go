package router_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/httpx"
)

// BenchmarkForward compares a request through the router with the same request
// sent to the worker itself, over the same TLS, in one run.
func BenchmarkForward(b *testing.B) {
	c := newCluster(b, nil)
	answer := strings.Repeat("a", 1000)
	big := strings.Repeat("b", 1<<20)
	worker, _ := c.server("dataplane", func(app *fiber.App) {
		app.Get("/t/oak/v1/small", func(f *fiber.Ctx) error { return f.SendString(answer) })
		app.Get("/t/oak/v1/big", func(f *fiber.Ctx) error { return f.SendString(big) })
	})
	c.publish(worker)
	c.awaitWorkers(1)
	mine := c.issue("router")
	conf, err := httpx.ClientTLS(c.ca.CertPath(), mine.Cert, mine.Key)
	require.NoError(b, err)
	direct := &http.Client{Transport: &http.Transport{TLSClientConfig: conf, MaxIdleConnsPerHost: 64}, Timeout: 10 * time.Second}
	through := c.client()
	for _, path := range []string{"/t/oak/v1/small", "/t/oak/v1/big"} {
		for _, w := range []struct {
			name   string
			client *http.Client
			base   string
		}{{"direct", direct, worker}, {"router", through, c.url}} {
			b.Run(path[len("/t/oak/v1/"):]+"/"+w.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					resp, err := w.client.Get(w.base + path)
					if err != nil {
						b.Fatal(err)
					}
					n, err := io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
					if err != nil || resp.StatusCode != 200 || n == 0 {
						b.Fatal(resp.StatusCode, n, err)
					}
				}
			})
		}
	}
}
