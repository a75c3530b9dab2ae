package main

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/tenants"
)

// entries is how many entries of the action and outcome an organization's trail has.
func (w *world) entries(t *testing.T, o *owner, action, outcome string) int {
	t.Helper()
	return w.count(t, `SELECT count(*) FROM audit_entry WHERE action = $1 AND outcome = $2 AND organization_id = $3::uuid
		AND actor_id = (SELECT identity_id FROM account WHERE email = $4)`, action, outcome, o.organization, o.email)
}

// A password alone neither sees nor ends its account's other sessions; with the second
// factor both work, and what was ended is on record.
func TestOtherSessionsNeedTheSecondFactor(t *testing.T) {
	t.Parallel()
	w := start(t)
	o := w.onboarded(t)
	me := o.get("/.ory/sessions/whoami")
	session, _ := me.doc["id"].(string)
	require.NotEmpty(t, session)

	thief := w.person(t)
	require.Equal(t, http.StatusOK, thief.signInPassword(t, o.email, true).status)
	for i, c := range []struct{ method, path, action string }{
		{http.MethodGet, "/.ory/sessions", "session.list"},
		{http.MethodDelete, "/.ory/sessions", "session.end_others"},
		{http.MethodDelete, "/.ory/sessions/" + session, "session.end_other"},
	} {
		r := thief.send(c.method, c.path, "", nil)
		assert.Equal(t, http.StatusForbidden, r.status, "%d: %s", i, r.body)
		assert.Equal(t, "second_factor_required", r.kind())
		assert.Equal(t, 1, w.entries(t, o, c.action, "denied"), c.action)
	}
	assert.Equal(t, http.StatusOK, o.get("/api/v1/me").status, "nobody was put out")
	for _, path := range []string{"/.ory/sessions", "/.ory/sessions/" + session} {
		assert.Equal(t, http.StatusUnauthorized, w.person(t).send(http.MethodDelete, path, "", nil).status, "no session")
	}

	require.Equal(t, http.StatusOK, o.get("/.ory/sessions").status)
	own, _ := thief.get("/.ory/sessions/whoami").doc["id"].(string)
	require.Equal(t, http.StatusNoContent, o.send(http.MethodDelete, "/.ory/sessions/"+own, "", nil).status)
	assert.Equal(t, http.StatusUnauthorized, thief.get("/api/v1/me").status)
	assert.Equal(t, 1, w.count(t, "SELECT count(*) FROM audit_entry WHERE action = 'session.end_other' AND outcome = 'ok' AND detail->>'session' = $1", own))
	require.Equal(t, http.StatusOK, thief.signInPassword(t, o.email, true).status)
	require.Equal(t, http.StatusOK, o.send(http.MethodDelete, "/.ory/sessions", "", nil).status)
	assert.Equal(t, http.StatusUnauthorized, thief.get("/api/v1/me").status)
	assert.Equal(t, 1, w.entries(t, o, "session.end_others", "ok"))
	assert.GreaterOrEqual(t, o.send(http.MethodDelete, "/.ory/sessions/"+session, "", nil).status, 400, "Kratos refuses one's own")
	assert.Equal(t, 2, w.entries(t, o, "session.end_other", "denied"))

	// Without its record the answer is withheld.
	w.exec(t, "REVOKE INSERT ON audit_entry FROM controlplane")
	w.exec(t, "REVOKE INSERT (id) ON audit_entry FROM controlplane")
	assert.Equal(t, http.StatusServiceUnavailable, o.send(http.MethodDelete, "/.ory/sessions/"+tenants.NewID().String(), "", nil).status)
}

// Whoever has no second factor yet may end their sessions with what they have.
func TestOtherSessionsBeforeASecondFactor(t *testing.T) {
	t.Parallel()
	w := start(t)
	o := w.confirmed(t)
	require.Equal(t, http.StatusOK, o.submit("settings", o.flow("settings"), "password", "password", password).status)
	require.Equal(t, http.StatusOK, o.get("/.ory/sessions").status)
	require.Equal(t, http.StatusOK, o.send(http.MethodDelete, "/.ory/sessions", "", nil).status)
	assert.Equal(t, 1, w.entries(t, o, "session.end_others", "ok"))
}
