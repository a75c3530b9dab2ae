package main

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/evidence"
	"github.com/caresphere/caresphere/internal/identity"
	"github.com/caresphere/caresphere/tenants"
)

// settle goes from a mailed code to a session with password and second factor.
func (o *owner) settle(t *testing.T, flow, code string) {
	t.Helper()
	r := o.submit("recovery", flowState{id: flow}, "code", "code", code)
	require.Contains(t, []int{http.StatusOK, http.StatusUnprocessableEntity}, r.status, "%s", r.body)
	r = o.submit("settings", o.flow("settings"), "password", "password", password)
	require.Equal(t, http.StatusOK, r.status, "%s", r.body)
	o.enrol(t)
}

// colleague is an onboarded member of the organization who is not its owner.
func (w *world) colleague(t *testing.T, of *owner) *owner {
	t.Helper()
	m := &owner{person: w.person(t), email: unique("nurse") + "@example.org", slug: of.slug, organization: of.organization}
	org, err := tenants.ParseID(of.organization)
	require.NoError(t, err)
	_, err = w.plane.members.Invite(context.Background(), org, m.email, "Nia Nurse", "")
	require.NoError(t, err)
	_, flow, code := m.letter(m.email)
	m.settle(t, flow, code)
	return m
}

// onDuty is an onboarded operator.
func (w *world) onDuty(t *testing.T) *owner {
	t.Helper()
	o := &owner{person: w.operator(t), email: unique("riley") + "@example.org"}
	id, _, err := w.plane.operators.ids.CreateIdentity(context.Background(), identity.NewIdentity{Email: o.email, Name: "Riley Stone"})
	require.NoError(t, err)
	code, flow, err := w.plane.operators.ids.RecoveryCode(context.Background(), id, time.Hour)
	require.NoError(t, err)
	o.settle(t, flow, code)
	return o
}

func signBody(sha any) map[string]any {
	return map[string]any{"name": "Dana Whitfield", "title": "Executive Director", "authority": "I am its managing member.",
		"consent": true, "intent": true, "document_sha256": sha}
}

func countersignBody(sha any) map[string]any {
	b := signBody(sha)
	delete(b, "authority")
	return b
}

// executed takes an owner's organization to an agreement in force; it returns its id.
func (w *world) executed(t *testing.T, o, operator *owner) string {
	t.Helper()
	r := o.post("/api/v1/baa", map[string]any{})
	require.Equal(t, http.StatusCreated, r.status, "%s", r.body)
	id, sha := r.doc["id"].(string), r.doc["document_sha256"]
	r = o.post("/api/v1/baas/"+id+"/sign", signBody(sha))
	require.Equal(t, http.StatusOK, r.status, "%s", r.body)
	r = operator.post("/api/v1/baas/"+id+"/countersign", countersignBody(sha))
	require.Equal(t, http.StatusOK, r.status, "%s", r.body)
	require.Equal(t, "executed", r.doc["state"])
	return id
}

// names tells whether a problem names the field: as such, or as a missing property
// of what it stands in.
func (r reply) names(field string) bool {
	parent, name, _ := strings.Cut(field, ".")
	list, _ := r.doc["errors"].([]any)
	for _, e := range list {
		m, _ := e.(map[string]any)
		message, _ := m["message"].(string)
		if m["field"] == field || m["field"] == parent && strings.Contains(message, name) {
			return true
		}
	}
	return false
}

