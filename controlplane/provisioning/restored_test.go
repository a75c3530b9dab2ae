package provisioning_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/tenants"
)

const gatesRaised = `SELECT count(*)::text FROM audit_entry WHERE action = 'gate.raise'`

// ahead has the cell look as if the control database had been restored since: the cell
// has decisions that it knows nothing of.
func (b *bundle) ahead(t *testing.T, id tenants.ID, by int) {
	t.Helper()
	_, err := b.cellAdmin.Exec(context.Background(), `UPDATE cell.tenant_fence SET gate_version = gate_version + $2, gate_open = true WHERE tenant_id = $1`, id, by)
	require.NoError(t, err)
}

// A decision of a restored control database holds, and is not taken for applied before.
func TestAGateHoldsWhoseCellIsAhead(t *testing.T) {
	ctx, b := context.Background(), setup(t)
	o := b.provisioned(t)
	b.decided(t, o.id, tenants.GateClosed)
	require.NoError(t, b.p.ApplyGate(ctx, o.id))
	b.decided(t, o.id, tenants.GateOpen)
	require.NoError(t, b.p.ApplyGate(ctx, o.id))
	require.Equal(t, "0", b.text(t, gatesRaised), "the twin: decisions in order raise nothing")

	b.ahead(t, o.id, 10)
	b.decided(t, o.id, tenants.GateClosed)
	const applied = `SELECT (gate_applied = gate_version)::text FROM organization WHERE id = $1`
	b.exec(t, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'planted'; END $$`)
	b.exec(t, `CREATE TRIGGER refuse BEFORE INSERT ON audit_entry FOR EACH ROW WHEN (NEW.action = 'gate.raise') EXECUTE FUNCTION refuse()`)
	require.ErrorContains(t, b.p.ApplyGate(ctx, o.id), "planted")
	require.Equal(t, "false", b.text(t, applied, o.id), "what did not reach the cell is not applied")
	b.requireGate(t, o.id, true)

	b.exec(t, `DROP TRIGGER refuse ON audit_entry`)
	require.NoError(t, b.p.ApplyGate(ctx, o.id))
	require.Equal(t, "true", b.text(t, applied, o.id))
	require.Equal(t, "1", b.text(t, gatesRaised))
	b.requireGate(t, o.id, false)
	require.Equal(t, b.text(t, `SELECT gate_version::text FROM organization WHERE id = $1`, o.id),
		b.cellText(t, `SELECT gate_version::text FROM cell.tenant_fence WHERE tenant_id = $1`, o.id))
	b.decided(t, o.id, tenants.GateOpen)
	require.NoError(t, b.p.ApplyGate(ctx, o.id))
	b.requireGate(t, o.id, true)
}

// A gate that a restored database takes for applied is found by the cell's version.
func TestAForgottenGateIsAppliedAnew(t *testing.T) {
	ctx, b := context.Background(), setup(t)
	o, other := b.provisioned(t), b.provisioned(t)
	n, err := b.p.RaiseForgotten(ctx)
	require.NoError(t, err)
	require.Zero(t, n)

	// The backup was made while the organization was suspended; it was resumed since.
	b.ahead(t, o.id, 3)
	b.exec(t, `UPDATE organization SET state = 'suspended', gate_mode = 'closed' WHERE id = $1`, o.id)
	n, err = b.p.RaiseForgotten(ctx)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Equal(t, o.id.String(), b.text(t, `SELECT id::text FROM organization WHERE gate_applied < gate_version`))
	require.NoError(t, b.p.ApplyGate(ctx, o.id))
	b.requireGate(t, o.id, false)
	b.requireGate(t, other.id, true)
	n, err = b.p.RaiseForgotten(ctx)
	require.NoError(t, err)
	require.Zero(t, n)
}

// What was closed since the backup was made stays closed: the agreement may have ended.
// Whoever knows better suspends the organization and resumes it.
func TestARestoreOpensNothing(t *testing.T) {
	ctx, b := context.Background(), setup(t)
	o := b.provisioned(t)
	b.decided(t, o.id, tenants.GateClosed)
	require.NoError(t, b.p.ApplyGate(ctx, o.id))
	b.exec(t, `UPDATE organization SET gate_mode = 'open', gate_version = gate_version - 1, gate_applied = gate_version - 1 WHERE id = $1`, o.id)
	_, err := b.p.RaiseForgotten(ctx)
	require.ErrorContains(t, err, "does not know")
	require.ErrorContains(t, b.p.ApplyGate(ctx, o.id), "does not know")
	b.requireGate(t, o.id, false)
	require.Equal(t, "0", b.text(t, gatesRaised))

	b.decided(t, o.id, tenants.GateClosed)
	require.NoError(t, b.p.ApplyGate(ctx, o.id))
	b.decided(t, o.id, tenants.GateOpen)
	require.NoError(t, b.p.ApplyGate(ctx, o.id))
	b.requireGate(t, o.id, true)
}

// A lease is above what the cell has seen, also from a database that forgot the last.
func TestALeaseIsTakenWhoseCellIsAhead(t *testing.T) {
	ctx, b := context.Background(), setup(t)
	for name, c := range map[string]struct {
		lease, cell int64
		want        string
	}{
		"never taken, as far as it is known": {0, 40, "41"},
		"taken earlier":                      {7, 100, "101"},
		"ahead of the cell, as always":       {7, 3, "8"},
	} {
		t.Run(name, func(t *testing.T) {
			org, _ := b.organization(t)
			_, err := b.cellAdmin.Exec(ctx, `INSERT INTO cell.tenant_fence (tenant_id, fence) VALUES ($1, $2)`, org, c.cell)
			require.NoError(t, err)
			if c.lease > 0 {
				b.exec(t, `INSERT INTO provisioning_lease (organization_id, fence, holder, until) VALUES ($1, $2, 'gone', now() - interval '1 minute')`, org, c.lease)
			}
			require.NoError(t, b.p.Provision(ctx, org, true))
			require.Equal(t, "live", b.text(t, `SELECT state FROM organization WHERE id = $1`, org))
			require.Equal(t, c.want, b.text(t, `SELECT fence::text FROM provisioning_lease WHERE organization_id = $1`, org))
			require.Equal(t, c.want, b.cellText(t, `SELECT fence::text FROM cell.tenant_fence WHERE tenant_id = $1`, org))
		})
	}
}
