package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/internal/obs"
	"github.com/caresphere/caresphere/internal/testkit"
)

const (
	origin         = testkit.KratosOrigin
	operatorOrigin = "https://localhost:8444"
)

// world is a whole control plane on real servers, reached as the router does.
type world struct {
	plane                 *plane
	public, console       string
	health                string
	ca                    *testkit.Authority
	customers, operatorsK *testkit.KratosServer
	super                 *pgxpool.Pool
}

func start(t *testing.T, options ...testkit.KratosOption) *world {
	t.Helper()
	return startWith(t, func(*settings) {}, options...)
}

// startWith lets the test change the settings.
func startWith(t *testing.T, change func(*settings), options ...testkit.KratosOption) *world {
	t.Helper()
	w := &world{ca: testkit.CA(t)}
	w.customers = testkit.Kratos(t, options...)
	w.operatorsK = testkit.Kratos(t, testkit.Operators())
	db := testkit.ControlDB(t)
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	key := func(name string) string {
		signer, _, err := note.GenerateKey(rand.Reader, "caresphere-"+name)
		require.NoError(t, err)
		return file(name+".key", signer+"\n")
	}
	own, local := w.ca.Issue(t, "controlplane"), w.ca.Issue(t, "localhost")
	s := settings{
		TLSCA: w.ca.Path(), TLSCert: own.Cert, TLSKey: own.Key, OperatorTLSCert: local.Cert, OperatorTLSKey: local.Key,
		PublicOrigin: origin, OperatorOrigin: operatorOrigin, Dev: true, ControlDSN: db.DSN("controlplane"),
		KratosPublicURL: w.customers.PublicURL, KratosAdminURL: w.customers.AdminURL,
		OpsKratosPublicURL: w.operatorsK.PublicURL, OpsKratosAdminURL: w.operatorsK.AdminURL,
		CourierKey: file("courier.key", "courier-key-of-the-test"), RouteKey: key("route"), BAAKey: key("baa"),
		Secret: file("secret", rand.Text()+rand.Text()), Platform: "CareSphere, Inc.", Mail: "outbox", IPLimitFactor: 1,
	}
	change(&s)
	ctx, cancel := context.WithCancel(context.Background())
	o, flush, err := obs.Setup(ctx, "controlplane", obs.Config{LogLevel: "warn", Traces: "none", LogTo: testWriter{t}})
	require.NoError(t, err)
	w.plane, err = newPlane(ctx, s, o)
	require.NoError(t, err)
	health, public, operators, err := w.plane.endpoints()
	require.NoError(t, err)
	for e, addr := range map[*httpx.Endpoint]*string{&health: &w.health, &public: &w.public, &operators: &w.console} {
		e.Listener, err = net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		*addr = e.Listener.Addr().String()
	}
	done := make(chan error, 1)
	go func() { done <- httpx.Run(ctx, health, public, operators) }()
	w.super, err = pgxpool.New(ctx, db.Superuser(t))
	require.NoError(t, err)
	t.Cleanup(func() {
		cancel()
		<-done
		w.super.Close()
		w.plane.Close()
		_ = flush(context.Background())
	})
	return w
}

// testWriter puts log lines into the test's output.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Helper()
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// person is somebody with a browser or a program.
type person struct {
	t      *testing.T
	w      *world
	http   *http.Client
	origin string
	ip     string
	token  string
	accept string
}

// asRouter brings requests to the control plane as the router does.
type asRouter struct {
	next http.RoundTripper
	p    *person
}

func (a asRouter) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	if a.p.origin == origin && a.p.ip != "" {
		r.Header.Set("X-Real-Ip", a.p.ip)
		r.Header.Set("X-Forwarded-For", a.p.ip)
	}
	return a.next.RoundTrip(r)
}

func (w *world) person(t *testing.T) *person { return w.personAt(t, origin, w.public, "router") }

func (w *world) operator(t *testing.T) *person {
	return w.personAt(t, operatorOrigin, w.console, "router")
}

// process is one of the platform's own, asking on its own behalf.
func (w *world) process(t *testing.T, name string) *person {
	t.Helper()
	p := w.personAt(t, origin, w.public, name)
	p.ip = ""
	return p
}

