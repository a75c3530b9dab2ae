package baa_test

import (
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/baa"
	"github.com/caresphere/caresphere/controlplane/cptest"
	"github.com/caresphere/caresphere/tenants"
)

func TestANewVersionSupersedes(t *testing.T) {
	t.Parallel()
	w := cptest.New(t)
	o := w.Organization(t, "haven")
	first := w.Execute(t, o)
	w.Live(t, o)
	until := w.Value(t, "SELECT gate_until FROM organization WHERE id = $1", o.ID)
	version := w.Value(t, "SELECT version FROM route_version")

	w.Clock.Advance(24 * time.Hour)
	second := w.Execute(t, o)
	assert.Equal(t, "superseded", w.Value(t, "SELECT state FROM baa WHERE id = $1", first.ID))
	assert.Contains(t, w.Value(t, "SELECT ended_reason FROM baa WHERE id = $1", first.ID), second.ID.String())
	assert.Equal(t, "open", w.Value(t, "SELECT gate_mode FROM organization WHERE id = $1", o.ID))
	assert.NotEqual(t, until, w.Value(t, "SELECT gate_until FROM organization WHERE id = $1", o.ID), "the route lasts as long as the new agreement")
	assert.NotEqual(t, version, w.Value(t, "SELECT version FROM route_version"))
	assert.Equal(t, "live", w.Value(t, "SELECT state FROM organization WHERE id = $1", o.ID))
	assert.Equal(t, "1", w.Value(t, "SELECT count(*) FROM river_job WHERE kind = 'provision'"), "a live organization is not provisioned again")
}

func TestSupersededTemplateMustBeDoneAgain(t *testing.T) {
	t.Parallel()
	w := cptest.New(t)
	o, p := w.Organization(t, "haven"), w.Organization(t, "other")
	signed := w.Signed(t, o)
	draft, err := w.BAA.Draft(ctx, p.Owner, 0)
	require.NoError(t, err)

	template, err := baa.LoadTemplate(fstest.MapFS{
		"templates/v2/agreement.txt":   {Data: []byte("# Agreement {{.AgreementID}} of {{.Customer}}\n")},
		"templates/v2/statements.json": {Data: []byte(`{"customer":{"consent":"c","intent":"i","authority":""},"operator":{"consent":"c","intent":"i","authority":"a"}}`)},
	}, "v2")
	require.NoError(t, err)
	newer := w.Agreements(t, &template)

	_, err = newer.Countersign(ctx, cptest.Operator(), signed.ID, countersigning(signed))
	assert.Equal(t, tenants.KindConflict, tenants.KindOf(err))
	_, err = newer.Sign(ctx, p.Owner, draft.ID, cptest.Declaration())
	assert.Equal(t, tenants.KindConflict, tenants.KindOf(err))

	again, err := newer.Draft(ctx, o.Owner, 0)
	require.NoError(t, err)
	assert.Equal(t, "v2", again.TemplateVersion)
	assert.Equal(t, "superseded", w.Value(t, "SELECT state FROM baa WHERE id = $1", signed.ID))
	again, err = newer.Sign(ctx, o.Owner, again.ID, cptest.Declaration())
	require.NoError(t, err)
	_, err = newer.Draft(ctx, o.Owner, 0)
	assert.Equal(t, tenants.KindConflict, tenants.KindOf(err), "one that was signed waits")
	_, err = newer.Countersign(ctx, cptest.Operator(), again.ID, countersigning(again))
	require.NoError(t, err)
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	w := cptest.New(t)
	o, p := w.Organization(t, "short"), w.Organization(t, "long")
	a, err := w.BAA.Draft(ctx, o.Owner, 1)
	require.NoError(t, err)
	a, err = w.BAA.Sign(ctx, o.Owner, a.ID, cptest.Declaration())
	require.NoError(t, err)
	a, err = w.BAA.Countersign(ctx, cptest.Operator(), a.ID, countersigning(a))
	require.NoError(t, err)
	w.Execute(t, p)
	w.Live(t, o)
	w.Live(t, p)

	n, err := w.BAA.ExpireDue(ctx)
	require.NoError(t, err)
	assert.Zero(t, n, "nothing is due yet")

	w.Clock.Advance(32 * 24 * time.Hour)
	second := w.Agreements(t, nil)
	var wg sync.WaitGroup
	ended := make([]int, 6)
	for i := range ended {
		service := []*baa.Service{w.BAA, second}[i%2]
		wg.Go(func() {
			n, err := service.ExpireDue(ctx)
			assert.NoError(t, err)
			ended[i] = n
		})
	}
	wg.Wait()
	total := 0
	for _, n := range ended {
		total += n
	}
	assert.Equal(t, 1, total, "several control planes end an agreement once")
	assert.Equal(t, "1", w.Value(t, "SELECT count(*) FROM audit_entry WHERE action = 'baa.expire'"))
	assert.Equal(t, "expired", w.Value(t, "SELECT state FROM baa WHERE id = $1", a.ID))
	assert.Equal(t, "closed", w.Value(t, "SELECT gate_mode FROM organization WHERE id = $1", o.ID))
	assert.Equal(t, "open", w.Value(t, "SELECT gate_mode FROM organization WHERE id = $1", p.ID))

	w.Execute(t, o)
	assert.Equal(t, "open", w.Value(t, "SELECT gate_mode FROM organization WHERE id = $1", o.ID), "a new agreement restores it")
}

