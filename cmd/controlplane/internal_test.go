package main

import (
	"context"
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/identity"
)

func TestMemberIsInvitedForTheDataPlane(t *testing.T) {
	t.Parallel()
	w := start(t)
	o := w.onboarded(t)
	worker := w.process(t, "dataplane")
	email := unique("nurse") + "@example.org"
	body := map[string]any{"organization_id": o.organization, "email": email, "name": "Nia Nurse"}
	r := worker.post("/internal/v1/invitations", body)
	require.Equal(t, http.StatusOK, r.status, "%s", r.body)
	id := r.doc["identity_id"]

	again := worker.post("/internal/v1/invitations", body)
	assert.Equal(t, http.StatusOK, again.status)
	assert.Equal(t, id, again.doc["identity_id"], "again, as before it was used")

	nurse := &owner{person: w.person(t), email: email}
	template, flow, code := nurse.letter(email)
	assert.Equal(t, "member_invitation", template)
	nurse.submit("recovery", flowState{id: flow}, "code", "code", code)
	require.Equal(t, http.StatusOK, nurse.submit("settings", nurse.flow("settings"), "password", "password", password).status)
	nurse.enrol(t)
	me := nurse.get("/api/v1/me")
	require.Equal(t, http.StatusOK, me.status, "%s", me.body)
	assert.Equal(t, o.organization, me.at("organization.id"))
	assert.Equal(t, false, me.at("account.owner"))
	assert.Equal(t, "await_countersignature", me.doc["next"], "the agreement is the owner's affair")

	letters := w.count(t, "SELECT count(*) FROM mail WHERE recipient = $1", email)
	assert.Equal(t, http.StatusOK, worker.post("/internal/v1/invitations", body).status)
	assert.Equal(t, letters, w.count(t, "SELECT count(*) FROM mail WHERE recipient = $1", email), "no letter to who is there already")

	other := w.confirmed(t)
	before := w.rows(t)
	for name, c := range map[string]struct {
		body   map[string]any
		status int
		field  string
	}{
		"another organization's": {map[string]any{"organization_id": o.organization, "email": other.email, "name": "Nia Nurse"}, 409, "body.email"},
		"no organization":        {map[string]any{"organization_id": "01920000-0000-7000-8000-000000000000", "email": unique("x") + "@example.org", "name": "Nia Nurse"}, 404, ""},
		"bad address":            {map[string]any{"organization_id": o.organization, "email": "nia", "name": "Nia Nurse"}, 422, "body.email"},
		"bad name":               {map[string]any{"organization_id": o.organization, "email": unique("x") + "@example.org", "name": "http://x.example"}, 422, "body.name"},
		"bad id":                 {map[string]any{"organization_id": "x", "email": unique("x") + "@example.org", "name": "Nia"}, 422, "body.organization_id"},
		"unknown field":          {map[string]any{"organization_id": o.organization, "email": unique("x") + "@example.org", "name": "Nia", "role": "owner"}, 422, "body.role"},
	} {
		r := worker.post("/internal/v1/invitations", c.body)
		assert.Equal(t, c.status, r.status, "%s: %s", name, r.body)
		if c.field != "" {
			assert.Contains(t, r.fields(), c.field, name)
		}
	}
	assert.Equal(t, before, w.rows(t))
}

