package main

import (
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/provisioning"
	"github.com/caresphere/caresphere/internal/testkit/prove"
)

// TestAPausedProcessIsFencedAtEachStep stops a process at a step past its lease, has
// another finish, and lets the first go on: whatever it still has to say is refused.
func TestAPausedProcessIsFencedAtEachStep(t *testing.T) {
	t.Parallel()
	w := faulty(t)
	w.env = append(slices.DeleteFunc(slices.Clone(w.env), func(s string) bool { return len(s) > 25 && s[:25] == "CARESPHERE_HEALTH_LISTEN=" }), "CARESPHERE_HEALTH_LISTEN=127.0.0.1:0")
	steps := provisioning.Steps()
	if !prove.Nightly() {
		steps = []string{steps[rand.IntN(len(steps))]}
	}
	tried, wrong := 0, 0
	for _, step := range steps {
		org := w.organization()
		reached, release := w.hold(step, "running")
		stale := w.start()
		require.Eventually(t, reached, 30*time.Second, 10*time.Millisecond, step)
		stale.signal(t, syscall.SIGSTOP)
		w.endHeld()
		release()
		fresh := w.start()
		wrong += w.settled(t, org)
		before := w.text(provisionState, org)
		stale.signal(t, syscall.SIGCONT)
		w.eventually(30*time.Second, "0", `SELECT count(*)::text FROM river_job WHERE kind = 'provision' AND state IN ('running', 'available', 'retryable', 'scheduled')`)
		tried++
		if !assert.Equal(t, before, w.text(provisionState, org), step) || w.once(org) != nil {
			wrong++
		}
		stale.kill(t)
		fresh.kill(t)
	}
	prove.State(t, prove.Fenced, tried, wrong)
	w.accounted(t)

	// The twin: a stale write that no fence keeps out is seen.
	org := w.organization()
	p := w.start()
	require.Zero(t, w.settled(t, org))
	p.kill(t)
	before := w.text(provisionState, org)
	w.exec(`UPDATE provisioning_step SET attempt = attempt + 1 WHERE organization_id = $1 AND step = 'key'`, org)
	noticed := 0
	if before != w.text(provisionState, org) {
		noticed++
	}
	prove.Plant(t, prove.Fenced, 1, noticed)
}

// provisionState is all that provisioning records of an organization.
const provisionState = `SELECT concat_ws(' ', o.state, o.gate_mode, o.gate_version, o.placement_epoch, o.key_alive,
	(SELECT string_agg(concat_ws(':', step, state, attempt, reason, finished_at), ',' ORDER BY position) FROM provisioning_step WHERE organization_id = o.id),
	(SELECT string_agg(action, ',' ORDER BY seq) FROM audit_entry WHERE organization_id = o.id))
	FROM organization o WHERE id = $1`

// stall is one request that the front keeps: whoever sent it waits outside of every
// database.
type stall struct{ reached, release chan struct{} }

// TestAPausedProcessIsFencedWithItsConnectionsAlive stops a process past its lease while
// it waits for the probe's answer, has another finish, and lets the first go on with
// connections that still serve it: the fence alone keeps it out.
func TestAPausedProcessIsFencedWithItsConnectionsAlive(t *testing.T) {
	t.Parallel()
	w := faulty(t)
	w.env = append(slices.DeleteFunc(slices.Clone(w.env), func(s string) bool { return len(s) > 25 && s[:25] == "CARESPHERE_HEALTH_LISTEN=" }), "CARESPHERE_HEALTH_LISTEN=127.0.0.1:0")
	const backends = `SELECT coalesce(string_agg(pid::text, ',' ORDER BY pid), '') FROM pg_stat_activity
		WHERE datname = current_database() AND application_name = 'caresphere-provisioner' AND state = 'idle'`
	tried, wrong, noticed := 0, 0, 0
	for _, fenced := range []bool{true, false} {
		org := w.organization()
		held := &stall{make(chan struct{}), make(chan struct{})}
		w.stalled.Store(held)
		stale := w.start()
		select {
		case <-held.reached:
		case <-time.After(converge):
			t.Fatal("it never probed")
		}
		stale.signal(t, syscall.SIGSTOP)
		living := w.text(backends)
		require.NotEmpty(t, living)
		fresh := w.start()
		wrong += w.settled(t, org)
		before := w.text(provisionState, org)
		require.NotEqual(t, "0", w.text(`SELECT count(*)::text FROM pg_stat_activity WHERE pid::text = ANY (string_to_array($1, ','))`, living))
		if !fenced {
			// The twin: fences that went back let the stale one's record through, and it is seen.
			w.exec(`UPDATE provisioning_lease SET fence = 1 WHERE organization_id = $1`, org)
			_, err := w.cellAdmin.Exec(t.Context(), `UPDATE cell.tenant_fence SET fence = 1 WHERE tenant_id = $1`, org)
			require.NoError(t, err)
		}
		stale.signal(t, syscall.SIGCONT)
		close(held.release)
		if fenced {
			require.Eventually(t, func() bool { return stale.says("provisioning was taken over by another process") }, converge, 20*time.Millisecond)
			tried++
			if !assert.Equal(t, before, w.text(provisionState, org)) || w.once(org) != nil {
				wrong++
			}
		} else if assert.Eventually(t, func() bool { return w.text(provisionState, org) != before }, converge, 20*time.Millisecond) {
			noticed++
			require.False(t, stale.says("provisioning was taken over by another process"))
		}
		stale.kill(t)
		fresh.kill(t)
	}
	prove.State(t, prove.Fenced, tried, wrong)
	prove.Plant(t, prove.Fenced, 1, noticed)
}

// says tells whether the process's log has the words.
func (p *process) says(words string) bool {
	b, err := os.ReadFile(p.log)
	return err == nil && strings.Contains(string(b), words)
}
