package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/csv"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-rod/rod/lib/proto"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// relay brings a browser to one of the control plane's listeners, as the router
// does for customers; operators come straight.
func (w *world) relay(t *testing.T, to string, asRouter bool) string {
	t.Helper()
	pair, local := w.ca.Issue(t, "router"), w.ca.Issue(t, "localhost")
	client, err := tls.LoadX509KeyPair(pair.Cert, pair.Key)
	require.NoError(t, err)
	server, err := tls.LoadX509KeyPair(local.Cert, local.Key)
	require.NoError(t, err)
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "https", Host: to})
			r.Out.Host = r.In.Host
			if asRouter {
				r.Out.Header.Set("X-Real-Ip", "203.0.113.9")
			}
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

// as gives the browser the session of a person who is signed in already.
func (p tab) as(o *owner) {
	p.t.Helper()
	for _, c := range o.cookies() {
		_, err := proto.NetworkSetCookie{Name: c.Name, Value: c.Value, URL: o.origin, Secure: true, HTTPOnly: true}.Call(p)
		require.NoError(p.t, err)
	}
}

func TestAgreementInABrowserWithoutScripts(t *testing.T) {
	w := start(t)
	o, operator := w.onboarded(t), w.onDuty(t)
	b := w.browser(t, w.relay(t, w.public, true)+", MAP localhost:8444 "+w.relay(t, w.console, false))
	p := open(t, b)
	p.as(o)

	p.visit("/")
	assert.Equal(t, "/baa", p.path(), "an owner is led to what is next")
	p.shoot("30-baa-none")
	p.press("form.actions button")
	assert.Contains(t, p.text("article.agreement"), "Maple Grove Care "+o.slug)
	p.shoot("31-baa-draft")
	p.fill("name", "Dana\u202eWhitfield")
	p.fill("title", "Executive Director")
	p.fill("authority", "I am its managing member.")
	p.click("#f-consent")
	p.click("#f-intent")
	p.press("#sign button.primary")
	assert.Contains(t, p.text("#f-name-error"), "printable")
	assert.Equal(t, 0, w.count(t, "SELECT count(*) FROM baa WHERE state = 'signed'"))
	p.shoot("32-baa-wrong")
	p.fill("name", "Dana Whitfield")
	p.press("#sign button.primary")
	assert.Contains(t, p.text(".notice"), "You have signed")
	p.shoot("33-baa-signed")
	p.visit("/organization")
	p.shoot("34-organization-pending")

	q := open(t, b)
	q.as(operator)
	q.at(operatorOrigin + "/")
	assert.Equal(t, "Organizations", q.heading())
	q.shoot("40-organizations")
	q.press("tbody a")
	q.shoot("41-fleet-organization")
	q.at(operatorOrigin + "/organizations")
	q.press(`a[href^="/baas/"]`)
	q.shoot("42-countersign")
	q.fill("name", "Riley Stone")
	q.fill("title", "Compliance Officer")
	q.click("#f-consent")
	q.click("#f-intent")
	q.press("#sign button.primary")
	assert.Contains(t, q.path(), "/organizations/")
	assert.Contains(t, q.text("main"), "provisioning")

	// What the provisioner would show while it works.
	_, err := w.super.Exec(context.Background(), `INSERT INTO provisioning_step (organization_id, step, position, state, attempt, reason, started_at, finished_at) VALUES
		($1::uuid, 'billing', 1, 'done', 1, '', now(), now()), ($1::uuid, 'schema', 2, 'done', 2, '', now(), now()),
		($1::uuid, 'encryption_key', 3, 'running', 1, '', now(), NULL), ($1::uuid, 'route', 4, 'waiting', 0, '', NULL, NULL)`, o.organization)
	require.NoError(t, err)
	p.visit("/provisioning")
	assert.Contains(t, p.text(".progress"), "encryption key")
	refresh, err := p.Element(`meta[http-equiv=refresh]`)
	require.NoError(t, err, "the page follows by itself")
	content, err := refresh.Attribute("content")
	require.NoError(t, err)
	assert.Equal(t, "2", *content)
	p.shoot("35-provisioning")
	_, err = w.super.Exec(context.Background(), `UPDATE organization SET state = 'provisioning_failed' WHERE id = $1::uuid`, o.organization)
	require.NoError(t, err)
	_, err = w.super.Exec(context.Background(), `UPDATE provisioning_step SET state = 'failed', reason = 'The key store did not answer.' WHERE step = 'encryption_key'`)
	require.NoError(t, err)
	p.visit("/organization")
	p.shoot("36-provisioning-failed")
	p.press(".progress ~ form button")
	assert.Contains(t, p.text("main"), "provisioning")
	_, err = w.super.Exec(context.Background(), `UPDATE organization SET state = 'live', key_alive = true, gate_mode = 'open', gate_reason = '' WHERE id = $1::uuid`, o.organization)
	require.NoError(t, err)
	p.visit("/organization")
	p.shoot("37-live")

	q.at(operatorOrigin + "/organizations/" + o.organization)
	q.click("details summary")
	q.fill("suspend_reason", "x")
	q.press("details button")
	assert.NotEmpty(t, q.text(".error"))
	q.shoot("43-suspend-wrong")
	q.fill("suspend_reason", "Payment dispute, see ticket 4711")
	q.press("details button")
	assert.Contains(t, q.text("main"), "suspended")
	q.shoot("44-suspended")
	q.at(operatorOrigin + "/organizations?sort=name&dir=asc&search=nobody")
	assert.Contains(t, q.text("main"), "No organization matches")
	q.shoot("45-no-match")

	p.visit("/baa")
	p.shoot("38-executed")
	p.click("details:last-of-type summary")
	p.fill("terminate_reason", "We move to another service")
	p.fill("confirm", "something else")
	p.press("button.danger")
	assert.Contains(t, p.text("#f-confirm-error"), "short name")
	assert.Equal(t, 0, w.count(t, "SELECT count(*) FROM baa WHERE state = 'terminated'"))
	p.fill("confirm", o.slug)
	p.press("button.danger")
	assert.Contains(t, p.text(".notice"), "terminated")
	assert.Equal(t, 1, w.count(t, "SELECT count(*) FROM baa WHERE state = 'terminated'"))
	p.shoot("39-terminated")
}

