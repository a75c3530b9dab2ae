package main

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/cptest"
	"github.com/caresphere/caresphere/controlplane/provisioning"
	"github.com/caresphere/caresphere/controlplane/rotation"
	"github.com/caresphere/caresphere/internal/kms"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/internal/testkit/prove"
	"github.com/caresphere/caresphere/tenants"
)

// TestKilledWhileAKeyRotatesItTurnsOnce kills the provisioner in each write with which
// it rotates a tenant's key, as it is made or as it commits, and leaves the rest to
// the next process.
func TestKilledWhileAKeyRotatesItTurnsOnce(t *testing.T) {
	t.Parallel()
	y := newYard(t, 2, append([]string{"CARESPHERE_KEY_ROTATE_GRACE=1ms"}, killable...)...)
	ctx, victim, other := context.Background(), y.tenants[0], y.tenants[1]
	y.prove("") // so that none is due
	pool := y.open(y.control.DSN("controlplane"))
	jobs, err := provisioning.Inserter(pool, nil)
	require.NoError(t, err)
	desk := rotation.NewService(pool, jobs)
	worker := cptest.Worker{KMS: y.keys, Cell: y.cellAdmin, System: y.inTenant}
	records, others := worker.Seal(t, victim, 2), worker.Seal(t, other, 1)
	schema := tenants.SchemaName(victim)
	writes := map[string]*testkit.Writes{
		"control": testkit.CountWrites(t, y.control, "public.key_rotation", "public.audit_entry"),
		"cell":    testkit.CountWrites(t, y.cell, "cell.tenant_credential", "cell.tenant_fence", schema+".data_key", schema+".audit_entry"),
	}
	slug, version := y.slug(victim), 1
	ask := func() {
		_, err := desk.Ask(ctx, riley, slug)
		require.NoError(t, err)
		version++
	}
	over := func(version int) error {
		if err := worker.Turned(ctx, victim, version, records); err != nil {
			return err
		}
		return y.says("0", `SELECT count(*)::text FROM key_rotation WHERE finished_at IS NULL`)
	}
	settled := func() int {
		err := eventually(func() error { return over(version) })
		if err == nil {
			err = worker.Turned(ctx, other, 1, others)
		}
		if err != nil {
			t.Error(err)
			return 1
		}
		return 0
	}
	p := y.running
	p.kill(t)
	own := asks(writes, ask)
	p = y.start()
	require.Zero(t, settled())
	reached, wrong := 0, 0
	for range prove.Size(1, 4) {
		kills := newKilling(5, own.without(places(t, writes, func() {
			ask()
			require.Zero(t, settled())
		})))
		for at, more := kills.next(); more; at, more = kills.next() {
			want := version + 1
			kills.came(y.kill(t, p, at, ask, func() bool { return over(want) == nil }))
			p = y.start()
			wrong += settled()
		}
		kills.whole(t)
		reached += kills.met
	}
	prove.State(t, prove.KilledRotation, reached, wrong)
	require.NoError(t, y.says("0", `SELECT count(*)::text FROM key_rotation r WHERE r.state <> 'done' OR NOT EXISTS
		(SELECT 1 FROM audit_entry a WHERE a.action = 'key.rotate.done' AND a.record_id = r.id::text)`), "each has its entry")
	y.accounted(t)

	// The twins: a key that stayed wrapped by the older version, and one that was
	// rotated twice.
	stale, err := worker.Newest(ctx, victim, "field")
	require.NoError(t, err)
	ask()
	require.Zero(t, settled())
	p.kill(t)
	fresh, err := worker.ByID(ctx, victim, stale.ID)
	require.NoError(t, err)
	store := func(wrapped []byte) {
		_, err := y.cellAdmin.Exec(ctx, `UPDATE `+schema+`.data_key SET wrapped = $1 WHERE id = $2`, wrapped, stale.ID)
		require.NoError(t, err)
	}
	noticed := 0
	store(stale.Wrapped)
	if over(version) != nil {
		noticed++
	}
	store(fresh.Wrapped)
	require.NoError(t, over(version))
	_, err = y.keys.Rotate(ctx, kms.KeyName(victim))
	require.NoError(t, err)
	if over(version) != nil {
		noticed++
	}
	prove.Plant(t, prove.KilledRotation, 2, noticed)
}

// says compares what the control database answers.
func (w *world) says(want, sql string, args ...any) error {
	var got string
	if err := w.admin.QueryRow(context.Background(), sql, args...).Scan(&got); err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%s: %q instead of %q", sql, got, want)
	}
	return nil
}
