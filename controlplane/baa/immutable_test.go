package baa_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/cptest"
	"github.com/caresphere/caresphere/tenants"
)

// The database refuses to change what was signed: to the application's role, and
// to the tables' owner.
func TestWhatWasSignedNeverChanges(t *testing.T) {
	t.Parallel()
	w := cptest.New(t)
	o := w.Organization(t, "haven")
	executed := w.Execute(t, o)
	draft, err := w.BAA.Draft(ctx, o.Owner, 12)
	require.NoError(t, err)
	other := w.Organization(t, "other")
	owner := cptest.Open(t, w.DB.DSN("platform_owner"))

	refusals := map[string]string{
		"document":           "UPDATE baa SET document = 'x', document_sha256 = sha256('x') WHERE id = $1",
		"document hash":      "UPDATE baa SET document_sha256 = sha256('x') WHERE id = $1",
		"template":           "UPDATE baa SET template_version = 'v0' WHERE id = $1",
		"term":               "UPDATE baa SET term_months = 120 WHERE id = $1",
		"organization":       "UPDATE baa SET organization_id = '" + other.ID.String() + "' WHERE id = $1",
		"customer evidence":  "UPDATE baa SET customer_evidence = 'x' WHERE id = $1",
		"no evidence":        "UPDATE baa SET customer_evidence = NULL WHERE id = $1",
		"operator evidence":  "UPDATE baa SET operator_evidence = 'x' WHERE id = $1",
		"pdf":                "UPDATE baa SET pdf = 'x' WHERE id = $1",
		"bundle":             "UPDATE baa SET bundle = 'x' WHERE id = $1",
		"time of signing":    "UPDATE baa SET signed_at = now() WHERE id = $1",
		"time of execution":  "UPDATE baa SET executed_at = executed_at - interval '1 day' WHERE id = $1",
		"expiry":             "UPDATE baa SET expires_at = expires_at + interval '1 day' WHERE id = $1",
		"back to draft":      "UPDATE baa SET state = 'draft' WHERE id = $1",
		"back to signed":     "UPDATE baa SET state = 'signed' WHERE id = $1",
		"ended without time": "UPDATE baa SET state = 'terminated' WHERE id = $1",
		"unknown state":      "UPDATE baa SET state = 'void', ended_at = now() WHERE id = $1",
		"removal":            "DELETE FROM baa WHERE id = $1",
	}
	for name, sql := range refusals {
		t.Run(name, func(t *testing.T) {
			before := w.Snapshot(t)
			_, err := w.Pool.Exec(ctx, sql, executed.ID)
			require.Error(t, err, "the application's role")
			_, err = owner.Exec(ctx, sql, executed.ID)
			require.Error(t, err, "the owner")
			require.Error(t, w.TrySuper(sql, executed.ID), "the superuser")
			assert.Equal(t, before, w.Snapshot(t))
		})
	}
	for name, sql := range map[string]string{
		"all at once":                        "TRUNCATE baa",
		"inserting a signed one":             "INSERT INTO baa (id, organization_id, state, template_version, document, document_sha256, customer_evidence, signed_at) SELECT gen_random_uuid(), organization_id, 'signed', template_version, document, document_sha256, customer_evidence, signed_at FROM baa WHERE state = 'executed'",
		"a document that is not its hash":    "INSERT INTO baa (id, organization_id, template_version, document, document_sha256) SELECT gen_random_uuid(), organization_id, 'v1', 'x', document_sha256 FROM baa LIMIT 1",
		"executed without proofs":            "UPDATE baa SET state = 'executed' WHERE state = 'draft'",
		"signed without evidence":            "UPDATE baa SET state = 'signed' WHERE state = 'draft'",
		"a draft terminated":                 "UPDATE baa SET state = 'terminated', ended_at = now() WHERE state = 'draft'",
		"switching the trigger off, by role": "SET session_replication_role = replica",
	} {
		_, err := w.Pool.Exec(ctx, sql)
		assert.Error(t, err, name)
		if name != "switching the trigger off, by role" {
			assert.Error(t, w.TrySuper(sql), name)
		}
	}
	// With triggers off for replicas, ours still holds.
	assert.ErrorContains(t, w.TrySuper("BEGIN; SET LOCAL session_replication_role = replica; DELETE FROM baa; COMMIT"), "never removed")

	// The allowed twins: what the lifecycle does, and the end of an agreement, once.
	_, err = w.BAA.Sign(ctx, o.Owner, draft.ID, cptest.Declaration())
	require.NoError(t, err)
	ended, err := w.BAA.Terminate(ctx, o.Owner, executed.ID, "for the test")
	require.NoError(t, err)
	assert.Equal(t, tenants.BAATerminated, ended.State)
	assert.Error(t, w.TrySuper("UPDATE baa SET ended_reason = 'another' WHERE id = $1", executed.ID))
}
