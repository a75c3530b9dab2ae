package fleet_test

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/cptest"
	"github.com/caresphere/caresphere/controlplane/fleet"
	"github.com/caresphere/caresphere/tenants"
)

// An export holds every organization once, whatever the number is to a page, and is on
// record with how many it was; a refused one too.
func TestExportIsWholeAndOnRecord(t *testing.T) {
	w := cptest.New(t)
	defer fleet.ExportBy(2)()
	operator := cptest.Operator().Actor
	exported := func(f fleet.Filter) []string {
		t.Helper()
		list, err := w.Fleet.Export(ctx, operator, f)
		require.NoError(t, err)
		out := make([]string, len(list))
		for i, o := range list {
			out[i] = o.Slug
		}
		return out
	}
	var want []string
	for _, slug := range []string{"ash", "birch", "cedar", "dogwood", "elm"} {
		want = append([]string{w.Organization(t, slug).Slug}, want...)
		assert.Equal(t, want, exported(fleet.Filter{}), "newest first")
		assert.Equal(t, strconv.Itoa(len(want)), w.Value(t, "SELECT detail->>'count' FROM audit_entry WHERE action = 'organization.export' AND outcome = 'ok' ORDER BY seq DESC LIMIT 1"))
	}
	assert.Equal(t, want[1:2], exported(fleet.Filter{Search: want[1], State: tenants.StatePending, Limit: 7}))
	assert.Equal(t, "1", w.Value(t, "SELECT count(*) FROM audit_entry WHERE action = 'organization.export' AND detail->>'search' = $1 AND detail->>'state' = 'pending' AND actor_id = $2", want[1], operator.ID))

	for name, a := range map[string]tenants.Actor{"second_factor_required": {Kind: tenants.ActorOperator, ID: operator.ID}, "forbidden": {Kind: tenants.ActorMember, ID: operator.ID}} {
		list, err := w.Fleet.Export(ctx, a, fleet.Filter{})
		require.Equal(t, name, string(tenants.KindOf(err)))
		assert.Empty(t, list)
		assert.Equal(t, "1", w.Value(t, "SELECT count(*) FROM audit_entry WHERE action = 'organization.export' AND outcome = 'denied' AND detail->>'kind' = $1", name))
	}
	w.Super(t, "REVOKE INSERT ON audit_entry FROM controlplane")
	w.Super(t, "REVOKE INSERT (id) ON audit_entry FROM controlplane")
	list, err := w.Fleet.Export(ctx, operator, fleet.Filter{})
	require.Error(t, err, "no record, no export")
	assert.Empty(t, list)
}
