package testkit

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/caresphere/caresphere/internal/devstack"
)

// plain speaks to toxiproxy's API, which is on the loopback without TLS.
var plain = &http.Client{Timeout: 10 * time.Second}

// Proxy is a TCP proxy in front of a server, in which a test makes faults.
type Proxy struct {
	// Addr is the host:port to connect to in the server's place.
	Addr string

	name, api string
	t         testing.TB
}

// Toxiproxy puts a proxy in front of upstream (host:port, or a URL's host). TLS
// goes through untouched. It goes with the test.
func Toxiproxy(t testing.TB, upstream string) *Proxy {
	t.Helper()
	server := ask[ToxiproxyServer](t, "toxiproxy", nil)
	p := &Proxy{name: rand.Text(), api: server.API, t: t}
	var made struct {
		Listen string `json:"listen"`
	}
	p.call(http.MethodPost, "/proxies", map[string]any{"name": p.name, "listen": "127.0.0.1:0", "upstream": hostOf(upstream), "enabled": true}, &made)
	p.Addr = made.Listen
	t.Cleanup(func() { p.call(http.MethodDelete, "/proxies/"+p.name, nil, nil) })
	return p
}

// Down refuses new connections and cuts the open ones; Up lets them through again.
func (p *Proxy) Down() { p.enable(false) }

// Up ends Down.
func (p *Proxy) Up() { p.enable(true) }

// Hang lets no byte through in either direction, without closing anything. Heal ends it.
func (p *Proxy) Hang() {
	p.t.Helper()
	for _, stream := range []string{"upstream", "downstream"} {
		p.toxic("hang-"+stream, "timeout", stream, map[string]any{"timeout": 0})
	}
}

// Delay holds back every answer by d.
func (p *Proxy) Delay(d time.Duration) {
	p.t.Helper()
	p.toxic("delay", "latency", "downstream", map[string]any{"latency": d.Milliseconds()})
}

// CutAfter closes a connection once n bytes of answers have passed.
func (p *Proxy) CutAfter(n int) {
	p.t.Helper()
	p.toxic("cut", "limit_data", "downstream", map[string]any{"bytes": n})
}

// Reset resets every connection.
func (p *Proxy) Reset() {
	p.t.Helper()
	p.toxic("reset", "reset_peer", "downstream", map[string]any{"timeout": 0})
}

// Heal takes all faults away.
func (p *Proxy) Heal() {
	p.t.Helper()
	var toxics []struct {
		Name string `json:"name"`
	}
	p.call(http.MethodGet, "/proxies/"+p.name+"/toxics", nil, &toxics)
	for _, toxic := range toxics {
		p.call(http.MethodDelete, "/proxies/"+p.name+"/toxics/"+toxic.Name, nil, nil)
	}
	p.enable(true)
}

func (p *Proxy) enable(on bool) {
	p.t.Helper()
	p.call(http.MethodPost, "/proxies/"+p.name, map[string]any{"enabled": on}, nil)
}

func (p *Proxy) toxic(name, kind, stream string, attributes map[string]any) {
	p.t.Helper()
	p.call(http.MethodPost, "/proxies/"+p.name+"/toxics", map[string]any{
		"name": name, "type": kind, "stream": stream, "toxicity": 1.0, "attributes": attributes,
	}, nil)
}

func (p *Proxy) call(method, path string, in, out any) {
	p.t.Helper()
	if err := ordered(p.api, method, path, in, out); err != nil {
		p.t.Fatalf("toxiproxy: %v", err)
	}
}

// proxyName names the proxy in front of a stack's server.
func proxyName(stack string, server devstack.Port) string { return stack + "-" + server.String() }

// proxies puts a proxy in front of each server that a stack's programs use, which
// need not run yet. It returns toxiproxy's API and the ports to use instead.
func (h *Host) proxies(layout devstack.Layout, full bool) (api string, via map[devstack.Port]int, err error) {
	server, err := h.Get("toxiproxy", nil)
	if err != nil {
		return "", nil, err
	}
	api = server.(ToxiproxyServer).API
	servers := []devstack.Port{devstack.PortPostgres, devstack.PortKratos, devstack.PortKratosAdmin, devstack.PortControlPlane}
	if full {
		servers = append(servers, devstack.PortVault, devstack.PortS3, devstack.PortStripe)
	}
	via = map[devstack.Port]int{}
	for _, s := range servers {
		ports, err := h.ports(1)
		if err != nil {
			return "", nil, err
		}
		via[s] = ports[0]
		if err := ordered(api, http.MethodPost, "/proxies", map[string]any{"name": proxyName(filepath.Base(layout.State), s),
			"listen": net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[0])), "upstream": layout.Address(s), "enabled": true}, nil); err != nil {
			return "", nil, err
		}
	}
	return api, via, nil
}

// ordered has toxiproxy do something.
func ordered(api, method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, api+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	res, err := plain.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %s %w", method, path, res.Status, answer, err)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}
