package router

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/tenants"
)

func fleetOf(n int) (ups []*upstream) {
	for i := range n {
		ups = append(ups, &upstream{worker: tenants.Worker{ID: fmt.Sprintf("worker-%d", i)}})
	}
	return ups
}

// homes says which worker each of a thousand tenants keeps to.
func homes(t *testing.T, ups []*upstream) map[string]string {
	t.Helper()
	at := map[string]string{}
	for i := range 1000 {
		tenant := fmt.Sprintf("org-%d", i)
		at[tenant] = choose(ups, nil, tenant).worker.ID
		for range 5 {
			require.Equal(t, at[tenant], choose(ups, nil, tenant).worker.ID, "it keeps to one")
		}
	}
	return at
}

func TestATenantKeepsToOneWorker(t *testing.T) {
	ups := fleetOf(4)
	before := homes(t, ups)
	share := map[string]int{}
	for _, id := range before {
		share[id]++
	}
	for _, u := range ups {
		require.InDelta(t, 250, share[u.worker.ID], 75, "all have about as many")
	}

	// A worker that goes moves its own tenants only, and one that is sick too.
	for tenant, id := range homes(t, ups[:3]) {
		if before[tenant] != ups[3].worker.ID {
			require.Equal(t, before[tenant], id)
		}
	}
	ups[3].sick.Store(true)
	for tenant, id := range homes(t, ups) {
		require.NotEqual(t, ups[3].worker.ID, id)
		if before[tenant] != ups[3].worker.ID {
			require.Equal(t, before[tenant], id)
		}
	}
}

func TestABusyWorkersTenantsGoToTheNext(t *testing.T) {
	ups := fleetOf(3)
	first := choose(ups, nil, "oak")
	first.busy.Store(spill)
	require.Same(t, first, choose(ups, nil, "oak"), "not yet")
	first.busy.Store(spill + 1)
	second := choose(ups, nil, "oak")
	require.NotSame(t, first, second)
	require.Same(t, second, choose(ups, []*upstream{first}, "oak"), "the one that a repeat goes to as well")
	second.busy.Store(spill + 1)
	require.Same(t, first, choose(ups, nil, "oak"), "where all are busy it stays")
}

func TestWithoutATenantTheLessBusyIsChosen(t *testing.T) {
	ups := fleetOf(2)
	ups[0].busy.Store(1)
	for range 20 {
		require.Same(t, ups[1], choose(ups, nil, ""))
	}
	require.Nil(t, choose(nil, nil, ""))
	require.Same(t, ups[0], choose(ups, ups[1:], ""))
	ups[0].sick.Store(true)
	ups[1].sick.Store(true)
	require.NotNil(t, choose(ups, nil, "oak"), "a fleet that looks dead is asked all the same")
}
