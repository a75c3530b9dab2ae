package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
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

// place is a write at which a process is killed.
type place struct {
	where *testkit.Writes
	name  string
	how   testkit.FailAt
	at    int
	// drop has the server end the held write; else it is completed for nobody.
	drop bool
}

// places counts the writes that f makes and returns all of them, or in a usual run
// as many as are wanted, drawn at random.
func places(t *testing.T, wanted int, writes map[string]*testkit.Writes, f func()) (all []place) {
	t.Helper()
	for _, w := range writes {
		w.Begin()
	}
	f()
	for name, w := range writes {
		for _, how := range []testkit.FailAt{testkit.InStatement, testkit.AtCommit} {
			n := w.Seen(how)
			t.Logf("%s: %d writes (%s)", name, n, how)
			for at := 1; at <= n; at++ {
				all = append(all, place{w, name, how, at, at%2 == 0})
			}
		}
	}
	require.NotEmpty(t, all)
	seed := uint64(time.Now().UnixNano())
	t.Logf("drawn with seed %d", seed)
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	if !prove.Nightly() {
		all = all[:min(wanted, len(all))]
	}
	return all
}

// asked are the writes that whoever asks makes himself, before the provisioner's.
type asked map[*testkit.Writes]map[testkit.FailAt]int

// asks counts the writes that f makes while no provisioner is at work.
func asks(writes map[string]*testkit.Writes, f func()) asked {
	for _, w := range writes {
		w.Begin()
	}
	f()
	own := asked{}
	for _, w := range writes {
		own[w] = map[testkit.FailAt]int{}
		for _, how := range []testkit.FailAt{testkit.InStatement, testkit.AtCommit} {
			own[w][how] = w.Seen(how)
		}
	}
	return own
}

// without takes the asker's writes out: a kill there meets nobody.
func (a asked) without(all []place) []place {
	return slices.DeleteFunc(all, func(p place) bool { return p.at <= a[p.where][p.how] })
}

// kill lets a write begin, kills the process there and lets the write go on for
// nobody, or ends it as a server does whose client is gone. It is false when the
// work ended without coming to the write.
func (w *world) kill(t *testing.T, p *process, at place, begin func(), over func() bool) bool {
	t.Helper()
	reached, release := at.where.Hold(at.how, at.at)
	// What begins it may write the same table and be held itself.
	var beginning sync.WaitGroup
	beginning.Go(begin)
	there := false
	require.Eventually(t, func() bool { there = reached(); return there || over() }, converge, 10*time.Millisecond, "%s %d (%s)", at.name, at.at, at.how)
	p.kill(t)
	if there && at.drop {
		at.where.Drop()
	}
	release()
	beginning.Wait()
	return there
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
	all := places(t, 3, writes, func() {
		w.ask(first)
		require.Zero(t, w.settled(t, first))
	})
	killed, wrong := 0, 0
	for _, at := range all {
		org := w.agreed()
		if w.kill(t, p, at, func() { w.ask(org) }, func() bool { return w.once(org) == nil }) {
			killed++
		}
		p = w.start()
		wrong += w.settled(t, org)
	}
	prove.State(t, prove.KilledProvisioning, killed, wrong)
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
