package baa_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/baa"
	"github.com/caresphere/caresphere/controlplane/cptest"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/internal/testkit/prove"
	"github.com/caresphere/caresphere/tenants"
)

// TestEachFailedWriteLeavesNothing makes every write of every act on an agreement
// fail, in its statement and at the commit. State, audit row and job are written
// together or not at all, and the next try succeeds.
func TestEachFailedWriteLeavesNothing(t *testing.T) {
	t.Parallel()
	w := cptest.New(t)
	operator := cptest.Operator()
	acts := []struct {
		name string
		do   func(o cptest.Organization, a *baa.Agreement) error
	}{
		{"draft", func(o cptest.Organization, a *baa.Agreement) (err error) {
			*a, err = w.BAA.Draft(ctx, o.Owner, 0)
			return err
		}},
		{"sign", func(o cptest.Organization, a *baa.Agreement) error {
			_, err := w.BAA.Sign(ctx, o.Owner, a.ID, cptest.Declaration())
			return err
		}},
		{"countersign", func(_ cptest.Organization, a *baa.Agreement) error {
			_, err := w.BAA.Countersign(ctx, operator, a.ID, countersigning(*a))
			return err
		}},
		{"terminate", func(_ cptest.Organization, a *baa.Agreement) error {
			_, err := w.BAA.Terminate(ctx, operator, a.ID, "for the test")
			return err
		}},
	}
	// How many writes there are is counted, so that a new one is among them.
	counted, tested := w.Organization(t, "counted"), w.Organization(t, "tested")
	var first, second baa.Agreement
	writes := testkit.CountWrites(t, w.DB, "public")
	tried := 0
	for _, act := range acts {
		writes.Begin()
		require.NoError(t, act.do(counted, &first), act.name)
		counts := map[testkit.FailAt]int{testkit.InStatement: writes.Seen(testkit.InStatement), testkit.AtCommit: writes.Seen(testkit.AtCommit)}
		t.Logf("%s: %v writes", act.name, counts)
		require.Positive(t, counts[testkit.InStatement])
		require.Positive(t, counts[testkit.AtCommit])
		for how, n := range counts {
			for at := 1; at <= n; at++ {
				before := w.Snapshot(t)
				writes.Arm(how, at)
				kept := second
				err := act.do(tested, &second)
				require.Error(t, err, "%s, write %d (%s)", act.name, at, how)
				require.NotContains(t, []tenants.Kind{tenants.KindConflict, tenants.KindNotFound, tenants.KindInvalid, tenants.KindForbidden},
					tenants.KindOf(err), "a full disk is not the caller's mistake")
				require.Equal(t, before, w.Snapshot(t), "%s, write %d (%s) left something", act.name, at, how)
				second = kept
				tried++
			}
		}
		writes.Begin()
		require.NoError(t, act.do(tested, &second), "%s, again", act.name)
	}
	require.Equal(t, "1", w.Value(t, "SELECT count(*) FROM baa WHERE organization_id = $1", tested.ID))
	require.Equal(t, "1", w.Value(t, "SELECT count(*) FROM river_job WHERE kind = 'provision' AND args->>'organization_id' = $1::text", tested.ID.String()))
	require.Equal(t, "baa.draft,baa.sign,baa.countersign,baa.terminate",
		w.Value(t, "SELECT string_agg(action, ',' ORDER BY seq) FROM audit_entry WHERE organization_id = $1 AND outcome = 'ok'", tested.ID))
	prove.State(t, prove.FailedWrites, tried, 0)

	// The twin: a job that is inserted outside of the transaction stays behind.
	third := w.Organization(t, "third")
	before := w.Snapshot(t)
	writes.Arm(testkit.InStatement, 2)
	require.NoError(t, w.TrySuper("INSERT INTO river_job (kind, args) VALUES ('provision', '{}')"))
	_, err := w.BAA.Draft(ctx, third.Owner, 0)
	require.Error(t, err)
	noticed := 0
	if before != w.Snapshot(t) {
		noticed++
	}
	prove.Plant(t, prove.FailedWrites, 1, noticed)
}