func TestTerminationClosesTheGateAndANewAgreementOpensIt(t *testing.T) {
	t.Parallel()
	w := cptest.New(t)
	o := w.Organization(t, "haven")
	a := w.Execute(t, o)
	w.Live(t, o)
	require.Equal(t, "open", w.Value(t, "SELECT gate_mode FROM organization WHERE id = $1", o.ID))

	a, err := w.BAA.Terminate(ctx, o.Owner, a.ID, "We move to another vendor")
	require.NoError(t, err)
	assert.Equal(t, "We move to another vendor", a.EndedReason)
	assert.Equal(t, "closed baa_not_in_force", w.Value(t, "SELECT gate_mode || ' ' || gate_reason FROM organization WHERE id = $1", o.ID))
	assert.Equal(t, "live", w.Value(t, "SELECT state FROM organization WHERE id = $1", o.ID), "the organization keeps its state; the gate is closed")
	jobs := w.Value(t, "SELECT string_agg(args->>'version', ',' ORDER BY id) FROM river_job WHERE kind = 'apply_gate'")
	assert.Equal(t, "1,2", jobs)

	w.Execute(t, o)
	assert.Equal(t, "open", w.Value(t, "SELECT gate_mode FROM organization WHERE id = $1", o.ID))
	assert.Equal(t, "3", w.Value(t, "SELECT count(*) FROM river_job WHERE kind = 'apply_gate'"))
}

func TestFailedProvisioningGoesOnWithANewAgreement(t *testing.T) {
	t.Parallel()
	w := cptest.New(t)
	o := w.Organization(t, "haven")
	w.Execute(t, o)
	w.Super(t, "UPDATE organization SET state = 'provisioning_failed', state_reason = 'x' WHERE id = $1", o.ID)
	w.Execute(t, o)
	assert.Equal(t, "provisioning", w.Value(t, "SELECT state FROM organization WHERE id = $1", o.ID))
	assert.Equal(t, "2", w.Value(t, "SELECT count(*) FROM river_job WHERE kind = 'provision'"))

	w.Super(t, "UPDATE organization SET state = 'closed' WHERE id = $1", o.ID)
	_, err := w.BAA.Draft(ctx, o.Owner, 0)
	assert.Equal(t, tenants.KindConflict, tenants.KindOf(err))
}

func TestTwoOperatorsCountersignAtOnce(t *testing.T) {
	t.Parallel()
	w := cptest.New(t)
	a := w.Signed(t, w.Organization(t, "haven"))
	var wg sync.WaitGroup
	kinds := make([]tenants.Kind, 4)
	for i := range kinds {
		wg.Go(func() {
			_, err := w.BAA.Countersign(ctx, cptest.Operator(), a.ID, countersigning(a))
			kinds[i] = tenants.KindOf(err)
		})
	}
	wg.Wait()
	count := map[tenants.Kind]int{}
	for _, k := range kinds {
		count[k]++
	}
	assert.Equal(t, map[tenants.Kind]int{"": 1, tenants.KindConflict: 3}, count)
	assert.Equal(t, "1", w.Value(t, "SELECT count(*) FROM river_job WHERE kind = 'provision'"))
}

// Evidence that somebody with the database's password replaced is not countersigned.
func TestForgedCustomerEvidenceIsNotCountersigned(t *testing.T) {
	t.Parallel()
	w := cptest.New(t)
	a := w.Signed(t, w.Organization(t, "haven"))
	w.Super(t, "ALTER TABLE baa DISABLE TRIGGER ALL")
	w.Super(t, "UPDATE baa SET customer_evidence = set_byte(customer_evidence, 40, 88) WHERE id = $1", a.ID)
	w.Super(t, "ALTER TABLE baa ENABLE ALWAYS TRIGGER baa_guard_row")
	before := w.Snapshot(t)
	_, err := w.BAA.Countersign(ctx, cptest.Operator(), a.ID, countersigning(a))
	assert.Equal(t, tenants.KindIntegrity, tenants.KindOf(err))
	assert.Equal(t, before, w.Snapshot(t))
}
