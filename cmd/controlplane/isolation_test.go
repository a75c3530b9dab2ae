package main

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestOperatorsAskForProofsOfIsolation plants what the provisioner would write and
// goes through what operators see and may do with it.
func TestOperatorsAskForProofsOfIsolation(t *testing.T) {
	w := start(t)
	o, operator := w.onboarded(t), w.onDuty(t)
	require.Equal(t, http.StatusUnprocessableEntity, operator.post("/api/v1/isolation/repairs", map[string]any{}).status)
	require.Equal(t, http.StatusNotFound, operator.post("/api/v1/isolation/proofs", map[string]any{}).status, "there is no cell yet")
	w.exec(t, `INSERT INTO cell (id) VALUES ('main')`)
	require.Equal(t, http.StatusNotFound, operator.post("/api/v1/isolation/proofs", map[string]any{"tenant": o.slug}).status, "it was never live")
	w.executed(t, o, operator)
	w.exec(t, `UPDATE organization SET state = 'live', cell_id = 'main' WHERE id = $1::uuid`, o.organization)
	require.Equal(t, http.StatusUnprocessableEntity, operator.post("/api/v1/isolation/proofs", map[string]any{"tenants": o.slug}).status)

	r := operator.post("/api/v1/isolation/proofs", map[string]any{"tenant": o.slug})
	require.Equal(t, http.StatusAccepted, r.status, "%s", r.body)
	id := r.doc["id"].(string)
	assert.Equal(t, "waiting", r.doc["state"])
	assert.Equal(t, 1, w.count(t, `SELECT count(*) FROM river_job WHERE kind = 'isolation' AND queue = 'isolation-main' AND args->>'run_id' = $1`, id))
	assert.Equal(t, http.StatusConflict, operator.get("/api/v1/isolation/proofs/"+id+"/report").status, "it is not made yet")
	assert.Equal(t, http.StatusNotFound, operator.get("/api/v1/isolation/proofs/"+o.organization).status)

	// Nobody but an operator, on no other origin.
	for _, path := range []string{"/api/v1/isolation/proofs", "/api/v1/isolation/proofs/" + id, "/isolation"} {
		assert.Equal(t, http.StatusOK, operator.get(path).status, path)
		assert.Equal(t, http.StatusNotFound, o.get(path).status, path)
		assert.NotEqual(t, http.StatusOK, w.operator(t).get(path).status, path)
	}
	assert.Equal(t, http.StatusUnauthorized, w.operator(t).post("/api/v1/isolation/proofs", map[string]any{}).status)

	w.exec(t, `UPDATE isolation_run SET state = 'done', failed = 1, document = '{"report":{}}', finished_at = now() WHERE id = $1::uuid`, id)
	w.exec(t, `INSERT INTO isolation_result (organization_id, run_id, verdict, findings, summary)
		VALUES ($1::uuid, $2::uuid, 'failed', 1, 'declared: client: policy <b>client_select</b> is missing')`, o.organization, id)
	w.exec(t, `UPDATE organization SET state = 'quarantined' WHERE id = $1::uuid`, o.organization)
	r = operator.get("/api/v1/isolation/proofs/" + id + "/report")
	require.Equal(t, http.StatusOK, r.status)
	assert.Equal(t, `{"report":{}}`, string(r.body), "the report is given to the byte")
	assert.Equal(t, http.StatusNotFound, operator.get("/api/v1/isolation/repairs/"+id).status)

	for _, path := range []string{"/isolation", "/organizations", "/organizations/" + o.organization} {
		page := string(operator.get(path).body)
		assert.Contains(t, page, "uarantined", path)
		assert.NotContains(t, page, "<b>client_select", path)
	}
	assert.Contains(t, string(operator.get("/isolation").body), "One organization is quarantined")
	assert.Contains(t, string(operator.get("/organizations/"+o.organization).body), "policy &lt;b&gt;client_select")

	// It is released by a person, and not before a proof since is green: not by way
	// of another state either.
	resume := func() int {
		return operator.post("/api/v1/organizations/"+o.organization+"/resume", map[string]any{"reason": "for the test"}).status
	}
	assert.Equal(t, http.StatusConflict, resume())
	require.Equal(t, http.StatusOK, operator.post("/api/v1/organizations/"+o.organization+"/suspend", map[string]any{"reason": "for the test"}).status)
	assert.Equal(t, http.StatusConflict, resume())
	assert.Equal(t, http.StatusConflict, operator.post("/api/v1/organizations/"+o.organization+"/read-only", map[string]any{"reason": "for the test"}).status)
	w.exec(t, `UPDATE organization SET state = 'quarantined' WHERE id = $1::uuid`, o.organization)

	require.Equal(t, http.StatusSeeOther, operator.form("/isolation/prove", url.Values{}).status)
	r = operator.post("/api/v1/isolation/repairs", map[string]any{"tenant": o.slug, "apply": true})
	require.Equal(t, http.StatusAccepted, r.status)
	assert.Equal(t, "repair", r.doc["kind"])
	w.exec(t, `UPDATE isolation_run SET started_at = now() - interval '1 hour' WHERE id = $1::uuid`, r.doc["id"])
	w.exec(t, `INSERT INTO isolation_result (organization_id, run_id, verdict) VALUES ($1::uuid, $2::uuid, 'proven')`, o.organization, r.doc["id"])
	assert.Equal(t, http.StatusConflict, resume(), "a proof that began before the failure says nothing of it")
	w.exec(t, `UPDATE isolation_run SET started_at = now() WHERE id = $1::uuid`, r.doc["id"])
	assert.Equal(t, http.StatusOK, resume())
	assert.Equal(t, 1, w.count(t, `SELECT count(*) FROM isolation_run WHERE asked_by = 'release'`), "and proven again at once, with an open gate")
}
