package testkit

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// AgentEnv names the socket of the harness's host; without it a test process
// starts servers for itself.
const AgentEnv = "CARESPHERE_TESTKIT"

// Listen offers the host to the test processes of this run. It returns the
// socket's path, the value for AgentEnv.
func (h *Host) Listen() (string, error) {
	path := filepath.Join(h.dir, "agent")
	l, err := net.Listen("unix", path)
	if err != nil {
		return "", fmt.Errorf("listening for test processes: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return "", fmt.Errorf("closing the socket to others: %w", err)
	}
	server := &http.Server{Handler: http.HandlerFunc(h.serve), ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(l) }()
	h.onClose(func(context.Context) error { return server.Close() })
	return path, nil
}

func (h *Host) serve(w http.ResponseWriter, r *http.Request) {
	value, err := h.Get(strings.TrimPrefix(r.URL.Path, "/"), r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_ = json.NewEncoder(w).Encode(value)
}

var own = sync.OnceValues(NewHost)

// ownHost is the host in this process, for servers that one test has to itself.
func ownHost(t testing.TB) *Host {
	t.Helper()
	h, err := own()
	if err != nil {
		t.Fatalf("%v", err)
	}
	return h
}

// ask gets a server's location from the harness, or from this process's own host.
func ask[T any](t testing.TB, what string, params url.Values) T {
	t.Helper()
	value, err := fetch[T](what, params)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return value
}

func fetch[T any](what string, params url.Values) (T, error) {
	var value T
	encoded, err := fetchJSON(what, params)
	if err != nil {
		return value, fmt.Errorf("starting %s: %w", what, err)
	}
	if err := json.Unmarshal(encoded, &value); err != nil {
		return value, fmt.Errorf("starting %s: %w", what, err)
	}
	return value, nil
}

func fetchJSON(what string, params url.Values) ([]byte, error) {
	socket := os.Getenv(AgentEnv)
	if socket == "" {
		host, err := own()
		if err != nil {
			return nil, err
		}
		value, err := host.Get(what, params)
		if err != nil {
			return nil, err
		}
		return json.Marshal(value)
	}
	client := &http.Client{Timeout: startTimeout, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	res, err := client.Get("http://harness/" + what + "?" + params.Encode())
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s", strings.TrimSpace(string(body)))
	}
	return body, nil
}
