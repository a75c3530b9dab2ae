package main

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestOperatorsAskForRotations plants what the provisioner would write and goes
// through what operators ask of keys and see of them.
func TestOperatorsAskForRotations(t *testing.T) {
	w := start(t)
	o, operator := w.onboarded(t), w.onDuty(t)
	ask := func() (int, map[string]any) {
		r := operator.post("/api/v1/key-rotations", map[string]any{"tenant": o.slug})
		return r.status, r.doc
	}
	status, _ := ask()
	require.Equal(t, http.StatusNotFound, status, "it has no key yet")
	w.executed(t, o, operator)
	w.exec(t, `INSERT INTO cell (id) VALUES ('main')`)
	gate := func(state, mode string) {
		w.exec(t, `UPDATE organization SET state = $2, gate_mode = $3, cell_id = 'main', key_alive = true WHERE id = $1::uuid`, o.organization, state, mode)
	}
	for _, closed := range [][2]string{{"suspended", "closed"}, {"quarantined", "closed"}, {"live", "closed"}, {"provisioning", "probe"}} {
		gate(closed[0], closed[1])
		status, doc := ask()
		require.Equal(t, http.StatusForbidden, status, "%v", closed)
		require.Equal(t, "https://caresphere.dev/problems/gate_closed", doc["type"], "%v", doc)
	}
	require.Equal(t, 4, w.count(t, `SELECT count(*) FROM audit_entry WHERE action = 'key.rotate.ask' AND outcome = 'denied' AND detail->>'kind' = 'gate_closed'`))
	gate("live", "open")
	require.Equal(t, http.StatusUnprocessableEntity, operator.post("/api/v1/key-rotations", map[string]any{}).status)

	status, doc := ask()
	require.Equal(t, http.StatusAccepted, status, "%v", doc)
	id := doc["id"].(string)
	assert.Equal(t, "waiting", doc["state"])
	assert.Equal(t, 1, w.count(t, `SELECT count(*) FROM river_job WHERE kind = 'rotate_key' AND queue = 'rotate-main' AND args = jsonb_build_object('organization_id', $1::text)`, o.organization))
	assert.Equal(t, 1, w.count(t, `SELECT count(*) FROM audit_entry WHERE action = 'key.rotate.ask' AND outcome = 'ok' AND record_id = $1`, id))
	status, _ = ask()
	assert.Equal(t, http.StatusConflict, status, "asking again rotates once")
	assert.Equal(t, 1, w.count(t, `SELECT count(*) FROM river_job WHERE kind = 'rotate_key'`))

	w.exec(t, `UPDATE key_rotation SET state = 'done', from_version = 1, to_version = 2, wraps = 7, rotated_at = now(), rewrapped_at = now(), retire_after = now(), finished_at = now() WHERE id = $1::uuid`, id)
	r := operator.get("/api/v1/key-rotations/" + id)
	require.Equal(t, http.StatusOK, r.status)
	assert.Equal(t, []any{"done", 2.0, 7.0, o.slug}, []any{r.doc["state"], r.doc["to_version"], r.doc["wraps"], r.doc["tenant"]})
	r = operator.get("/api/v1/keys?tenant=" + o.slug)
	require.Equal(t, http.StatusOK, r.status)
	one := r.doc["items"].([]any)[0].(map[string]any)
	assert.Equal(t, []any{o.slug, 2.0, "done", id}, []any{one["tenant"], one["version"], one["rotation_state"], one["rotation_id"]})
	assert.Equal(t, http.StatusNotFound, operator.get("/api/v1/keys?tenant=nobody-here").status)
	assert.Equal(t, http.StatusNotFound, operator.get("/api/v1/key-rotations/"+o.organization).status)

	// Nobody but an operator, on no other origin.
	for _, path := range []string{"/api/v1/keys", "/api/v1/key-rotations/" + id} {
		assert.Equal(t, http.StatusOK, operator.get(path).status, path)
		assert.Equal(t, http.StatusNotFound, o.get(path).status, path)
		assert.Equal(t, http.StatusUnauthorized, w.operator(t).get(path).status, path)
	}
	assert.Equal(t, http.StatusUnauthorized, w.operator(t).post("/api/v1/key-rotations", map[string]any{"tenant": o.slug}).status)
	status, _ = ask()
	assert.Equal(t, http.StatusAccepted, status, "once it ended, the next may begin")
}
