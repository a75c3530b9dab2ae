package main

import (
	"context"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/cptest"
	"github.com/caresphere/caresphere/controlplane/provisioning"
	"github.com/caresphere/caresphere/controlplane/rotation"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/internal/testkit/prove"
)

// TestAPausedRotationIsFenced stops a process in a write of a rotation past its lease,
// has another finish it, and lets the first go on: the key is not rotated again.
func TestAPausedRotationIsFenced(t *testing.T) {
	t.Parallel()
	y := newYard(t, 1, append([]string{"CARESPHERE_KEY_ROTATE_GRACE=1ms"}, killable...)...)
	ctx, victim := context.Background(), y.tenants[0]
	y.prove("") // so that none is due
	pool := y.open(y.control.DSN("controlplane"))
	jobs, err := provisioning.Inserter(pool, nil)
	require.NoError(t, err)
	desk := rotation.NewService(pool, jobs)
	worker := cptest.Worker{KMS: y.keys, Cell: y.cellAdmin, System: y.inTenant}
	records := worker.Seal(t, victim, 2)
	slug, version := y.slug(victim), 1
	control := testkit.CountWrites(t, y.control, "public.key_rotation")
	ask := func() {
		_, err := desk.Ask(ctx, riley, slug)
		require.NoError(t, err)
		version++
	}
	over := func() bool {
		return worker.Turned(ctx, victim, version, records) == nil && y.says("0", `SELECT count(*)::text FROM key_rotation WHERE finished_at IS NULL`) == nil
	}
	// Asking writes once: begun, rotated, rewrapped and done follow.
	writes := map[string]*testkit.Writes{"control": control}
	all := places(t, writes, func() {
		ask()
		require.Eventually(t, over, converge, 30*time.Millisecond)
	})
	all = slices.DeleteFunc(all, func(p place) bool { return p.at == 1 })
	if !prove.Nightly() {
		all = all[:1]
	}
	y.env = append(slices.DeleteFunc(slices.Clone(y.env), func(s string) bool { return strings.HasPrefix(s, "CARESPHERE_HEALTH_LISTEN=") }), "CARESPHERE_HEALTH_LISTEN=127.0.0.1:0")
	stale := y.running
	tried, wrong := 0, 0
	for _, at := range all {
		reached, release := at.where.Hold(at.how, at.at)
		ask()
		require.Eventually(t, reached, converge, 30*time.Millisecond, "%d (%s)", at.at, at.how)
		stale.signal(t, syscall.SIGSTOP)
		// Its transaction ends as a server ends one whose client is gone too long.
		at.where.Drop()
		release()
		fresh := y.start()
		require.Eventually(t, over, converge, 30*time.Millisecond, "%d (%s)", at.at, at.how)
		stale.signal(t, syscall.SIGCONT)
		y.eventually(converge, "0", `SELECT count(*)::text FROM river_job WHERE kind = 'rotate_key' AND state IN ('running', 'available', 'retryable', 'scheduled')`)
		tried++
		if !over() {
			wrong++
			t.Errorf("%d (%s): %v", at.at, at.how, worker.Turned(ctx, victim, version, records))
		}
		stale.kill(t)
		stale = fresh
	}
	prove.State(t, prove.Fenced, tried, wrong)
	require.NoError(t, y.says("0", `SELECT count(*)::text FROM key_rotation r WHERE 1 <> (SELECT count(*) FROM audit_entry a WHERE a.action = 'key.rotate.rotated' AND a.record_id = r.id::text)`))
}