func TestFleetAsCSV(t *testing.T) {
	w := start(t)
	o, operator := w.onboarded(t), w.onDuty(t)
	_, err := w.super.Exec(context.Background(), `UPDATE organization SET legal_name = '=HYPERLINK("x"), Inc' WHERE id = $1::uuid`, o.organization)
	require.NoError(t, err)
	r := operator.get("/organizations.csv?sort=name&dir=asc")
	require.Equal(t, http.StatusOK, r.status)
	assert.Equal(t, "text/csv; charset=utf-8", r.header.Get("Content-Type"))
	assert.Contains(t, string(r.body), `"'=HYPERLINK(""x""), Inc"`, "a name is no formula")
	assert.Contains(t, string(r.body), o.email)
	assert.NotContains(t, string(operator.get("/organizations.csv?state=live").body), o.email)
	assert.Equal(t, http.StatusNotFound, o.get("/organizations.csv").status, "not on the customers' origin")
	assert.NotEqual(t, http.StatusOK, w.operator(t).get("/organizations.csv").status)

	// The file is whole where the table is cut, sorted all through, and on record.
	w.exec(t, `INSERT INTO organization (id, slug, legal_name, care_setting)
		SELECT gen_random_uuid(), 'many-' || n, 'Many ' || to_char(n, 'FM0000'), 'clinic' FROM generate_series(1, 1203) n`)
	r = operator.get("/organizations.csv?search=many&sort=name&dir=asc")
	require.Equal(t, http.StatusOK, r.status)
	rows, err := csv.NewReader(bytes.NewReader(r.body)).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows, 1204)
	for i, row := range rows[1:] {
		require.Equal(t, fmt.Sprintf("Many %04d", i+1), row[2])
	}
	assert.Equal(t, 1, w.count(t, "SELECT count(*) FROM audit_entry WHERE action = 'organization.export' AND actor_kind = 'operator' AND detail->>'count' = '1203' AND detail->>'search' = 'many'"))
}

// Pages of one organization answer the owner of another as if there was nothing.
func TestPagesStaySeparate(t *testing.T) {
	w := start(t)
	a, b, operator := w.onboarded(t), w.onboarded(t), w.onDuty(t)
	nurse := w.colleague(t, a)
	id := w.executed(t, a, operator)
	for _, path := range []string{"/baa/" + id} {
		assert.Equal(t, http.StatusOK, a.get(path).status)
		assert.Equal(t, http.StatusNotFound, b.get(path).status)
		assert.Equal(t, http.StatusForbidden, nurse.get(path).status)
	}
	end := url.Values{"terminate_reason": {"for the test"}, "confirm": {a.slug}}
	for name, who := range map[string]*owner{"another owner": b, "a member": nurse} {
		end.Set("confirm", who.slug)
		r := who.form("/baa/"+id+"/terminate", end)
		assert.Contains(t, []int{http.StatusNotFound, http.StatusForbidden}, r.status, name)
		r = who.form("/baa/"+id+"/sign", url.Values{"name": {"Some Body"}, "title": {"Owner"}, "authority": {"mine"}, "consent": {"true"}, "intent": {"true"}})
		assert.Contains(t, []int{http.StatusNotFound, http.StatusForbidden}, r.status, name)
	}
	assert.Equal(t, 1, w.count(t, "SELECT count(*) FROM baa WHERE id = $1::uuid AND state = 'executed'", id))
	assert.Equal(t, http.StatusNotFound, a.get("/baa/nonsense").status)
	assert.Equal(t, http.StatusOK, nurse.get("/organization").status)
	assert.NotContains(t, string(b.get("/organization").body), a.slug)

	// Another site's form is refused before any handler.
	r := a.send(http.MethodPost, "/baa/"+id+"/terminate", "application/x-www-form-urlencoded",
		[]byte(url.Values{"terminate_reason": {"forged"}, "confirm": {a.slug}}.Encode()), "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site")
	assert.Equal(t, http.StatusForbidden, r.status)
	end.Set("confirm", a.slug)
	assert.Equal(t, http.StatusSeeOther, a.form("/baa/"+id+"/terminate", end).status)
	assert.False(t, strings.Contains(string(a.get("/baa").body), "<script"), "no script on any page")
}
