package main

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/isolation"
	"github.com/caresphere/caresphere/tenants"
)

// TestAMovingGateQuarantinesNobody proves a tenant while the decision to close its gate
// cannot be carried out, as when a part of the platform is slow; and once it was, both
// as it should be and with a login that was opened again.
func TestAMovingGateQuarantinesNobody(t *testing.T) {
	t.Parallel()
	y := newYard(t, 2)
	ctx, victim := context.Background(), y.tenants[0]
	y.prove("") // so that none is due
	state := `SELECT state || ' ' || gate_mode FROM organization WHERE id = $1`

	held, err := y.cellAdmin.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = held.Rollback(ctx) }() // or nothing could be taken down
	_, err = held.Exec(ctx, `SELECT FROM cell.tenant_fence WHERE tenant_id = $1 FOR UPDATE`, victim)
	require.NoError(t, err)
	require.NoError(t, y.fleet.Suspend(ctx, riley, victim, "for the test"))
	found := y.prove(y.slug(victim)).Tenants[0]
	require.Equal(t, isolation.Unproven, found.Verdict, all(found))
	require.Empty(t, found.Findings)
	require.Contains(t, found.Unproven, "declared: login role: login does not follow the gate (declared closed, found open), but the gate was moving")
	require.Equal(t, "suspended closed", y.text(state, victim))

	require.NoError(t, held.Rollback(ctx))
	y.eventually(60*time.Second, "true", `SELECT (gate_applied = gate_version)::text FROM organization WHERE id = $1`, victim)
	found = y.prove(y.slug(victim)).Tenants[0]
	require.Equal(t, isolation.Proven, found.Verdict, all(found))

	y.cellExec(`ALTER ROLE ` + tenants.RoleName(victim) + ` LOGIN`)
	found = y.prove(y.slug(victim)).Tenants[0]
	require.Equal(t, isolation.Failed, found.Verdict, all(found))
	require.Equal(t, "quarantined closed", y.text(state, victim))
}
