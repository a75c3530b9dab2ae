package web

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
	"golang.org/x/net/html"

	"github.com/caresphere/caresphere/controlplane/session"
	"github.com/caresphere/caresphere/controlplane/signup"
	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/internal/identity"
	"github.com/caresphere/caresphere/tenants"
)

func render(t *testing.T, name string, p Page) string {
	t.Helper()
	r, err := NewRenderer(session.Customer, []NavItem{{"/account", "Account"}}, true)
	require.NoError(t, err)
	app := httpx.New(httpx.Config{Name: "test"})
	c := app.AcquireCtx(&fasthttp.RequestCtx{})
	defer app.ReleaseCtx(c)
	require.NoError(t, r.Render(c, 200, name, p))
	return string(c.Response().Body())
}

// node walks a page.
func walk(n *html.Node, visit func(*html.Node)) {
	visit(n)
	for k := n.FirstChild; k != nil; k = k.NextSibling {
		walk(k, visit)
	}
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// checkPage holds what every page promises to people with assistive technology
// and to the content security policy.
func checkPage(t *testing.T, page string) {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(page))
	require.NoError(t, err)
	ids, labelled, described, headings := map[string]int{}, map[string]bool{}, []string{}, 0
	var fields []*html.Node
	walk(doc, func(n *html.Node) {
		if n.Type != html.ElementNode {
			return
		}
		if id := attr(n, "id"); id != "" {
			ids[id]++
		}
		for _, a := range n.Attr {
			assert.False(t, a.Key == "style" || strings.HasPrefix(a.Key, "on"), "inline %s", a.Key)
		}
		described = append(described, strings.Fields(attr(n, "aria-describedby"))...)
		switch n.Data {
		case "script", "style":
			t.Errorf("inline %s", n.Data)
		case "h1":
			headings++
		case "label":
			if to := attr(n, "for"); to != "" {
				labelled[to] = true
			}
		case "img":
			has := false
			for _, a := range n.Attr {
				has = has || a.Key == "alt"
			}
			assert.True(t, has, "an image without alt")
		case "input", "select", "textarea":
			if attr(n, "type") != "hidden" {
				fields = append(fields, n)
			}
		}
	})
	assert.Equal(t, 1, headings, "one h1")
	for id, n := range ids {
		assert.Equal(t, 1, n, "the id %s", id)
	}
	for _, id := range described {
		assert.Contains(t, ids, id, "aria-describedby")
	}
	for _, f := range fields {
		inLabel := false
		for p := f.Parent; p != nil; p = p.Parent {
			inLabel = inLabel || p.Data == "label"
		}
		assert.True(t, inLabel || labelled[attr(f, "id")], "%s %s has no label", f.Data, attr(f, "name"))
	}
}

func TestPagesAreAccessible(t *testing.T) {
	nasty := `"><script>alert(1)</script>`
	form := signUpForm(signup.Request{LegalName: nasty, Slug: nasty, OwnerName: nasty, Email: nasty}, "key")
	wrong := tenants.Invalid(signup.FieldLegalName, "must be "+nasty)
	wrong.Fields = append(wrong.Fields, tenants.FieldError{Field: signup.FieldCareSetting, Message: "must be chosen"})
	status, err := form.Fail(wrong)
	require.NoError(t, err)
	require.Equal(t, 422, status)
	flow := identity.Flow{ID: nasty, Nodes: []identity.Node{{Name: "csrf_token", Value: nasty}, {Group: "lookup_secret", Name: "lookup_secret"},
		{Name: "identifier", Value: nasty, Messages: []identity.Message{{Text: nasty, Error: true}}}}}
	login := flowForm(flow, "login", "password", "Go", Field{Name: "identifier", Label: "E-mail"}, Field{Name: "password", Label: "Password", Type: "password", Value: nasty})
	backup := flowForm(flow, "login", "lookup_secret", "Go", Field{Name: "lookup_secret", Label: "Code"})
	cur := session.Current{Session: identity.Session{Name: nasty, Email: nasty, SecondFactor: true, SecondFactorAt: time.Now()}}
	for name, p := range map[string]Page{
		"landing": {Title: nasty}, "signup": {Title: "x", Data: formPage{form}, Steps: Steps(session.SetPassword, true), Notice: &Notice{"error", nasty}},
		"mailed": {Title: "x", Data: mailedPage{nasty}}, "signin": {Title: "x", Data: signInPage{Form: login, Backup: &backup, Again: true}},
		"code": {Title: "x", Data: codePage{Form: login, Sent: true, Resend: "/"}}, "stale": {Title: "x"},
		"setup":   {Title: "x", Session: &cur, Section: "/account", Data: setupPage{Step: session.EnrollTOTP, QR: "javascript:alert(1)", Secret: nasty, Form: login}},
		"account": {Title: "x", Session: &cur, Data: accountPage{}}, "error": {Title: "x", Data: errorPage{Text: nasty, RequestID: nasty}},
		"outbox": {Title: "x", Data: outboxPage{nasty, []letter{{To: nasty, Subject: nasty, Body: nasty}}}},
	} {
		t.Run(name, func(t *testing.T) {
			page := render(t, name, p)
			checkPage(t, page)
			assert.NotContains(t, page, "<script>alert")
			assert.NotContains(t, page, "javascript:alert")
		})
	}
	page := render(t, "signin", Page{Title: "x", Data: signInPage{Form: login}})
	assert.NotContains(t, between(page, `name="password"`, ">"), "value", "a password never comes back")
}

