package fleet_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/cptest"
	"github.com/caresphere/caresphere/controlplane/fleet"
	"github.com/caresphere/caresphere/tenants"
)

var ctx = context.Background()

// Every state against every action of an operator: what the table of legal moves
// allows happens, everything else is a conflict that changes nothing.
func TestMovesCellByCell(t *testing.T) {
	t.Parallel()
	w := cptest.New(t)
	o := w.Organization(t, "haven")
	w.Execute(t, o)
	w.Live(t, o)
	operator := cptest.Operator().Actor
	actions := map[tenants.State]func() error{
		tenants.StateSuspended:    func() error { return w.Fleet.Suspend(ctx, operator, o.ID, "for the test") },
		tenants.StateReadOnly:     func() error { return w.Fleet.ReadOnly(ctx, operator, o.ID, "for the test") },
		tenants.StateLive:         func() error { return w.Fleet.Resume(ctx, operator, o.ID, "for the test") },
		tenants.StateProvisioning: func() error { return w.Fleet.Retry(ctx, operator, o.ID) },
	}
	for _, from := range tenants.States() {
		for to, act := range actions {
			t.Run(string(from)+" to "+string(to), func(t *testing.T) {
				w.Super(t, "UPDATE organization SET state = $2 WHERE id = $1", o.ID, string(from))
				w.Decide(t, o.ID)
				allowed := tenants.CanMove(from, to)
				switch to {
				case tenants.StateLive: // resuming is for what was suspended or made read-only
					allowed = from == tenants.StateSuspended || from == tenants.StateReadOnly
				case tenants.StateProvisioning: // retrying is for what failed
					allowed = from == tenants.StateProvisioningFailed
				}
				before := w.Snapshot(t, "audit_entry")
				err := act()
				if !allowed {
					assert.Equal(t, tenants.KindConflict, tenants.KindOf(err))
					assert.Equal(t, before, w.Snapshot(t, "audit_entry"))
					return
				}
				require.NoError(t, err)
				assert.Equal(t, string(to), w.Value(t, "SELECT state FROM organization WHERE id = $1", o.ID))
			})
		}
	}
}

func TestWhoMayMove(t *testing.T) {
	t.Parallel()
	w := cptest.New(t)
	a, b := w.Organization(t, "alpha"), w.Organization(t, "beta")
	w.Execute(t, a)
	w.Live(t, a)
	weak := cptest.Operator().Actor
	weak.AuthenticatedAt = time.Time{}
	for name, c := range map[string]struct {
		actor tenants.Actor
		want  tenants.Kind
	}{
		"operator without a second factor": {weak, tenants.KindSecondFactor},
		"the organization's owner":         {a.Owner.Actor, tenants.KindForbidden},
		"another owner":                    {b.Owner.Actor, tenants.KindForbidden},
		"nobody":                           {tenants.Actor{Kind: tenants.ActorAnonymous}, tenants.KindForbidden},
		"the system":                       {tenants.Actor{Kind: tenants.ActorSystem}, tenants.KindForbidden},
	} {
		before := w.Snapshot(t, "audit_entry")
		for action, err := range map[string]error{
			"suspend":   w.Fleet.Suspend(ctx, c.actor, a.ID, "for the test"),
			"read-only": w.Fleet.ReadOnly(ctx, c.actor, a.ID, "for the test"),
			"resume":    w.Fleet.Resume(ctx, c.actor, a.ID, "for the test"),
			"list":      second(w.Fleet.List(ctx, c.actor, fleet.Filter{})),
		} {
			assert.Equal(t, c.want, tenants.KindOf(err), "%s: %s", name, action)
		}
		assert.Equal(t, before, w.Snapshot(t, "audit_entry"), name)
	}
	require.NoError(t, w.Fleet.Suspend(ctx, cptest.Operator().Actor, a.ID, "for the test"))
	assert.Equal(t, "for the test", w.Value(t, "SELECT state_reason FROM organization WHERE id = $1", a.ID))
	require.NoError(t, w.Fleet.Resume(ctx, cptest.Operator().Actor, a.ID, "done"))
	assert.Equal(t, "", w.Value(t, "SELECT state_reason FROM organization WHERE id = $1", a.ID))
	assert.Equal(t, tenants.KindNotFound, tenants.KindOf(w.Fleet.Suspend(ctx, cptest.Operator().Actor, tenants.NewID(), "for the test")))
	for _, reason := range []string{"", "ab", "  a ", strings.Repeat("x", 501), "a\nb c", "abc\xff"} {
		assert.Equal(t, tenants.KindInvalid, tenants.KindOf(w.Fleet.Suspend(ctx, cptest.Operator().Actor, a.ID, reason)), "%q", reason)
	}
}