func TestInternalOperationsAreForThePlatformAlone(t *testing.T) {
	t.Parallel()
	w := start(t)
	for _, c := range []struct {
		method, path, who, contentType, body string
		status                               int
	}{
		{"POST", "/internal/v1/invitations", "provisioner", "application/json", "{}", 403},
		{"POST", "/internal/v1/sessions/01920000-0000-7000-8000-000000000000/extend", "router", "", "", 403},
		{"DELETE", "/internal/v1/sessions/01920000-0000-7000-8000-000000000000", "router", "", "", 403},
		{"PUT", "/internal/v1/accounts/01920000-0000-7000-8000-000000000000/standing", "provisioner", "application/json", "{}", 403},
		{"PUT", "/internal/v1/workers/a", "router", "application/json", "{}", 403},
		{"DELETE", "/internal/v1/workers/a", "provisioner", "", "", 403},
		{"GET", "/internal/readyz", "router", "", "", 503},
	} {
		r := w.process(t, c.who).send(c.method, c.path, c.contentType, []byte(c.body))
		assert.Equal(t, c.status, r.status, "%s %s as %s: %s", c.method, c.path, c.who, r.body)
		// The same, brought by the router from outside.
		outside := w.person(t).send(c.method, c.path, "", nil)
		assert.Equal(t, http.StatusNotFound, outside.status, "%s %s from outside", c.method, c.path)
	}
}

func TestNobodyWithoutACertificateIsHeard(t *testing.T) {
	t.Parallel()
	w := start(t)
	p := w.person(t)
	p.http.Transport = &http.Transport{TLSClientConfig: w.customers.TLS(t)}
	_, err := p.http.Get("https://" + w.public + "/")
	require.Error(t, err)
	stranger := w.process(t, "somebody")
	_, err = stranger.http.Get(origin + "/")
	require.Error(t, err, "a certificate of ours with another name")
}

func TestReadinessFollowsTheProvisioner(t *testing.T) {
	t.Parallel()
	w := start(t)
	router := w.process(t, "router")
	assert.Equal(t, http.StatusServiceUnavailable, router.get("/internal/readyz").status, "never seen")
	w.exec(t, "INSERT INTO heartbeat (name, at) VALUES ('provisioner', now())")
	r := router.get("/internal/readyz")
	assert.Equal(t, http.StatusOK, r.status, "%s", r.body)
	w.exec(t, "UPDATE heartbeat SET at = now() - interval '1 minute'")
	assert.Equal(t, http.StatusServiceUnavailable, router.get("/internal/readyz").status, "silent")
}

// Kratos is not there: nothing is written, nobody is signed out, nothing is said of why.
func TestKratosAway(t *testing.T) {
	t.Parallel()
	w := startWith(t, func(s *settings) {
		s.KratosPublicURL, s.KratosAdminURL = "https://localhost:1", "https://localhost:1"
	})
	p := w.person(t)
	before := w.rows(t)
	r := p.post("/api/v1/signups", signUpBody(unique("down"), unique("down")+"@example.org"))
	assert.Equal(t, http.StatusServiceUnavailable, r.status)
	assert.NotEmpty(t, r.header.Get("Retry-After"))
	assert.Equal(t, before, w.rows(t))
	p.token = "ory_st_whatever"
	r = p.get("/api/v1/me")
	assert.Equal(t, http.StatusServiceUnavailable, r.status, "not 401: the session may be good")
	assert.NotContains(t, string(r.body), "localhost:1")
	assert.NotContains(t, string(r.body), "dial")
	p.token, p.accept = "", "text/html"
	r = p.get("/.ory/self-service/login/browser")
	assert.Equal(t, http.StatusServiceUnavailable, r.status)
	assert.Contains(t, string(r.body), "<h1>")
}