func between(s, from, to string) string {
	_, rest, _ := strings.Cut(s, from)
	out, _, _ := strings.Cut(rest, to)
	return out
}

func TestFailPutsErrorsWhereTheyBelong(t *testing.T) {
	form := signUpForm(signup.Request{}, "key")
	status, err := form.Fail(tenants.NewError(tenants.KindRateLimited, "too many tries"))
	require.NoError(t, err)
	assert.Equal(t, 429, status)
	assert.Equal(t, "Too many tries.", form.Problem)
	_, err = form.Fail(errors.New("the database is on fire"))
	require.Error(t, err, "what is no answer for a client is not shown")
	_, err = form.Fail(fmt.Errorf("wrapped: %w", tenants.NewError(tenants.KindInternal, "x")))
	require.Error(t, err)
}

func TestStepsStandInTheirOrder(t *testing.T) {
	states := func(list []ProgressStep) string {
		var b bytes.Buffer
		for _, s := range list {
			b.WriteString(s.State[:1])
		}
		return b.String()
	}
	assert.Equal(t, "cttttt", states(Steps(session.VerifyEmail, true)))
	assert.Equal(t, "ddcttt", states(Steps(session.EnrollTOTP, true)))
	assert.Equal(t, "dddctt", states(Steps(session.AwaitCountersignature, true)))
	assert.Equal(t, "dddddd", states(Steps(session.Ready, true)))
	assert.Equal(t, "dct", states(Steps(session.SetPassword, false)), "who owns no organization")
}

// The colours of text against their grounds, light and dark (WCAG 2.2, 1.4.3: 4.5 to 1).
func TestTextStandsOut(t *testing.T) {
	css, err := assetFiles.ReadFile("assets/app.css")
	require.NoError(t, err)
	light, rest, _ := strings.Cut(string(css), "@media (prefers-color-scheme: dark)")
	dark, _, _ := strings.Cut(rest, "*, *::before")
	for name, block := range map[string]string{"light": light, "dark": dark} {
		colour := func(v string) [3]float64 {
			var r, g, b int
			hex := between(block, "--"+v+": ", ";")
			_, err := fmt.Sscanf(hex, "#%02x%02x%02x", &r, &g, &b)
			require.NoError(t, err, "%s %s is %q", name, v, hex)
			return [3]float64{float64(r), float64(g), float64(b)}
		}
		for _, pair := range [][2]string{{"ink", "paper"}, {"ink", "card"}, {"soft", "paper"}, {"soft", "card"}, {"accent", "paper"}, {"accent", "card"},
			{"accent", "accent-soft"}, {"accent-ink", "accent"}, {"good", "good-soft"}, {"warn", "warn-soft"}, {"bad", "bad-soft"}, {"bad", "paper"}, {"ink", "bad-soft"}, {"ink", "accent-soft"}} {
			assert.GreaterOrEqual(t, contrast(colour(pair[0]), colour(pair[1])), 4.5, "%s: %s on %s", name, pair[0], pair[1])
		}
	}
}
