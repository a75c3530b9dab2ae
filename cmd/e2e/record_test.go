package e2e_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/audit/reconcile"
	"github.com/caresphere/caresphere/internal/demo"
	"github.com/caresphere/caresphere/internal/devstack"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/internal/testkit/prove"
)

// reconciled is the command's report, held against its exit status.
func (w *world) reconciled(t *testing.T, args ...string) reconcile.Report {
	t.Helper()
	out, complaint, exit := w.caresphere(t, append([]string{"audit", "reconcile", "--json"}, args...)...)
	var r reconcile.Report
	require.NoError(t, json.Unmarshal([]byte(out), &r), "%s%s", out, complaint)
	require.Equal(t, map[bool]int{true: 0, false: 1}[r.OK], exit, "%s%s", out, complaint)
	return r
}

// TestARunningStackAgreesWithItsDatabasesRecord has a stack of its own: on the others,
// tests are superusers.
func TestARunningStackAgreesWithItsDatabasesRecord(t *testing.T) {
	t.Parallel()
	w := open(t, testkit.Named("record"))
	l, other := w.tenant(t, "record"), w.other(t)
	for _, one := range []*demo.Live{l, other} {
		r := admit(t, one, "Record"+word())
		readable(t, one, r)
		// Refused in its transaction, which leaves a mark all the same.
		x := w.wire(t, w.Origin()).as(one.Nurse.Client)
		a := x.do(t, http.MethodPatch, "/t/"+one.Slug+"/v1/clients/"+r.client.ID, m{"version": 99, "phone": "1"})
		require.Equal(t, http.StatusConflict, a.status, a.body)
	}
	var whole reconcile.Report
	until(t, 30*time.Second, "the last transactions are in the record", func() (bool, string) {
		whole = w.reconciled(t, "--all")
		running := 0
		for _, one := range whole.Tenants {
			running += one.Running
		}
		return running == 0, "some still run"
	})
	require.True(t, whole.OK, "%+v", whole)
	require.Len(t, whole.Tenants, 2)
	for _, one := range whole.Tenants {
		require.Positive(t, one.Matched, "%+v", one)
		require.Equal(t, one.Transactions, one.Matched+one.Refused, "%+v", one)
	}

	// Past the application.
	var n int
	require.NoError(t, w.database(t, devstack.CellDatabase).QueryRow(within(t, 10*time.Second), "SELECT count(*) FROM "+schemaOf(t, l)+".client").Scan(&n))
	require.Positive(t, n)
	var out, complaint string
	until(t, 20*time.Second, "the server has written it down", func() (bool, string) {
		var exit int
		out, complaint, exit = w.caresphere(t, "audit", "reconcile", "--all")
		return exit == 1, out + complaint
	})
	for _, part := range []string{"UNMATCHED", "NOT MATCHED: 1 unmatched, 0 gaps", "client", schemaOf(t, l), "postgres"} {
		require.Contains(t, out, part)
	}
	again := w.reconciled(t, "--tenant", l.Slug)
	require.False(t, again.OK)
	require.Len(t, again.Unmatched, 1)
	require.Equal(t, l.ID, again.Unmatched[0].Tenants[0].String())
	require.Equal(t, []string{"client"}, again.Unmatched[0].Tables)
	require.True(t, w.reconciled(t, "--tenant", other.Slug).OK, "it was not at the other tenant")
	prove.State(t, prove.AuditUnmatched, 1, 0)
}
