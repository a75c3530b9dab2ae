package main

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// stand says as a data-plane worker what somebody is in an organization.
func (w *world) stand(t *testing.T, organization, identity, role, status string, version int) reply {
	t.Helper()
	b, err := json.Marshal(map[string]any{"organization_id": organization, "role": role, "status": status, "version": version})
	require.NoError(t, err)
	return w.process(t, "dataplane").send(http.MethodPut, "/internal/v1/accounts/"+identity+"/standing", "application/json", b)
}

func (o *owner) identity(t *testing.T) string {
	t.Helper()
	r := o.get("/api/v1/me")
	require.Equal(t, http.StatusOK, r.status, "%s", r.body)
	id, _ := r.at("account.id").(string)
	return id
}

// acts is how often the trail says this of the person.
func (w *world) acts(t *testing.T, action, identity string) int {
	t.Helper()
	return w.count(t, "SELECT count(*) FROM audit_entry WHERE action = $1 AND record_id = $2 AND actor_kind = 'system' AND outcome = 'ok'", action, identity)
}

func TestTheDataPlaneSaysWhoIsOwnerAndWhoIsDisabled(t *testing.T) {
	t.Parallel()
	w := start(t)
	first := w.onboarded(t)
	second := w.colleague(t, first)
	one, two := first.identity(t), second.identity(t)
	require.Equal(t, true, first.get("/api/v1/me").at("account.owner"))
	require.Equal(t, false, second.get("/api/v1/me").at("account.owner"))

	// Nothing changes by what was so before.
	require.Equal(t, http.StatusNoContent, w.stand(t, first.organization, one, "owner", "active", 1).status)
	for _, action := range []string{"account.owner.granted", "account.owner.withdrawn", "account.disabled", "account.enabled"} {
		assert.Zero(t, w.acts(t, action, one), action)
	}

	require.Equal(t, http.StatusNoContent, w.stand(t, first.organization, two, "owner", "active", 2).status)
	assert.Equal(t, true, second.get("/api/v1/me").at("account.owner"))
	assert.Equal(t, 1, w.acts(t, "account.owner.granted", two))
	require.Equal(t, http.StatusNoContent, w.stand(t, first.organization, one, "auditor", "active", 3).status)
	assert.Equal(t, false, first.get("/api/v1/me").at("account.owner"))
	assert.Equal(t, 1, w.acts(t, "account.owner.withdrawn", one))

	// Who is owner now signs; who was may not.
	assert.Equal(t, http.StatusForbidden, first.post("/api/v1/baa", map[string]any{}, "Idempotency-Key", "first").status)
	r := second.post("/api/v1/baa", map[string]any{}, "Idempotency-Key", "second")
	require.Equal(t, http.StatusCreated, r.status, "%s", r.body)
	id, _ := r.doc["id"].(string)
	sha, _ := r.doc["document_sha256"].(string)
	assert.Equal(t, http.StatusForbidden, first.post("/api/v1/baas/"+id+"/sign", signBody(sha)).status)
	assert.Equal(t, http.StatusOK, second.post("/api/v1/baas/"+id+"/sign", signBody(sha)).status)

	// What is older than what is known, and what another organization says, change nothing.
	other := w.signedUp(t)
	before := w.count(t, "SELECT count(*) FROM audit_entry WHERE action LIKE 'account.owner.%' OR action IN ('account.disabled', 'account.enabled')")
	assert.Equal(t, http.StatusNoContent, w.stand(t, first.organization, one, "owner", "disabled", 2).status)
	assert.Equal(t, false, first.get("/api/v1/me").at("account.owner"))
	assert.Equal(t, http.StatusNotFound, w.stand(t, other.organization, one, "owner", "disabled", 9).status)
	assert.Equal(t, http.StatusNotFound, w.stand(t, first.organization, "01920000-0000-7000-8000-000000000000", "owner", "active", 9).status)
	assert.Equal(t, http.StatusUnprocessableEntity, w.stand(t, first.organization, one, "superuser", "active", 9).status)
	assert.Equal(t, http.StatusUnprocessableEntity, w.stand(t, first.organization, one, "owner", "gone", 9).status)
	assert.Equal(t, http.StatusOK, first.get("/api/v1/me").status)
	assert.Equal(t, before, w.count(t, "SELECT count(*) FROM audit_entry WHERE action LIKE 'account.owner.%' OR action IN ('account.disabled', 'account.enabled')"))

	// Disabled: refused on the next request, and no session is left at Kratos.
	require.Equal(t, http.StatusNoContent, w.stand(t, first.organization, two, "owner", "disabled", 5).status)
	assert.Equal(t, http.StatusUnauthorized, second.get("/api/v1/me").status)
	assert.Equal(t, http.StatusUnauthorized, second.get("/.ory/sessions/whoami").status)
	assert.Equal(t, http.StatusOK, first.get("/api/v1/me").status, "another person goes on")
	assert.Equal(t, 1, w.acts(t, "account.disabled", two))
	assert.Equal(t, 1, w.acts(t, "account.owner.withdrawn", two))
	again := w.person(t)
	require.Equal(t, http.StatusOK, again.signInPassword(t, second.email, true).status)
	again.secondFactor("totp", "totp_code", codeAt(t, second.secret, 1))
	assert.Equal(t, http.StatusUnauthorized, again.get("/api/v1/me").status, "nor does a new session help")
	require.Equal(t, http.StatusNoContent, w.stand(t, first.organization, two, "owner", "disabled", 5).status, "the same again")
	assert.Equal(t, 1, w.acts(t, "account.disabled", two))
	assert.Equal(t, http.StatusUnauthorized, again.get("/.ory/sessions/whoami").status, "ends what began since")

	require.Equal(t, http.StatusNoContent, w.stand(t, first.organization, two, "owner", "active", 6).status)
	assert.Equal(t, 1, w.acts(t, "account.enabled", two))
	assert.Equal(t, 1, w.count(t, "SELECT count(*) FROM account WHERE identity_id = $1 AND owner AND disabled_at IS NULL", two))
}