func TestAgreementByAPI(t *testing.T) {
	w := start(t)
	o, operator := w.onboarded(t), w.onDuty(t)

	assert.Equal(t, http.StatusNotFound, o.get("/api/v1/baa").status)
	r := o.post("/api/v1/baa", map[string]any{"term_months": 12}, "Idempotency-Key", "draft-1")
	require.Equal(t, http.StatusCreated, r.status, "%s", r.body)
	id, sha := r.doc["id"].(string), r.doc["document_sha256"]
	assert.Equal(t, "draft", r.doc["state"])
	assert.Equal(t, id, o.post("/api/v1/baa", map[string]any{"term_months": 12}, "Idempotency-Key", "draft-1").doc["id"])
	assert.Equal(t, "idempotency_mismatch", o.post("/api/v1/baa", map[string]any{"term_months": 24}, "Idempotency-Key", "draft-1").kind())

	doc := o.get("/api/v1/baas/" + id + "/document")
	assert.Equal(t, http.StatusOK, doc.status)
	assert.Equal(t, "text/html; charset=utf-8", doc.header.Get("Content-Type"))
	assert.Contains(t, string(doc.body), "Maple Grove Care "+o.slug)
	assert.Contains(t, string(doc.body), sha)
	assert.Equal(t, http.StatusNotFound, o.get("/api/v1/baas/"+id+"/pdf").status)

	r = o.post("/api/v1/baas/"+id+"/sign", signBody(sha))
	require.Equal(t, http.StatusOK, r.status, "%s", r.body)
	assert.Equal(t, "signed", r.doc["state"])
	assert.Equal(t, o.email, r.at("customer.email"))
	assert.Equal(t, "await_countersignature", o.get("/api/v1/me").doc["next"])
	assert.Equal(t, "conflict", o.post("/api/v1/baas/"+id+"/sign", signBody(sha)).kind(), "once")

	r = operator.post("/api/v1/baas/"+id+"/countersign", countersignBody(strings.Repeat("0", 64)))
	assert.Equal(t, "conflict", r.kind(), "another text than the one that was read")
	r = operator.post("/api/v1/baas/"+id+"/countersign", countersignBody(sha))
	require.Equal(t, http.StatusOK, r.status, "%s", r.body)
	assert.Equal(t, "executed", r.doc["state"])
	assert.Equal(t, "provisioning", o.get("/api/v1/me").doc["next"])
	assert.Equal(t, "provisioning", o.get("/api/v1/organization").doc["state"])
	p := o.get("/api/v1/organization/provisioning")
	assert.Equal(t, http.StatusOK, p.status)
	assert.Equal(t, "provisioning", p.doc["state"])
	assert.Equal(t, "conflict", o.send(http.MethodPost, "/api/v1/organization/provisioning/retry", "", nil).kind(), "nothing failed")

	pdf := o.get("/api/v1/baas/" + id + "/pdf")
	assert.Equal(t, "application/pdf", pdf.header.Get("Content-Type"))
	assert.Contains(t, pdf.header.Get("Content-Disposition"), "baa-"+id+".pdf")
	bundle := o.get("/api/v1/baas/" + id + "/bundle")
	require.Equal(t, http.StatusOK, bundle.status)
	_, pin, err := evidence.ParseKey(w.plane.agreements.Verifier)
	require.NoError(t, err)
	report := evidence.Verify(bundle.body, pin)
	require.True(t, report.OK, "%v", report.Problems)
	assert.Equal(t, o.email, report.Customer.Signer.Email)
	assert.Contains(t, report.Customer.Authentication.Methods, "totp")
	assert.Equal(t, "203.0.113.7", report.Customer.IP, "the client's address, as the router saw it")
	assert.Equal(t, operator.email, report.Operator.Signer.Email)
	bundle.body[len(bundle.body)/2] ^= 1
	assert.False(t, evidence.Verify(bundle.body, pin).OK)

	r = operator.get("/api/v1/organizations/" + o.organization)
	require.Equal(t, http.StatusOK, r.status, "%s", r.body)
	assert.Equal(t, o.email, r.doc["owner_email"])
	assert.Len(t, r.doc["agreements"], 1)
	r = operator.get("/api/v1/organizations?state=provisioning&search=" + o.slug)
	assert.Len(t, r.doc["items"], 1)
	assert.Empty(t, operator.get("/api/v1/organizations?state=live").doc["items"])

	// What provisioning would have done, so that operators have something to move.
	_, err = w.super.Exec(context.Background(), "UPDATE organization SET state = 'live', key_alive = true WHERE id = $1::uuid", o.organization)
	require.NoError(t, err)
	for _, m := range []struct{ path, want string }{{"read-only", "read_only"}, {"suspend", "suspended"}, {"resume", "live"}} {
		r = operator.post("/api/v1/organizations/"+o.organization+"/"+m.path, map[string]any{"reason": "for the test"})
		require.Equal(t, http.StatusOK, r.status, "%s", r.body)
		assert.Equal(t, m.want, r.doc["state"])
	}
	r = o.post("/api/v1/baas/"+id+"/terminate", map[string]any{"reason": "we move on"})
	require.Equal(t, http.StatusOK, r.status, "%s", r.body)
	assert.Equal(t, "terminated", r.doc["state"])
	assert.Equal(t, "closed", o.get("/api/v1/organization").at("gate.mode"))
	assert.Len(t, o.get("/api/v1/baas").doc["items"], 1)
}

