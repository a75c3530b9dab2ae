package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/provisioning"
	"github.com/caresphere/caresphere/internal/kms"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/internal/testkit/prove"
	"github.com/caresphere/caresphere/tenants"
)

// converge is how long after a fault everything is as it must be.
const converge = 60 * time.Second

// killable are the settings of processes that are killed: a lease of the dead holds
// up the living for less long, and no scheduled proof finds what a test plants.
var killable = []string{"CARESPHERE_LEASE_LIFE=1500ms", "CARESPHERE_ISOLATION_EVERY=240h"}

// unscheduled has the cell's proof look as if somebody had just asked for one.
func (w *world) unscheduled() {
	w.t.Helper()
	w.exec(`INSERT INTO cell (id) VALUES ('main') ON CONFLICT DO NOTHING`)
	w.exec(`INSERT INTO isolation_run (id, kind, cell_id, asked_by) VALUES (gen_random_uuid(), 'proof', 'main', 'schedule')`)
}

func faulty(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.env = append(w.env, killable...)
	w.unscheduled()
	return w
}

// once says what of a live organization is not as one provisioning leaves it.
func (w *world) once(org tenants.ID) error {
	ctx := context.Background()
	var got string
	err := w.admin.QueryRow(ctx, `SELECT concat_ws(' ', o.state, o.gate_mode, (o.gate_applied = o.gate_version)::text, 'epoch', o.placement_epoch,
		'entries', (SELECT count(*) FROM audit_entry a WHERE a.action = 'organization.live' AND a.organization_id = o.id),
		'steps', (SELECT count(*) FROM provisioning_step s WHERE s.organization_id = o.id AND s.state = 'done'),
		'subscriptions', (SELECT count(*) FROM subscription s WHERE s.organization_id = o.id))
		FROM organization o WHERE id = $1`, org).Scan(&got)
	if err != nil {
		return err
	}
	if want := fmt.Sprintf("live open true epoch 1 entries 1 steps %d subscriptions 1", len(provisioning.Steps())); got != want {
		return fmt.Errorf("it is %q instead of %q", got, want)
	}
	var members, probes int
	if err := w.cellAdmin.QueryRow(ctx, `SELECT (SELECT count(*) FROM `+tenants.SchemaName(org)+`.member), (SELECT count(*) FROM `+tenants.SchemaName(org)+`.probe)`).Scan(&members, &probes); err != nil {
		return err
	}
	if members != 1 || probes != 0 {
		return fmt.Errorf("%d members, %d probes left", members, probes)
	}
	if s, err := w.keys.Status(ctx, kms.KeyName(org)); err != nil || s.State != kms.StateAlive || s.Version != 1 {
		return fmt.Errorf("its key is %+v: %w", s, err)
	}
	return w.asTenant(ctx, org, `SELECT 1`)
}

// settled waits until the organizations are as one provisioning leaves them.
func (w *world) settled(t *testing.T, orgs ...tenants.ID) (wrong int) {
	t.Helper()
	for _, org := range orgs {
		var err error
		if !assert.Eventually(t, func() bool { err = w.once(org); return err == nil }, converge, 50*time.Millisecond) {
			t.Logf("%s: %v", org, err)
			wrong++
		}
	}
	return wrong
}

// TestKilledInAWriteItResumes kills a process in each of the writes of provisioning,
// as it is made or as it commits, and leaves the rest to the next process.
func TestKilledInAWriteItResumes(t *testing.T) {
	t.Parallel()
	w := faulty(t)
	writes := map[string]*testkit.Writes{
		"control": testkit.CountWrites(t, w.control, "public.organization", "public.provisioning_step", "public.audit_entry", "public.subscription"),
		"cell":    testkit.CountWrites(t, w.cell, "cell"),
	}
	p := w.start()
	first := w.agreed()
	kills := newKilling(3, places(t, writes, func() {
		w.ask(first)
		require.Zero(t, w.settled(t, first))
	}))
	wrong := 0
	for at, more := kills.next(); more; at, more = kills.next() {
		org := w.agreed()
		kills.came(w.kill(t, p, at, func() { w.ask(org) }, func() bool { return w.once(org) == nil }))
		p = w.start()
		wrong += w.settled(t, org)
	}
	kills.whole(t)
	prove.State(t, prove.KilledProvisioning, kills.met, wrong)
	w.accounted(t)

	// The twin: what two provisionings would leave.
	w.exec(`UPDATE organization SET placement_epoch = 2 WHERE id = $1`, first)
	noticed := 0
	if w.once(first) != nil {
		noticed++
	}
	prove.Plant(t, prove.KilledProvisioning, 1, noticed)
}

// TestKilledAtAnyMomentItResumes kills processes at random while they provision
// several organizations at once. After every few a process is left alone until all that
// was asked for is there: more at a time would be a queue's length, not a recovery.
func TestKilledAtAnyMomentItResumes(t *testing.T) {
	t.Parallel()
	w := faulty(t)
	const few = 3
	killed, wrong := 0, 0
	for killed < prove.Size(few, 440) {
		var orgs []tenants.ID
		for range few {
			for range 4 {
				orgs = append(orgs, w.organization())
			}
			p := w.start()
			moment := time.NewTimer(200*time.Millisecond + rand.N(2*time.Second))
			<-moment.C
			p.kill(t)
			killed++
		}
		p := w.start()
		wrong += w.settled(t, orgs...)
		p.kill(t)
	}
	w.start()
	prove.State(t, prove.KilledProvisioning, killed, wrong)
	w.accounted(t)
}
