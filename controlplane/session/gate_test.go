package session

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/identity"
	"github.com/caresphere/caresphere/internal/pause"
	"github.com/caresphere/caresphere/tenants"
)

// away is a realm whose Kratos prolongs nothing; what else the gate asks is not asked here.
type away struct {
	Identities
	tries int
}

func (a *away) ExtendSession(context.Context, tenants.ID) error {
	a.tries++
	return tenants.NewError(tenants.KindUnavailable, "away")
}

// Each try costs a request up to a second.
func TestASessionIsProlongedAgainAfterAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ids away
		g := NewGate(Customer, &ids, nil, Limits{})
		defer g.extending.StopAllGoroutines()
		one, other := tenants.NewID(), tenants.NewID()
		try := func(session tenants.ID, left time.Duration) int {
			now := time.Now()
			require.NoError(t, g.prolong(t.Context(), identity.Session{ID: session, ExpiresAt: now.Add(left)}, now))
			return ids.tries
		}
		require.Zero(t, try(one, extendBelow), "it is long enough")
		require.Equal(t, 1, try(one, extendBelow-time.Second))
		require.NoError(t, pause.For(t.Context(), extendPause-time.Second))
		require.Equal(t, 1, try(one, time.Minute))
		require.Equal(t, 2, try(other, time.Minute), "each session has its own pause")
		require.NoError(t, pause.For(t.Context(), 2*time.Second))
		require.Equal(t, 3, try(one, time.Minute))
	})
}