// Every route, called by everybody who may not, and by somebody who may.
func TestAgreementsAndOrganizationsStaySeparate(t *testing.T) {
	w := start(t)
	a, b, operator := w.onboarded(t), w.onboarded(t), w.onDuty(t)
	nurse := w.colleague(t, a)
	id := w.executed(t, a, operator)
	w.executed(t, b, operator)
	half := w.confirmed(t)
	stranger, strangerAtConsole := w.person(t), w.operator(t)

	type call struct {
		method, path string
		body         map[string]any
		// others is what the owner of another organization gets; member what a member gets who is no owner.
		others, member, allowed int
	}
	reason := map[string]any{"reason": "for the test"}
	calls := []call{
		{"GET", "/api/v1/organization", nil, 200, 200, 200},
		{"GET", "/api/v1/organization/provisioning", nil, 200, 200, 200},
		{"POST", "/api/v1/organization/provisioning/retry", nil, 409, 403, 409},
		{"GET", "/api/v1/baa", nil, 200, 403, 200},
		{"GET", "/api/v1/baas", nil, 200, 403, 200},
		{"POST", "/api/v1/baa", map[string]any{}, 201, 403, 201},
		{"GET", "/api/v1/baas/" + id, nil, 404, 403, 200},
		{"GET", "/api/v1/baas/" + id + "/document", nil, 404, 403, 200},
		{"GET", "/api/v1/baas/" + id + "/pdf", nil, 404, 403, 200},
		{"GET", "/api/v1/baas/" + id + "/bundle", nil, 404, 403, 200},
		{"POST", "/api/v1/baas/" + id + "/sign", signBody(""), 404, 403, 409},
		{"POST", "/api/v1/baas/" + id + "/terminate", reason, 404, 403, 200},
	}
	send := func(p *person, c call) reply {
		if c.body == nil {
			return p.send(c.method, c.path, "", nil)
		}
		return p.post(c.path, c.body)
	}
	for _, c := range calls {
		t.Run(c.method+" "+strings.ReplaceAll(c.path, id, "{id}"), func(t *testing.T) {
			if !strings.HasPrefix(c.path, "/api/v1/organization") { // /organization of another is one's own
				other := send(b.person, c)
				assert.Equal(t, c.others, other.status, "another owner: %s", other.body)
				assert.NotContains(t, string(other.body), a.slug)
			} else {
				assert.NotContains(t, string(send(b.person, c).body), a.slug)
			}
			assert.Equal(t, c.member, send(nurse.person, c).status, "a member")
			assert.Equal(t, http.StatusUnauthorized, send(stranger, c).status, "nobody")
			assert.Equal(t, http.StatusForbidden, send(half.person, c).status, "half onboarded")
			assert.Equal(t, c.allowed, send(a.person, c).status, "the owner")
		})
	}
	operatorCalls := []call{
		{"GET", "/api/v1/organizations", nil, 0, 0, 200},
		{"GET", "/api/v1/organizations/" + a.organization, nil, 0, 0, 200},
		{"POST", "/api/v1/organizations/" + a.organization + "/suspend", reason, 0, 0, 409},
		{"POST", "/api/v1/organizations/" + a.organization + "/resume", reason, 0, 0, 409},
		{"POST", "/api/v1/organizations/" + a.organization + "/read-only", reason, 0, 0, 409},
		{"POST", "/api/v1/organizations/" + a.organization + "/provisioning/retry", nil, 0, 0, 409},
		{"GET", "/api/v1/baas/" + id, nil, 0, 0, 200},
		{"GET", "/api/v1/baas/" + id + "/bundle", nil, 0, 0, 200},
		{"POST", "/api/v1/baas/" + id + "/countersign", countersignBody(strings.Repeat("0", 64)), 0, 0, 409},
		{"POST", "/api/v1/baas/" + id + "/terminate", reason, 0, 0, 409},
	}
	for _, c := range operatorCalls {
		t.Run("operators: "+c.method+" "+strings.NewReplacer(id, "{id}", a.organization, "{organization}").Replace(c.path), func(t *testing.T) {
			assert.Equal(t, http.StatusUnauthorized, send(strangerAtConsole, c).status, "nobody")
			assert.Equal(t, c.allowed, send(operator.person, c).status, "an operator")
			if strings.Contains(c.path, "/organizations") || strings.HasSuffix(c.path, "countersign") {
				assert.Equal(t, http.StatusNotFound, send(a.person, c).status, "the operators' API is not on the customers' origin")
			}
		})
	}
}