func TestKratosLettersAreOurs(t *testing.T) {
	t.Parallel()
	w := start(t)
	p := w.personAt(t, "https://localhost", w.health, "router")
	letter := map[string]any{"to": "dana@example.org", "template": "recovery_code_valid", "subject": "Kratos' own", "body": "Kratos' words", "code": "123456"}
	path := "/internal/v1/kratos-mail?realm=customers"
	assert.Equal(t, http.StatusForbidden, p.post(path, letter).status, "without the key")
	assert.Equal(t, http.StatusForbidden, p.post(path, letter, "X-Courier-Key", "another").status)
	assert.Equal(t, 0, w.count(t, "SELECT count(*) FROM mail"))
	require.Equal(t, http.StatusNoContent, p.post(path, letter, "X-Courier-Key", "courier-key-of-the-test").status)
	template, _, code := w.person(t).letter("dana@example.org")
	assert.Equal(t, "recovery", template)
	assert.Equal(t, "123456", code)
	assert.Equal(t, 0, w.count(t, "SELECT count(*) FROM mail WHERE body LIKE '%Kratos%'"))
	for name, change := range map[string]map[string]any{
		"no address": {"to": "x"}, "no code": {"code": ""}, "a long code": {"code": "12345678901234567"},
	} {
		bad := map[string]any{}
		for k, v := range letter {
			bad[k] = v
		}
		for k, v := range change {
			bad[k] = v
		}
		assert.Equal(t, http.StatusUnprocessableEntity, p.post(path, bad, "X-Courier-Key", "courier-key-of-the-test").status, name)
	}
	letter["template"] = "recovery_code_invalid"
	assert.Equal(t, http.StatusNoContent, p.post(path, letter, "X-Courier-Key", "courier-key-of-the-test").status, "taken and dropped")
	assert.Equal(t, 1, w.count(t, "SELECT count(*) FROM mail"))
}

func TestRealmsAreApart(t *testing.T) {
	t.Parallel()
	w := start(t)
	customer := w.onboarded(t)
	ctx := context.Background()
	email := unique("ops") + "@caresphere.example"
	id, _, err := w.plane.operators.ids.CreateIdentity(ctx, identity.NewIdentity{Email: email, Name: "Riley Operator"})
	require.NoError(t, err)
	code, flow, err := w.plane.operators.ids.RecoveryCode(ctx, id, 600e9)
	require.NoError(t, err)
	op := &owner{person: w.operator(t), email: email}
	assert.Equal(t, http.StatusUnauthorized, op.get("/api/v1/organizations").status)
	op.submit("recovery", flowState{id: flow}, "code", "code", code)
	r := op.get("/api/v1/me")
	require.Equal(t, http.StatusOK, r.status, "%s", r.body)
	assert.Equal(t, "set_password", r.doc["next"])
	r = op.get("/api/v1/organizations")
	assert.Equal(t, http.StatusForbidden, r.status)
	assert.Equal(t, "onboarding_required", r.kind())
	require.Equal(t, http.StatusOK, op.submit("settings", op.flow("settings"), "password", "password", password).status)
	op.enrol(t)
	assert.Equal(t, "ready", op.get("/api/v1/me").doc["next"])
	assert.Equal(t, http.StatusOK, op.get("/api/v1/organizations").status)
	assert.GreaterOrEqual(t, w.count(t, "SELECT count(*) FROM audit_entry WHERE actor_kind = 'operator' AND action = 'account.second_factor_enrolled' AND outcome = 'ok'"), 1)

	// Neither realm's session is one in the other.
	native := w.person(t)
	require.Equal(t, http.StatusOK, native.signInPassword(t, customer.email, true).status)
	require.Equal(t, http.StatusOK, native.secondFactor("totp", "totp_code", codeAt(t, customer.secret, 1)).status)
	across := w.operator(t)
	across.token = native.token
	assert.Equal(t, http.StatusUnauthorized, across.get("/api/v1/organizations").status)
	nativeOp := w.operator(t)
	require.Equal(t, http.StatusOK, nativeOp.signInPassword(t, email, true).status)
	require.Equal(t, http.StatusOK, nativeOp.secondFactor("totp", "totp_code", codeAt(t, op.secret, 1)).status)
	assert.Equal(t, http.StatusOK, nativeOp.get("/api/v1/organizations").status)
	back := w.person(t)
	back.token = nativeOp.token
	assert.Equal(t, http.StatusUnauthorized, back.get("/api/v1/me").status)
	assert.Equal(t, http.StatusNotFound, native.get("/api/v1/organizations").status, "operators' operations are not on the customers' origin")
}