func (w *world) personAt(t *testing.T, at, address, name string) *person {
	t.Helper()
	pair := w.ca.Issue(t, name)
	cert, err := tls.LoadX509KeyPair(pair.Cert, pair.Key)
	require.NoError(t, err)
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	p := &person{t: t, w: w, origin: at, ip: "203.0.113.7", accept: "application/json"}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: w.ca.Pool(), Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	p.http = &http.Client{Jar: jar, Timeout: 30 * time.Second, Transport: asRouter{transport, p},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return p
}

// reply is an answer, read.
type reply struct {
	status int
	header http.Header
	body   []byte
	doc    map[string]any
}

func (r reply) at(path string) any {
	var v any = r.doc
	for part := range strings.SplitSeq(path, ".") {
		m, _ := v.(map[string]any)
		v = m[part]
	}
	return v
}

// fields returns the fields that a problem names.
func (r reply) fields() []string {
	var out []string
	list, _ := r.doc["errors"].([]any)
	for _, e := range list {
		m, _ := e.(map[string]any)
		f, _ := m["field"].(string)
		out = append(out, f)
	}
	return out
}

func (r reply) kind() string {
	s, _ := r.doc["type"].(string)
	return s[strings.LastIndexByte(s, '/')+1:]
}

func (p *person) send(method, path, contentType string, body []byte, headers ...string) reply {
	p.t.Helper()
	target := path
	if !strings.HasPrefix(path, "https://") {
		target = p.origin + path
	}
	req, err := http.NewRequest(method, target, bytes.NewReader(body))
	require.NoError(p.t, err)
	req.Header.Set("Accept", p.accept)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if p.token != "" {
		req.Header.Set("X-Session-Token", p.token)
	} else if method != http.MethodGet && len(p.cookies()) > 0 {
		req.Header.Set("Origin", p.origin)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := p.http.Do(req)
	require.NoError(p.t, err)
	defer func() { _ = res.Body.Close() }()
	r := reply{status: res.StatusCode, header: res.Header}
	r.body, err = io.ReadAll(res.Body)
	require.NoError(p.t, err)
	_ = json.Unmarshal(r.body, &r.doc)
	return r
}

func (p *person) cookies() []*http.Cookie {
	u, _ := url.Parse(p.origin)
	return p.http.Jar.Cookies(u)
}

func (p *person) get(path string) reply {
	p.t.Helper()
	return p.send(http.MethodGet, path, "", nil)
}

func (p *person) post(path string, body any, headers ...string) reply {
	p.t.Helper()
	b, err := json.Marshal(body)
	require.NoError(p.t, err)
	return p.send(http.MethodPost, path, "application/json", b, headers...)
}

func (p *person) form(path string, values url.Values) reply {
	p.t.Helper()
	return p.send(http.MethodPost, path, "application/x-www-form-urlencoded", []byte(values.Encode()))
}

// flow begins a self-service flow and returns its id, token and nodes.
func (p *person) flow(name string) flowState {
	p.t.Helper()
	kind := "browser"
	if p.token != "" {
		kind = "api"
	}
	path, query, _ := strings.Cut(name, "?")
	r := p.get("/.ory/self-service/" + path + "/" + kind + "?" + query)
	require.Equal(p.t, http.StatusOK, r.status, "beginning %s: %s", name, r.body)
	return readFlowState(r)
}

type flowState struct {
	id, csrf string
	reply    reply
}

func readFlowState(r reply) flowState {
	f := flowState{reply: r}
	f.id, _ = r.doc["id"].(string)
	f.csrf = f.node("csrf_token", "value")
	return f
}

// node returns an attribute of the node with this name or id.
func (f flowState) node(name, attribute string) string {
	nodes, _ := f.reply.at("ui.nodes").([]any)
	for _, n := range nodes {
		a, _ := n.(map[string]any)["attributes"].(map[string]any)
		if a["name"] != name && a["id"] != name {
			continue
		}
		if attribute == "text" {
			text, _ := a["text"].(map[string]any)
			s, _ := text["text"].(string)
			return s
		}
		s, _ := a[attribute].(string)
		return s
	}
	return ""
}

// submit sends a method of a flow with its fields.
func (p *person) submit(flow string, f flowState, method string, fields ...string) reply {
	p.t.Helper()
	body := map[string]any{"method": method}
	if f.csrf != "" {
		body["csrf_token"] = f.csrf
	}
	for i := 0; i < len(fields); i += 2 {
		body[fields[i]] = fields[i+1]
	}
	return p.post("/.ory/self-service/"+flow+"?flow="+f.id, body)
}

var (
	flowInLetter = regexp.MustCompile(`flow=([0-9a-f-]{36})`)
	codeInLetter = regexp.MustCompile(`(?m)^\s+(\d{6})\s*$`)
)

// letter returns the newest letter to the address from the outbox.
func (p *person) letter(to string) (template, flow, code string) {
	p.t.Helper()
	newest := p.letters(to)[0]
	return newest.template, newest.flow, newest.code
}

// letter is what a letter of the outbox says.
type letter struct{ template, flow, code string }

// letters are all letters to an address, the newest first.
func (p *person) letters(to string) (all []letter) {
	p.t.Helper()
	r := p.get("/dev/outbox?to=" + url.QueryEscape(to))
	require.Equal(p.t, http.StatusOK, r.status)
	var list []struct{ Template, Body string }
	require.NoError(p.t, json.Unmarshal(r.body, &list))
	require.NotEmpty(p.t, list, "letters to %s", to)
	for _, one := range list {
		l := letter{template: one.Template}
		if m := flowInLetter.FindStringSubmatch(one.Body); m != nil {
			l.flow = m[1]
		}
		if m := codeInLetter.FindStringSubmatch(one.Body); m != nil {
			l.code = m[1]
		}
		all = append(all, l)
	}
	return all
}

// count is how many rows the query finds, seen by the superuser.
func (w *world) count(t *testing.T, query string, args ...any) int {
	t.Helper()
	var n int
	require.NoError(t, w.super.QueryRow(context.Background(), query, args...).Scan(&n))
	return n
}

// exec runs a statement as the superuser: for planting faults and for letting time pass.
func (w *world) exec(t *testing.T, statement string, args ...any) {
	t.Helper()
	_, err := w.super.Exec(context.Background(), statement, args...)
	require.NoError(t, err)
}

// rows counts what a request could have written.
func (w *world) rows(t *testing.T) map[string]int {
	t.Helper()
	out := map[string]int{}
	for _, table := range []string{"organization", "account", "mail", "audit_entry", "idempotency_key"} {
		out[table] = w.count(t, "SELECT count(*) FROM "+table)
	}
	return out
}

func unique(prefix string) string { return strings.ToLower(prefix + "-" + rand.Text()[:10]) }
