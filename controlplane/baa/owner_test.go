package baa_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/baa"
	"github.com/caresphere/caresphere/controlplane/cptest"
	"github.com/caresphere/caresphere/tenants"
)

// TestTheOwnersOfTodayActOnTheAgreement: who signed up is the owner until the data
// plane says otherwise, and then whoever it says.
func TestTheOwnersOfTodayActOnTheAgreement(t *testing.T) {
	t.Parallel()
	w := cptest.New(t)
	o := w.Organization(t, "haven")
	stands := func(p baa.Person, role string) {
		w.Super(t, "UPDATE account SET role = $2, member_version = member_version + 1 WHERE identity_id = $1", p.ID, role)
	}
	mayNot := func(p baa.Person, executed baa.Agreement) {
		t.Helper()
		_, err := w.BAA.Draft(ctx, p, 0)
		assert.Equal(t, tenants.KindForbidden, tenants.KindOf(err), "draft")
		_, err = w.BAA.Terminate(ctx, p, executed.ID, "because")
		assert.Equal(t, tenants.KindForbidden, tenants.KindOf(err), "terminate")
		assert.Equal(t, "executed", w.Value(t, "SELECT state FROM baa WHERE id = $1", executed.ID))
	}
	executed := w.Execute(t, o)
	mayNot(o.Member, executed)

	stands(o.Owner, "auditor")
	mayNot(o.Owner, executed)
	stands(o.Member, "owner")
	renewal, err := w.BAA.Draft(ctx, o.Member, 0)
	require.NoError(t, err)
	_, err = w.BAA.Sign(ctx, o.Owner, renewal.ID, cptest.Declaration())
	assert.Equal(t, tenants.KindForbidden, tenants.KindOf(err))
	renewal, err = w.BAA.Sign(ctx, o.Member, renewal.ID, cptest.Declaration())
	require.NoError(t, err)
	assert.Equal(t, o.Member.ID, renewal.Customer.Signer.IdentityID)

	// A disabled owner is none, whatever the role.
	w.Super(t, "UPDATE account SET disabled_at = now() WHERE identity_id = $1", o.Member.ID)
	mayNot(o.Member, executed)
	w.Super(t, "UPDATE account SET disabled_at = NULL WHERE identity_id = $1", o.Member.ID)
	_, err = w.BAA.Terminate(ctx, o.Member, executed.ID, "because")
	require.NoError(t, err)
}