// Bad input names the field, says nothing of the value, and changes nothing.
func TestBadInputToAgreementsAndFleet(t *testing.T) {
	w := start(t)
	o, operator := w.onboarded(t), w.onDuty(t)
	r := o.post("/api/v1/baa", map[string]any{})
	id, sha := r.doc["id"].(string), r.doc["document_sha256"].(string)
	sign, counter := "/api/v1/baas/"+id+"/sign", "/api/v1/baas/"+id+"/countersign"
	suspend := "/api/v1/organizations/" + o.organization + "/suspend"
	with := func(base map[string]any, field string, v any) string {
		m := map[string]any{}
		for k, x := range base {
			m[k] = x
		}
		if v == nil {
			delete(m, field)
		} else {
			m[field] = v
		}
		doc, err := json.Marshal(m)
		require.NoError(t, err)
		return string(doc)
	}
	before := w.count(t, "SELECT count(*) FROM audit_entry WHERE outcome = 'ok'")
	for _, c := range []struct {
		who               *person
		path, body, field string
		status            int
	}{
		{o.person, sign, with(signBody(sha), "name", nil), "body.name", 422},
		{o.person, sign, with(signBody(sha), "name", ""), "body.name", 422},
		{o.person, sign, with(signBody(sha), "name", 7), "body.name", 422},
		{o.person, sign, with(signBody(sha), "name", strings.Repeat("x", 201)), "body.name", 422},
		{o.person, sign, with(signBody(sha), "name", "a\nb"), "body.name", 422},
		{o.person, sign, with(signBody(sha), "title", nil), "body.title", 422},
		{o.person, sign, with(signBody(sha), "authority", nil), "body.authority", 422},
		{o.person, sign, with(signBody(sha), "consent", false), "body.consent", 422},
		{o.person, sign, with(signBody(sha), "consent", "yes"), "body.consent", 422},
		{o.person, sign, with(signBody(sha), "intent", nil), "body.intent", 422},
		{o.person, sign, with(signBody(sha), "secret", "x"), "body.secret", 422},
		{o.person, sign, `{"name":"` + "\xff" + `"}`, "", 400},
		{o.person, sign, `{`, "", 400},
		{o.person, sign, with(signBody(sha), "name", strings.Repeat("x", 20<<10)), "", 413},
		{o.person, "/api/v1/baas/x/sign", with(signBody(sha), "", nil), "path.id", 422},
		{o.person, "/api/v1/baas/" + strings.ToUpper(id) + "/sign", with(signBody(sha), "", nil), "path.id", 422},
		{o.person, sign + "?x=1", with(signBody(sha), "", nil), "query.x", 422},
		{o.person, "/api/v1/baa", `{"term_months":0}`, "body.term_months", 422},
		{o.person, "/api/v1/baa", `{"term_months":121}`, "body.term_months", 422},
		{o.person, "/api/v1/baa", `{"term_months":1.5}`, "body.term_months", 422},
		{o.person, "/api/v1/baa", `{"template":"v0"}`, "body.template", 422},
		{o.person, "/api/v1/baas/" + id + "/terminate", `{}`, "body.reason", 422},
		{o.person, "/api/v1/baas/" + id + "/terminate", `{"reason":" "}`, "body.reason", 422},
		{operator.person, counter, with(countersignBody(sha), "document_sha256", nil), "body.document_sha256", 422},
		{operator.person, counter, with(countersignBody(sha), "authority", "x"), "body.authority", 422},
		{operator.person, counter, with(countersignBody(sha), "name", ""), "body.name", 422},
		{operator.person, suspend, `{}`, "body.reason", 422},
		{operator.person, suspend, `{"reason":"ab"}`, "body.reason", 422},
		{operator.person, suspend, `{"reason":"abc","until":1}`, "body.until", 422},
		{operator.person, "/api/v1/organizations/x/suspend", `{"reason":"abc"}`, "path.id", 422},
	} {
		got := c.who.send(http.MethodPost, c.path, "application/json", []byte(c.body))
		assert.Equal(t, c.status, got.status, "%s %.80s: %s", c.path, c.body, got.body)
		if c.field != "" {
			assert.True(t, got.names(c.field), "%s %.80s: %s", c.path, c.body, got.body)
		}
	}
	for _, c := range []struct{ query, field string }{
		{"limit=0", "query.limit"}, {"limit=501", "query.limit"}, {"limit=x", "query.limit"}, {"state=nice", "query.state"},
		{"before=x", "query.before"}, {"search=" + strings.Repeat("x", 101), "query.search"}, {"order=x", "query.order"},
	} {
		got := operator.get("/api/v1/organizations?" + c.query)
		assert.Equal(t, http.StatusUnprocessableEntity, got.status, "%s: %s", c.query, got.body)
		assert.True(t, got.names(c.field), "%s", got.body)
	}
	assert.Equal(t, http.StatusUnsupportedMediaType, o.send(http.MethodPost, sign, "text/plain", []byte("x")).status)
	assert.Equal(t, before, w.count(t, "SELECT count(*) FROM audit_entry WHERE outcome = 'ok'"))
	assert.Equal(t, 1, w.count(t, "SELECT count(*) FROM baa WHERE state = 'draft'"))
}