func TestRetry(t *testing.T) {
	t.Parallel()
	w := cptest.New(t)
	a, b := w.Organization(t, "alpha"), w.Organization(t, "beta")
	w.Execute(t, a)
	fail := func() {
		w.Super(t, "UPDATE organization SET state = 'provisioning_failed', state_reason = 'the key store did not answer' WHERE id = $1", a.ID)
	}
	fail()
	before := w.Snapshot(t, "audit_entry")
	assert.Equal(t, tenants.KindNotFound, tenants.KindOf(w.Fleet.Retry(ctx, b.Owner.Actor, a.ID)))
	assert.Equal(t, tenants.KindForbidden, tenants.KindOf(w.Fleet.Retry(ctx, a.Member.Actor, a.ID)))
	assert.Equal(t, before, w.Snapshot(t, "audit_entry"))

	require.NoError(t, w.Fleet.Retry(ctx, a.Owner.Actor, a.ID))
	assert.Equal(t, "provisioning", w.Value(t, "SELECT state FROM organization WHERE id = $1", a.ID))
	assert.Equal(t, "2", w.Value(t, "SELECT count(*) FROM river_job WHERE kind = 'provision'"))
	fail()
	require.NoError(t, w.Fleet.Retry(ctx, cptest.Operator().Actor, a.ID))

	fail()
	w.BreakAudit(t, "provisioning.retry")
	before = w.Snapshot(t)
	require.ErrorContains(t, w.Fleet.Retry(ctx, a.Owner.Actor, a.ID), "planted")
	assert.Equal(t, before, w.Snapshot(t))
}

func TestReading(t *testing.T) {
	t.Parallel()
	w := cptest.New(t)
	a, b := w.Organization(t, "alpha"), w.Organization(t, "beta")
	w.Execute(t, a)
	w.Super(t, "INSERT INTO provisioning_step (organization_id, step, position, state, attempt) VALUES ($1, 'schema', 2, 'running', 1), ($1, 'place', 1, 'done', 1)", a.ID)
	operator := cptest.Operator().Actor

	o, err := w.Fleet.Get(ctx, a.Member.Actor, a.ID)
	require.NoError(t, err)
	assert.Equal(t, tenants.BAAExecuted, o.BAA.State)
	assert.Equal(t, a.Owner.Email, o.OwnerEmail)
	assert.Equal(t, "manual", o.Plan)
	steps, err := w.Fleet.Steps(ctx, a.Owner.Actor, a.ID)
	require.NoError(t, err)
	require.Len(t, steps, 2)
	assert.Equal(t, "place", steps[0].Name)
	for _, actor := range []tenants.Actor{b.Owner.Actor, b.Member.Actor} {
		assert.Equal(t, tenants.KindNotFound, tenants.KindOf(second(w.Fleet.Get(ctx, actor, a.ID))))
		assert.Equal(t, tenants.KindNotFound, tenants.KindOf(second(w.Fleet.Steps(ctx, actor, a.ID))))
	}
	assert.Equal(t, tenants.KindNotFound, tenants.KindOf(second(w.Fleet.Get(ctx, operator, tenants.NewID()))))

	list := func(f fleet.Filter) []string {
		got, err := w.Fleet.List(ctx, operator, f)
		require.NoError(t, err)
		var slugs []string
		for _, o := range got {
			slugs = append(slugs, o.Slug)
		}
		return slugs
	}
	assert.Equal(t, []string{"beta", "alpha"}, list(fleet.Filter{}))
	assert.Equal(t, []string{"alpha"}, list(fleet.Filter{Search: "ALPH"}))
	assert.Empty(t, list(fleet.Filter{Search: "%"}), "a search is text, not a pattern")
	assert.Equal(t, []string{"beta"}, list(fleet.Filter{State: tenants.StatePending}))
	assert.Equal(t, []string{"beta"}, list(fleet.Filter{Limit: 1}))
	assert.Equal(t, []string{"alpha"}, list(fleet.Filter{Before: b.ID}))
	assert.Equal(t, tenants.KindInvalid, tenants.KindOf(second(w.Fleet.List(ctx, operator, fleet.Filter{Limit: 501}))))
}

func second[T any](_ T, err error) error { return err }
