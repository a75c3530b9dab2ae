package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/internal/routes"
	"github.com/caresphere/caresphere/tenants"
)

// asPeer calls the control plane as another process of the platform.
func (w *world) asPeer(t *testing.T, cn, method, path, body string, headers ...string) (int, []byte) {
	t.Helper()
	pair := w.ca.Issue(t, cn)
	cert, err := tls.LoadX509KeyPair(pair.Cert, pair.Key)
	require.NoError(t, err)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.ca.Pool(), Certificates: []tls.Certificate{cert}, ServerName: "localhost", MinVersion: tls.VersionTLS12}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequest(method, "https://"+w.public+path, bytes.NewReader([]byte(body)))
	require.NoError(t, err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := (&http.Client{Transport: transport, Timeout: 40 * time.Second}).Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, b
}

func TestRoutersAndWorkersFollowTheRoutes(t *testing.T) {
	w := start(t)
	ctx := context.Background()
	require.NoError(t, w.plane.feed.Refresh(ctx))
	_, err := w.super.Exec(ctx, "INSERT INTO cell (id) VALUES ('main')")
	require.NoError(t, err)
	worker := `{"cell_id":"main","url":"https://127.0.0.1:8451"}`

	status, doc := w.asPeer(t, "router", http.MethodGet, "/internal/v1/routes", "")
	require.Equal(t, http.StatusOK, status, "%s", doc)
	_, verifier, err := readSigner(w.plane.settings.RouteKey)
	require.NoError(t, err)
	v, err := note.NewVerifier(verifier)
	require.NoError(t, err)
	table, err := routes.Verify(doc, v)
	require.NoError(t, err)
	assert.Empty(t, table.Workers)

	status, body := w.asPeer(t, "dataplane", http.MethodPut, "/internal/v1/workers/worker-a", worker)
	require.Equal(t, http.StatusNoContent, status, "%s", body)
	require.NoError(t, w.plane.feed.Refresh(ctx))
	status, doc = w.asPeer(t, "dataplane", http.MethodGet, "/internal/v1/routes?after=1", "")
	require.Equal(t, http.StatusOK, status)
	table, err = routes.Verify(doc, v)
	require.NoError(t, err)
	assert.Equal(t, []tenants.Worker{{ID: "worker-a", CellID: "main", URL: "https://127.0.0.1:8451"}}, table.Workers)
	status, _ = w.asPeer(t, "dataplane", http.MethodDelete, "/internal/v1/workers/worker-a", "")
	assert.Equal(t, http.StatusNoContent, status)

	for name, c := range map[string]struct {
		cn, method, path, body string
		headers                []string
		want                   int
	}{
		"a router registers no worker":   {"router", http.MethodPut, "/internal/v1/workers/worker-a", worker, nil, 403},
		"nor removes one":                {"router", http.MethodDelete, "/internal/v1/workers/worker-a", "", nil, 403},
		"the provisioner registers none": {"provisioner", http.MethodPut, "/internal/v1/workers/worker-a", worker, nil, 403},
		"but accounts for the routes":    {"provisioner", http.MethodGet, "/internal/v1/routes", "", nil, 200},
		"what comes from outside":        {"router", http.MethodGet, "/internal/v1/routes", "", []string{"X-Real-Ip", "203.0.113.7"}, 404},
		"a worker without an address":    {"dataplane", http.MethodPut, "/internal/v1/workers/worker-a", `{"cell_id":"main"}`, nil, 422},
		"a worker without TLS":           {"dataplane", http.MethodPut, "/internal/v1/workers/worker-a", `{"cell_id":"main","url":"http://127.0.0.1:1"}`, nil, 422},
		"a worker of no cell":            {"dataplane", http.MethodPut, "/internal/v1/workers/worker-a", `{"cell_id":"moon","url":"https://127.0.0.1:1"}`, nil, 409},
		"a strange name":                 {"dataplane", http.MethodPut, "/internal/v1/workers/Worker", worker, nil, 422},
		"a negative version":             {"router", http.MethodGet, "/internal/v1/routes?after=-1", "", nil, 422},
	} {
		status, body := w.asPeer(t, c.cn, c.method, c.path, c.body, c.headers...)
		assert.Equal(t, c.want, status, "%s: %s", name, body)
	}
	assert.Zero(t, w.count(t, "SELECT count(*) FROM worker"))
}
