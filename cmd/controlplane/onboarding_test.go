package main

import (
	"net/http"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const password = "correct horse battery staple 7"

// owner is somebody who signed up and is as far as the test brought them.
type owner struct {
	*person
	email, slug, organization, secret string
	// enrolled is the code that the authenticator was enrolled with.
	enrolled string
}

func signUpBody(slug, email string) map[string]any {
	return map[string]any{
		"organization": map[string]any{"legal_name": "Maple Grove Care " + slug, "slug": slug, "care_setting": "residential"},
		"owner":        map[string]any{"name": "Dana Whitfield", "email": email},
	}
}

// signedUp is an owner whose letter is in the outbox.
func (w *world) signedUp(t *testing.T) *owner {
	t.Helper()
	o := &owner{person: w.person(t), slug: unique("maple")}
	o.email = o.slug + "@example.org"
	r := o.post("/api/v1/signups", signUpBody(o.slug, o.email), "Idempotency-Key", unique("key"))
	require.Equal(t, http.StatusAccepted, r.status, "%s", r.body)
	o.organization, _ = r.doc["organization_id"].(string)
	return o
}

// confirmed has used the mailed code.
func (w *world) confirmed(t *testing.T) *owner {
	t.Helper()
	o := w.signedUp(t)
	template, flow, code := o.letter(o.email)
	require.Equal(t, "invitation", template)
	r := o.submit("recovery", flowState{id: flow}, "code", "code", code)
	require.Contains(t, []int{http.StatusOK, http.StatusUnprocessableEntity}, r.status, "%s", r.body)
	return o
}

// onboarded has a password, an authenticator and a session with both.
func (w *world) onboarded(t *testing.T) *owner {
	t.Helper()
	o := w.confirmed(t)
	r := o.submit("settings", o.flow("settings"), "password", "password", password)
	require.Equal(t, http.StatusOK, r.status, "%s", r.body)
	o.enrol(t)
	return o
}

func (o *owner) enrol(t *testing.T) {
	t.Helper()
	f := o.flow("settings")
	o.secret = f.node("totp_secret_key", "text")
	require.NotEmpty(t, o.secret)
	o.enrolled = codeAt(t, o.secret, 0)
	r := o.submit("settings", f, "totp", "totp_code", o.enrolled)
	require.Equal(t, http.StatusOK, r.status, "%s", r.body)
}

// codeAt is the authenticator's code of so many periods from now.
func codeAt(t *testing.T, secret string, periods int) string {
	t.Helper()
	code, err := totp.GenerateCode(secret, time.Now().Add(time.Duration(periods)*30*time.Second))
	require.NoError(t, err)
	return code
}

func TestOwnerOnboardsByAPI(t *testing.T) {
	t.Parallel()
	w := start(t)
	o := w.signedUp(t)

	r := o.get("/api/v1/me")
	assert.Equal(t, http.StatusUnauthorized, r.status, "before the code")
	assert.Equal(t, "unauthenticated", r.kind())

	_, flow, code := o.letter(o.email)
	r = o.submit("recovery", flowState{id: flow}, "code", "code", "000000")
	assert.NotEmpty(t, r.body)
	assert.Equal(t, http.StatusUnauthorized, o.get("/api/v1/me").status, "after a wrong code")
	o.submit("recovery", flowState{id: flow}, "code", "code", code)
	r = o.get("/api/v1/me")
	require.Equal(t, http.StatusOK, r.status, "%s", r.body)
	assert.Equal(t, "set_password", r.doc["next"])
	assert.Equal(t, true, r.at("account.email_verified"))
	assert.Equal(t, 1, w.count(t, "SELECT count(*) FROM account WHERE email = $1 AND email_verified_at IS NOT NULL AND ready_at IS NULL", o.email))

	// The order holds on the server: no authenticator before a password.
	f := o.flow("settings")
	r = o.submit("settings", f, "totp", "totp_code", codeAt(t, f.node("totp_secret_key", "text"), 0))
	assert.Equal(t, http.StatusForbidden, r.status)
	assert.Equal(t, "onboarding_required", r.kind())

	r = o.submit("settings", o.flow("settings"), "password", "password", password)
	require.Equal(t, http.StatusOK, r.status, "%s", r.body)
	assert.Equal(t, "enroll_totp", o.get("/api/v1/me").doc["next"])

	o.enrol(t)
	r = o.get("/api/v1/me")
	require.Equal(t, http.StatusOK, r.status, "%s", r.body)
	assert.Equal(t, "sign_baa", r.doc["next"])
	assert.Equal(t, true, r.at("account.second_factor"))
	assert.Equal(t, o.slug, r.at("organization.slug"))
	assert.Equal(t, 1, w.count(t, "SELECT count(*) FROM account WHERE email = $1 AND ready_at IS NOT NULL", o.email))

	for _, action := range []string{"organization.sign_up", "account.recovery", "account.email_verified", "account.password_set", "account.second_factor_enrolled", "account.ready"} {
		assert.Equal(t, 1, w.count(t, "SELECT count(*) FROM audit_entry WHERE action = $1 AND outcome = 'ok' AND organization_id = $2", action, o.organization), action)
	}
}