func TestTheDataPlaneEndsASession(t *testing.T) {
	t.Parallel()
	w := start(t)
	ended, stays := w.onboarded(t), w.onboarded(t)
	session := ended.get("/.ory/sessions/whoami")
	require.Equal(t, http.StatusOK, session.status, "%s", session.body)
	id, _ := session.doc["id"].(string)
	require.Equal(t, http.StatusOK, ended.get("/api/v1/me").status)
	path := "/internal/v1/sessions/" + id
	assert.Equal(t, http.StatusForbidden, w.process(t, "router").send(http.MethodDelete, path, "", nil).status)
	require.Equal(t, http.StatusOK, ended.get("/api/v1/me").status)
	worker := w.process(t, "dataplane")
	for range 2 { // once more does no harm
		assert.Equal(t, http.StatusNoContent, worker.send(http.MethodDelete, path, "", nil).status)
		assert.Equal(t, http.StatusUnauthorized, ended.get("/api/v1/me").status)
	}
	assert.Equal(t, http.StatusOK, stays.get("/api/v1/me").status)
}

// What cannot be written down does not happen.
func TestAStandingWithoutItsEntryIsNone(t *testing.T) {
	t.Parallel()
	w := start(t)
	o := w.onboarded(t)
	id := o.identity(t)
	w.exec(t, `CREATE FUNCTION planted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.action = 'account.disabled' THEN RAISE EXCEPTION 'planted'; END IF; RETURN NEW; END $$`)
	w.exec(t, `CREATE TRIGGER planted BEFORE INSERT ON audit_entry FOR EACH ROW EXECUTE FUNCTION planted()`)
	assert.GreaterOrEqual(t, w.stand(t, o.organization, id, "owner", "disabled", 2).status, http.StatusInternalServerError)
	assert.Equal(t, http.StatusOK, o.get("/api/v1/me").status)
	assert.Zero(t, w.count(t, "SELECT member_version FROM account WHERE identity_id = $1", id))
	w.exec(t, `DROP TRIGGER planted ON audit_entry`)
	assert.Equal(t, http.StatusNoContent, w.stand(t, o.organization, id, "owner", "disabled", 2).status)
	assert.Equal(t, http.StatusUnauthorized, o.get("/api/v1/me").status)
}
