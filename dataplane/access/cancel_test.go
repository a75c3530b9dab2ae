package access_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/dataplane/dptest"
	"github.com/caresphere/caresphere/tenants"
)

// TestACancelledStatementGivesItsPlaceBack cancels a request whose statement hangs,
// where the worker has a place for one connection: the server is told over a connection
// that needs none, and the place is free for the entry and for the next request.
func TestACancelledStatementGivesItsPlaceBack(t *testing.T) {
	cell := dptest.Start(t, dptest.WithConnections(1))
	org := cell.Tenant(t, "harbor", tenants.Residential)
	actor := org.Actor(t, org.Owner)
	plantHole(t, cell, org)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	hung := tenants.NewID()
	done := make(chan error, 1)
	go func() { done <- slip(ctx, cell, actor, hung, "SELECT pg_sleep(60)") }()
	sleeping := func() int {
		return cell.Count(t, "SELECT count(*) FROM pg_stat_activity WHERE usename = $1 AND wait_event = 'PgSleep'", org.Role)
	}
	require.Eventually(t, func() bool { return sleeping() == 1 }, 30*time.Second, time.Millisecond)
	cancel()
	require.True(t, tenants.IsKind(<-done, tenants.KindUnavailable))
	require.Equal(t, 1, cell.Count(t, "SELECT count(*) FROM "+org.Role+".audit_entry WHERE record_id = $1 AND outcome = 'failed'", hung.String()))
	require.Zero(t, sleeping())
	require.NoError(t, slip(t.Context(), cell, actor, tenants.NewID(), "SELECT 1"))
}
