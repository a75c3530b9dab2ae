package provisioning_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/cptest"
	"github.com/caresphere/caresphere/controlplane/provisioning"
	"github.com/caresphere/caresphere/internal/kms"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/internal/testkit/prove"
	"github.com/caresphere/caresphere/tenants"
)

// TestEachFailedWriteOfARotationIsTakenUpAgain makes writes of a rotation fail, one at
// a time, in both databases and in the tenant's schema. The next try completes it:
// one version more, nothing wrapped by an older one, and every record readable.
func TestEachFailedWriteOfARotationIsTakenUpAgain(t *testing.T) {
	t.Parallel()
	ctx, b := context.Background(), setup(t)
	o := b.provisioned(t)
	records := b.worker().Seal(t, o.id, 2)
	p := b.impatient(t)
	schema := tenants.SchemaName(o.id)
	databases := map[string]*testkit.Writes{
		"control": testkit.CountWrites(t, b.control, "public"),
		"cell":    testkit.CountWrites(t, b.cell, "cell", schema+".data_key", schema+".audit_entry"),
	}
	for _, w := range databases {
		w.Begin()
	}
	b.asked(t, o.id)
	require.NoError(t, rotated(ctx, p, o.id))
	version := 2
	require.NoError(t, b.worker().Turned(ctx, o.id, version, records))
	all := failures(t, databases, 10)
	tried, wrong := 0, 0
	for _, f := range all {
		version++
		switch err := b.rotatedThroughAFailedWrite(t, p, databases, f, o.id, version, records); {
		case errors.Is(err, errPassed):
			t.Logf("%s, write %d (%s): %v", f.name, f.at, f.how, err)
			continue
		case err != nil:
			wrong++
			t.Errorf("%s, write %d (%s): %v", f.name, f.at, f.how, err)
		}
		tried++
	}
	require.Greater(t, 2*tried, len(all), "most writes were made to fail")
	prove.State(t, prove.FailedWrites, tried, wrong)

	// The twins: a wrap that was passed over, and a rotation that was made twice.
	noticed := 0
	stale, err := b.worker().Newest(ctx, o.id, "field")
	require.NoError(t, err)
	b.asked(t, o.id)
	require.NoError(t, rotated(ctx, p, o.id))
	version++
	require.NoError(t, b.worker().Turned(ctx, o.id, version, records))
	fresh, err := b.worker().ByID(ctx, o.id, stale.ID)
	require.NoError(t, err)
	store := func(wrapped []byte) {
		_, err := b.cellAdmin.Exec(ctx, `UPDATE `+schema+`.data_key SET wrapped = $1 WHERE id = $2`, wrapped, stale.ID)
		require.NoError(t, err)
	}
	store(stale.Wrapped)
	if b.worker().Turned(ctx, o.id, version, records) != nil {
		noticed++
	}
	store(fresh.Wrapped)
	require.NoError(t, b.worker().Turned(ctx, o.id, version, records))
	_, err = b.keys.Rotate(ctx, kms.KeyName(o.id))
	require.NoError(t, err)
	if b.worker().Turned(ctx, o.id, version, records) != nil {
		noticed++
	}
	prove.Plant(t, prove.FailedWrites, 2, noticed)
}

// rotatedThroughAFailedWrite rotates a key with one failed write on the way, or returns
// errPassed if the rotation did not come to it.
func (b *bundle) rotatedThroughAFailedWrite(t *testing.T, p *provisioning.Provisioner, databases map[string]*testkit.Writes, f failure, org tenants.ID, version int, records []cptest.Record) error {
	ctx := context.Background()
	f.where.Arm(f.how, f.at)
	// Asking writes too: the control plane's own transaction, which leaves nothing.
	id, passed := tenants.NewID(), false
	if _, err := b.admin.Exec(ctx, `INSERT INTO key_rotation (id, organization_id, cell_id, asked_by) VALUES ($1, $2, 'main', 'operator')`, id, org); err != nil {
		passed = true
		for _, w := range databases {
			w.Begin()
		}
		b.exec(t, `INSERT INTO key_rotation (id, organization_id, cell_id, asked_by) VALUES ($1, $2, 'main', 'operator')`, id, org)
	}
	first := rotated(ctx, p, org)
	passed = passed || f.where.Seen(f.how) < f.at
	for _, w := range databases {
		w.Begin()
	}
	state := b.text(t, `SELECT state FROM key_rotation WHERE id = $1`, id)
	if entries := b.text(t, `SELECT count(*)::text FROM audit_entry WHERE action = 'key.rotate.done' AND record_id = $1`, id.String()); (state == provisioning.RotationDone) != (entries == "1") {
		return fmt.Errorf("the rotation is %s with %s entries that say it is done", state, entries)
	}
	if first == nil && state != provisioning.RotationDone {
		return fmt.Errorf("it says that it is done, and it is %s", state)
	}
	var known *provisioning.Failure
	if errors.As(first, &known) && strings.Contains(known.Reason, "planted") {
		return fmt.Errorf("the reason shows what the database said: %s", known.Reason)
	}
	// A lease that could not be given back: what its life would do.
	b.exec(t, `UPDATE provisioning_lease SET until = now() - interval '1 second' WHERE organization_id = $1`, org)
	if err := rotated(ctx, p, org); err != nil {
		return fmt.Errorf("the next try: %w", err)
	}
	if err := b.worker().Turned(ctx, org, version, records); err != nil || !passed {
		return err
	}
	return errPassed
}
