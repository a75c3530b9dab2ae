package main

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-rod/rod"
	"github.com/go-rod/rod/lib/launcher"
	"github.com/go-rod/rod/lib/proto"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/testkit"
)

// front stands where the router stands: TLS to the browser, mutual TLS behind.
func (w *world) front(t *testing.T) string {
	t.Helper()
	pair, local := w.ca.Issue(t, "router"), w.ca.Issue(t, "localhost")
	client, err := tls.LoadX509KeyPair(pair.Cert, pair.Key)
	require.NoError(t, err)
	server, err := tls.LoadX509KeyPair(local.Cert, local.Key)
	require.NoError(t, err)
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "https", Host: w.public})
			r.Out.Host = r.In.Host
			r.Out.Header.Set("X-Real-Ip", "203.0.113.9")
		},
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.ca.Pool(), Certificates: []tls.Certificate{client}, ServerName: "localhost", MinVersion: tls.VersionTLS12}},
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &http.Server{Handler: proxy, ReadHeaderTimeout: 5 * time.Second, TLSConfig: &tls.Config{Certificates: []tls.Certificate{server}, MinVersion: tls.VersionTLS12}}
	go func() { _ = s.ServeTLS(l, "", "") }()
	t.Cleanup(func() { _ = s.Close() })
	return l.Addr().String()
}

// browser is Chromium with scripts off, as seen at the origin.
func (w *world) browser(t *testing.T, address string) *rod.Browser {
	t.Helper()
	bin := testkit.Browser(t)
	l := launcher.New().Bin(bin).Headless(true).NoSandbox(true).Leakless(false).
		Set("disable-gpu").Set("disable-quic").Set("no-first-run").Set("disable-background-networking").Set("disable-component-update").Set("disable-sync").
		Set("ignore-certificate-errors").Set("host-resolver-rules", "MAP localhost:8443 "+address).UserDataDir(t.TempDir())
	u, err := l.Launch()
	require.NoError(t, err)
	b := rod.New().ControlURL(u).Timeout(10 * patience)
	require.NoError(t, b.Connect())
	t.Cleanup(func() {
		_ = b.Close()
		l.Kill()
		l.Cleanup()
	})
	return b
}

// patience is how long a page may take on a machine that has much else to do; a whole
// walk has ten times as long.
const patience = time.Minute

// tab is a page with what tests do in it.
type tab struct {
	*rod.Page
	t *testing.T
}

func open(t *testing.T, b *rod.Browser) tab {
	t.Helper()
	p, err := b.Page(proto.TargetCreateTarget{URL: "about:blank"})
	require.NoError(t, err)
	require.NoError(t, proto.EmulationSetScriptExecutionDisabled{Value: true}.Call(p))
	return tab{p, t}
}

func (p tab) visit(path string) {
	p.t.Helper()
	p.at(origin + path)
}

// at goes to an address of any origin.
func (p tab) at(address string) {
	p.t.Helper()
	page := p.Timeout(patience)
	require.NoError(p.t, page.Navigate(address))
	require.NoError(p.t, page.WaitLoad())
}

// element waits for one. rod's own clicks and inputs wait for animation frames,
// which a page without scripts does not have, so these speak the protocol.
func (p tab) element(selector string) *rod.Element {
	p.t.Helper()
	e, err := p.Timeout(patience).Element(selector)
	require.NoError(p.t, err, "%s on %s", selector, p.path())
	return e
}

func (p tab) fill(name, value string) {
	p.t.Helper()
	e := p.element("#f-" + name)
	require.NoError(p.t, proto.DOMFocus{ObjectID: e.Object.ObjectID}.Call(p))
	require.NoError(p.t, proto.InputDispatchKeyEvent{Type: proto.InputDispatchKeyEventTypeKeyDown, Commands: []string{"selectAll"}}.Call(p))
	require.NoError(p.t, proto.InputInsertText{Text: value}.Call(p))
}

func (p tab) click(selector string) {
	p.t.Helper()
	e := p.element(selector)
	require.NoError(p.t, proto.DOMScrollIntoViewIfNeeded{ObjectID: e.Object.ObjectID}.Call(p))
	shape, err := e.Shape()
	require.NoError(p.t, err)
	at := shape.OnePointInside()
	for _, kind := range []proto.InputDispatchMouseEventType{proto.InputDispatchMouseEventTypeMousePressed, proto.InputDispatchMouseEventTypeMouseReleased} {
		require.NoError(p.t, proto.InputDispatchMouseEvent{Type: kind, X: at.X, Y: at.Y, Button: proto.InputMouseButtonLeft, ClickCount: 1}.Call(p))
	}
}

// press clicks and waits for the page that follows.
func (p tab) press(selector string) {
	p.t.Helper()
	waiting := p.Timeout(patience)
	wait := waiting.WaitEvent(&proto.PageLoadEventFired{})
	p.click(selector)
	wait()
	require.NoError(p.t, waiting.GetContext().Err(), "no page follows on %s", selector)
}

func (p tab) heading() string {
	p.t.Helper()
	e, err := p.Timeout(patience).Element("h1")
	require.NoError(p.t, err)
	s, err := e.Text()
	require.NoError(p.t, err)
	return s
}

