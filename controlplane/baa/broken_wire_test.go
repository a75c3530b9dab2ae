package baa_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/baa"
	"github.com/caresphere/caresphere/controlplane/cptest"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/internal/testkit/prove"
	"github.com/caresphere/caresphere/tenants"
)

// TestEachBrokenConnectionLeavesAllOrNothing breaks the connection at each message of an
// agreement's life, one at a time: before the server has it, and before its answer is back,
// when nobody can know whether it was carried out. Each act happened, with its one entry, or
// did not, and then the next try does it. A usual run draws some, the nightly one takes all.
func TestEachBrokenConnectionLeavesAllOrNothing(t *testing.T) {
	t.Parallel()
	w := cptest.New(t)
	wire := testkit.Wired(t, w.DB)
	w.Pool = cptest.Open(t, wire.DSN(w.DB.DSN("controlplane")))
	w.BAA = w.Agreements(t, nil)
	require.NoError(t, throughItsLife(t, w, "first")) // connections are there from here on
	wire.Break("", 0)
	require.NoError(t, throughItsLife(t, w, "counted"))
	n := wire.Seen()
	t.Logf("%d messages", n)
	require.Greater(t, n, 20)
	type place struct {
		how testkit.Break
		at  int
	}
	var all []place
	for at := 1; at <= n; at++ {
		all = append(all, place{testkit.Lost, at}, place{testkit.Unanswered, at})
	}
	tried, wrong := 0, 0
	for i, p := range prove.Draw(t, all, 30) {
		wire.Break(p.how, p.at)
		if err := throughItsLife(t, w, fmt.Sprintf("broken-%d", i)); err != nil {
			wrong++
			t.Errorf("message %d (%s): %v", p.at, p.how, err)
		}
		if wire.Seen() >= p.at {
			tried++
		}
	}
	wire.Break("", 0)
	prove.State(t, prove.BrokenConnections, tried, wrong)

	// The twin: a state that came without its entry.
	o := w.Organization(t, "planted")
	_, err := w.BAA.Draft(ctx, o.Owner, 0)
	require.NoError(t, err)
	_, err = happened(t, w, o, "baa.sign", tenants.BAASigned)
	require.NoError(t, err)
	w.Super(t, "UPDATE baa SET state = 'signed', customer_evidence = 'c', signed_at = now() WHERE organization_id = $1", o.ID)
	noticed := 0
	if _, err = happened(t, w, o, "baa.sign", tenants.BAASigned); err != nil {
		noticed++
	}
	prove.Plant(t, prove.BrokenConnections, 1, noticed)
}

// throughItsLife has an agreement of a new organization drafted, signed, countersigned and
// ended. An act that fails is done again; what is there in part, or twice, is the error.
func throughItsLife(t *testing.T, w *cptest.World, slug string) error {
	t.Helper()
	o, operator := w.Organization(t, slug), cptest.Operator()
	var a baa.Agreement
	acts := []struct {
		action string
		state  tenants.BAAState
		do     func() error
	}{
		{"baa.draft", tenants.BAADraft, func() (err error) { a, err = w.BAA.Draft(ctx, o.Owner, 0); return err }},
		{"baa.sign", tenants.BAASigned, func() error { _, err := w.BAA.Sign(ctx, o.Owner, a.ID, cptest.Declaration()); return err }},
		{"baa.countersign", tenants.BAAExecuted, func() error {
			_, err := w.BAA.Countersign(ctx, operator, a.ID, countersigning(a))
			return err
		}},
		{"baa.terminate", tenants.BAATerminated, func() error { _, err := w.BAA.Terminate(ctx, operator, a.ID, "for the test"); return err }},
	}
	for _, act := range acts {
		said := act.do()
		done, err := happened(t, w, o, act.action, act.state)
		if err != nil {
			return err
		}
		if said == nil && !done {
			return fmt.Errorf("%s: it says that it is done, and is not", act.action)
		}
		if said != nil && !done {
			if err := act.do(); err != nil {
				return fmt.Errorf("%s, after %w: %w", act.action, said, err)
			}
			if done, err = happened(t, w, o, act.action, act.state); err != nil || !done {
				return fmt.Errorf("%s, again: done %t: %w", act.action, done, err)
			}
		}
		// Who was not answered looks: drafting again would be an act of its own.
		if a.ID.IsZero() {
			if a, err = w.BAA.Current(ctx, o.Owner); err != nil {
				return fmt.Errorf("reading what was drafted: %w", err)
			}
		}
	}
	if jobs := w.Value(t, "SELECT count(*) FROM river_job WHERE kind = 'provision' AND args->>'organization_id' = $1::text", o.ID.String()); jobs != "1" {
		return fmt.Errorf("%s jobs to provision it", jobs)
	}
	return nil
}

// happened tells whether an act on the organization's only agreement happened; the error
// is for one that has its state without its one entry, or the entry without the state.
func happened(t *testing.T, w *cptest.World, o cptest.Organization, action string, state tenants.BAAState) (bool, error) {
	t.Helper()
	is := w.Value(t, "SELECT coalesce(string_agg(state, ','), '') FROM baa WHERE organization_id = $1", o.ID)
	entries := w.Value(t, "SELECT count(*) FROM audit_entry WHERE organization_id = $1 AND action = $2 AND outcome = 'ok'", o.ID, action)
	done := is == string(state)
	if done && entries != "1" || !done && entries != "0" {
		return false, fmt.Errorf("%s: agreements are %q, with %s entries", action, is, entries)
	}
	return done, nil
}
