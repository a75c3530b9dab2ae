package obs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"

	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/internal/obs"
	"github.com/caresphere/caresphere/tenants"
)

// planted stands for PHI.
const planted = "MariaMusterfrau"

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

type dbError struct{}

func (dbError) Error() string    { return `invalid input syntax for type date: "` + planted + `"` }
func (dbError) SQLState() string { return "22007" }

func TestLogLinesCarryTheRequestAndNoDatabaseText(t *testing.T) {
	var out syncBuffer
	log := obs.NewLogger(&out, "test", nil)
	id, tenant := tenants.NewID().String(), tenants.NewID()
	ctx := obs.WithRequest(context.Background(), id)
	log.InfoContext(ctx, "before")
	obs.SetTenant(ctx, tenant)
	log.With("a", 1).WithGroup("g").InfoContext(ctx, "after", obs.Err(fmt.Errorf("writing the client: %w", dbError{})))
	require.NotContains(t, out.String(), planted)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 2)
	require.Contains(t, lines[0], id)
	require.NotContains(t, lines[0], "tenant")
	require.Contains(t, lines[1], tenant.String())
	require.Contains(t, lines[1], "writing the client: SQLSTATE 22007")
	require.Equal(t, id, obs.RequestID(ctx))
	require.Equal(t, tenant, obs.Tenant(ctx))
	// A context without a request is no fault.
	obs.SetTenant(context.Background(), tenant)
	require.Empty(t, obs.RequestID(context.Background()))
	require.True(t, obs.Tenant(context.Background()).IsZero())
	require.Equal(t, "plain", obs.ErrorText(errors.New("plain")))
	require.Empty(t, obs.ErrorText(nil))
}

func TestWrongSettingsAreNamed(t *testing.T) {
	for _, cfg := range []obs.Config{{LogLevel: "loud"}, {Traces: "jaeger"}, {Traces: "file:/nowhere/at/all/x"}} {
		_, _, err := obs.Setup(context.Background(), "test", cfg)
		require.Error(t, err)
	}
}

// serve starts an app under obs over real TLS and returns its base address.
func serve(t *testing.T, o *obs.Obs, routes func(*fiber.App)) (*http.Client, string) {
	t.Helper()
	app := httpx.New(httpx.Config{Obs: o})
	routes(app)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- httpx.Serve(ctx, app, ln, nil) }()
	t.Cleanup(func() { stop(); <-done })
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}, "http://" + ln.Addr().String()
}

func TestRequestsAreCountedByTemplate(t *testing.T) {
	var out syncBuffer
	file := filepath.Join(t.TempDir(), "traces.jsonl")
	o, flush, err := obs.Setup(context.Background(), "test", obs.Config{LogTo: &out, Traces: "file:" + file})
	require.NoError(t, err)
	tenant := tenants.NewID()
	var inner trace.SpanContext
	client, base := serve(t, o, func(app *fiber.App) {
		app.Get("/v1/clients/:id", func(c *fiber.Ctx) error {
			obs.SetTenant(httpx.Context(c), tenant)
			inner = trace.SpanContextFromContext(httpx.Context(c))
			switch c.Params("id") {
			case "none":
				return tenants.NotFound()
			case "panic":
				panic(planted)
			}
			return c.SendString("ok")
		})
	})
	for path, status := range map[string]int{"/v1/clients/" + planted + "?q=" + planted: 200, "/v1/clients/none": 404, "/v1/clients/panic": 500, "/" + planted: 404} {
		resp, err := client.Get(base + path)
		require.NoError(t, err)
		_, _ = io.Copy(io.Discard, resp.Body)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, status, resp.StatusCode)
	}
	resp, err := client.Post(base+"/v1/clients/x", "", nil)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, 405, resp.StatusCode)
	require.NoError(t, flush(context.Background()))

	families, err := o.Metrics.Gather()
	require.NoError(t, err)
	text := fmt.Sprint(families)
	got := map[string]float64{}
	for _, f := range families {
		if f.GetName() != "caresphere_http_requests_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			key := ""
			for _, l := range m.GetLabel() {
				key += l.GetValue() + " "
			}
			got[key] = m.GetCounter().GetValue()
		}
	}
	require.Equal(t, map[string]float64{"GET /v1/clients/:id 200 ": 1, "GET /v1/clients/:id 404 ": 1, "GET /v1/clients/:id 500 ": 1,
		"GET unmatched 404 ": 1, "POST unmatched 405 ": 1}, got)

	spans, err := os.ReadFile(file)
	require.NoError(t, err)
	lines := bytes.Split(bytes.TrimSpace(spans), []byte("\n"))
	require.Len(t, lines, 5)
	for _, line := range lines {
		require.True(t, json.Valid(line))
	}
	require.Contains(t, string(spans), `"GET /v1/clients/:id"`)
	require.Contains(t, string(spans), tenant.String())
	require.Contains(t, out.String(), tenant.String())
	require.True(t, inner.IsValid())
	for name, text := range map[string]string{"metrics": text, "spans": string(spans), "log": out.String()} {
		require.NotContains(t, text, planted, name)
	}
}

func TestTheTraceGoesOnToTheNextServer(t *testing.T) {
	file := filepath.Join(t.TempDir(), "traces.jsonl")
	o, flush, err := obs.Setup(context.Background(), "test", obs.Config{LogTo: io.Discard, Traces: "file:" + file})
	require.NoError(t, err)
	var parent string
	next := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { parent = r.Header.Get("traceparent") }))
	defer next.Close()
	var mine string
	client, base := serve(t, o, func(app *fiber.App) {
		app.Get("/", func(c *fiber.Ctx) error {
			mine = trace.SpanContextFromContext(httpx.Context(c)).TraceID().String()
			req, err := http.NewRequestWithContext(httpx.Context(c), http.MethodGet, next.URL, nil)
			if err != nil {
				return err
			}
			resp, err := (&http.Client{Transport: obs.Transport(http.DefaultTransport, "next")}).Do(req)
			if err != nil {
				return err
			}
			return resp.Body.Close()
		})
	})
	req, err := http.NewRequest(http.MethodGet, base, nil)
	require.NoError(t, err)
	req.Header.Set("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	resp, err := client.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.NoError(t, flush(context.Background()))
	require.Contains(t, parent, mine)
	require.NotEqual(t, "0af7651916cd43dd8448eb211c80319c", mine, "a stranger chose our trace")
	spans, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(spans), `"GET next"`)
}