func (p tab) text(selector string) string {
	p.t.Helper()
	e, err := p.Timeout(patience).Element(selector)
	require.NoError(p.t, err, "%s", selector)
	s, err := e.Text()
	require.NoError(p.t, err)
	return strings.TrimSpace(s)
}

// shoot keeps a picture of the page, wide and narrow, light and dark, where
// CARESPHERE_SCREENSHOTS names a folder.
func (p tab) shoot(name string) {
	p.t.Helper()
	dir := os.Getenv("CARESPHERE_SCREENSHOTS")
	if dir == "" {
		return
	}
	for _, v := range []struct {
		suffix, scheme string
		width          int
	}{{"", "light", 1100}, {"-phone", "light", 380}, {"-dark", "dark", 1100}} {
		require.NoError(p.t, proto.EmulationSetEmulatedMedia{Features: []*proto.EmulationMediaFeature{{Name: "prefers-color-scheme", Value: v.scheme}}}.Call(p))
		require.NoError(p.t, p.SetViewport(&proto.EmulationSetDeviceMetricsOverride{Width: v.width, Height: 800, DeviceScaleFactor: 1}))
		img, err := p.Screenshot(true, nil)
		require.NoError(p.t, err)
		require.NoError(p.t, os.WriteFile(filepath.Join(dir, name+v.suffix+".png"), img, 0o600))
	}
}

func TestOwnerOnboardsInABrowserWithoutScripts(t *testing.T) {
	t.Parallel()
	w := start(t)
	p := open(t, w.browser(t, w.front(t)))
	p.visit("/")
	p.shoot("01-landing")
	p.press(`a[href="/signup"]`)
	p.shoot("02-signup")

	slug := unique("birch")
	email := slug + "@example.org"
	p.fill("legal_name", "Birch House LLC")
	p.fill("slug", slug)
	p.fill("owner_name", "<script>x")
	p.fill("owner_email", email)
	p.click(`input[name=care_setting][value=residential]`)
	p.press("button.primary")
	assert.Contains(t, p.text("#f-owner_name-error"), "name")
	field, err := p.Element("#f-legal_name")
	require.NoError(t, err)
	kept, err := field.Property("value")
	require.NoError(t, err)
	assert.Equal(t, "Birch House LLC", kept.Str(), "what was typed stays")
	p.shoot("03-signup-wrong")
	p.fill("owner_name", "Noor Haddad")
	p.press("button.primary")
	assert.Equal(t, "Check your mail", p.heading())
	p.shoot("04-mailed")

	p.visit("/dev/outbox?to=" + url.QueryEscape(email))
	p.shoot("05-outbox")
	letter := p.text("article pre")
	flow, code := flowInLetter.FindStringSubmatch(letter), codeInLetter.FindStringSubmatch(letter)
	require.NotNil(t, flow)
	require.NotNil(t, code)
	p.visit("/welcome?flow=" + flow[1])
	p.shoot("06-welcome")
	p.fill("code", "000000")
	p.press("button.primary")
	assert.Contains(t, p.text("#problems"), "not right")
	p.shoot("07-code-wrong")
	p.fill("code", code[1])
	p.press("button.primary")

	assert.Equal(t, "Choose a password", p.heading())
	p.shoot("08-password")
	p.fill("password", "short")
	p.press("button.primary")
	assert.NotEmpty(t, p.text(".error"))
	p.shoot("09-password-wrong")
	p.fill("password", password)
	p.press("button.primary")

	assert.Equal(t, "Connect an authenticator app", p.heading())
	p.click("details summary")
	p.shoot("10-authenticator")
	secret := p.text("code.secret")
	p.fill("totp_code", "12345")
	p.press("button.primary")
	assert.Contains(t, p.text("#f-totp_code-error"), "6 digits")
	once := codeAt(t, secret, 0)
	p.fill("totp_code", once)
	p.press("button.primary")
	assert.Equal(t, "How you sign in", p.heading())
	p.shoot("11-settled")

	p.press(`form input[name=lookup_secret_regenerate] ~ button`)
	assert.NotEmpty(t, p.text(".codes"))
	p.shoot("12-codes")
	p.press(`form input[name=lookup_secret_confirm] ~ button`)
	p.visit("/account")
	assert.Equal(t, "Your account", p.heading())
	p.shoot("13-account")

	p.press("form.leave button")
	assert.Equal(t, "/", p.path())
	p.visit("/account")
	assert.Equal(t, "Sign in", p.heading())
	p.shoot("14-signin")
	p.fill("identifier", email)
	p.fill("password", "not the password at all")
	p.press("button.primary")
	assert.Contains(t, p.text("#problems"), "not right")
	p.shoot("15-signin-wrong")
	p.fill("password", password)
	p.press("button.primary")
	assert.Equal(t, "Enter your code", p.heading())
	p.shoot("16-code")
	p.fill("totp_code", once) // whatever time it is by now
	p.press("button.primary")
	assert.Contains(t, p.text("#f-totp_code-error"), "used already")
	p.shoot("17-code-used")
	p.fill("totp_code", codeAt(t, secret, 1))
	p.press("button.primary")
	p.visit("/account")
	assert.Equal(t, "Your account", p.heading())

	p.visit("/no/such/page")
	p.shoot("18-not-found")
}

func (p tab) path() string {
	info, err := p.Info()
	require.NoError(p.t, err)
	u, err := url.Parse(info.URL)
	require.NoError(p.t, err)
	return u.Path
}