func TestDisabledAccountIsRefused(t *testing.T) {
	t.Parallel()
	w := start(t)
	o := w.onboarded(t)
	w.exec(t, "UPDATE account SET disabled_at = now() WHERE email = $1", o.email)
	assert.Equal(t, http.StatusUnauthorized, o.get("/api/v1/me").status)
	w.exec(t, "UPDATE account SET disabled_at = NULL WHERE email = $1", o.email)
	assert.Equal(t, http.StatusOK, o.get("/api/v1/me").status)
	// Whoever moved an account to another organization does not move its sessions.
	other := w.signedUp(t)
	w.exec(t, "UPDATE account SET organization_id = $1 WHERE email = $2", other.organization, o.email)
	assert.Equal(t, http.StatusUnauthorized, o.get("/api/v1/me").status)
}

func TestOutboxIsForLocalStacks(t *testing.T) {
	t.Parallel()
	smtp := "smtp://127.0.0.1:1?from=a@example.org"
	good := settings{PublicOrigin: origin, OperatorOrigin: operatorOrigin, Mail: "outbox", Dev: true, IPLimitFactor: 1}
	require.NoError(t, good.check())
	for name, change := range map[string]func(*settings){
		"not on localhost":         func(s *settings) { s.PublicOrigin = "https://care.example.org" },
		"operators not localhost":  func(s *settings) { s.OperatorOrigin = "https://ops.example.org" },
		"outbox in earnest":        func(s *settings) { s.Dev = false },
		"one origin for both":      func(s *settings) { s.OperatorOrigin = s.PublicOrigin },
		"origin with a path":       func(s *settings) { s.PublicOrigin = origin + "/" },
		"origin without TLS":       func(s *settings) { s.PublicOrigin = "http://localhost:8443" },
		"a name that begins alike": func(s *settings) { s.PublicOrigin = "https://localhost.example.org" },
		"no limit by address":      func(s *settings) { s.IPLimitFactor = 0 },
	} {
		s := good
		change(&s)
		assert.Error(t, s.check(), name)
	}
	w := startWith(t, func(s *settings) { s.Dev, s.Mail = false, smtp })
	assert.Equal(t, http.StatusNotFound, w.person(t).get("/dev/outbox").status)
}

func TestPasswordIsRecoveredWithTheSecondFactor(t *testing.T) {
	t.Parallel()
	w := start(t)
	o := w.onboarded(t)
	p := w.person(t)
	f := readFlowState(p.get("/.ory/self-service/recovery/browser"))
	before := len(w.customers.AwaitMail(t, o.email, 0))
	require.Equal(t, http.StatusOK, p.submit("recovery", f, "code", "email", o.email).status)
	mail := w.customers.AwaitMail(t, o.email, before+1)[before]
	p.submit("recovery", f, "code", "code", mail.Code)
	r := p.get("/api/v1/me")
	assert.Equal(t, "second_factor_required", r.kind(), "the mailbox alone opens nothing")
	r = p.get("/.ory/self-service/settings/browser")
	assert.Equal(t, http.StatusForbidden, r.status, "nor changes the password")
	require.Equal(t, http.StatusOK, p.secondFactor("totp", "totp_code", codeAt(t, o.secret, 1)).status)
	require.Equal(t, http.StatusOK, p.submit("settings", p.flow("settings"), "password", "password", password+" and new").status)
	assert.Equal(t, http.StatusOK, p.get("/api/v1/me").status)
}

func TestPagesHaveNoScripts(t *testing.T) {
	t.Parallel()
	w := start(t)
	o := w.onboarded(t)
	o.accept = "text/html"
	for _, path := range []string{"/", "/account", "/organization", "/baa", "/signup", "/error?id=x", "/no/such", "/welcome?flow=" + url.QueryEscape("<script>")} {
		r := o.get(path)
		assert.NotContains(t, string(r.body), "<script", path)
		assert.NotContains(t, string(r.body), "style=", path)
		assert.NotContains(t, string(r.body), "onclick", path)
		if r.status == http.StatusOK {
			assert.Contains(t, r.header.Get("Content-Security-Policy"), "script-src 'self'", path)
		}
	}
}
