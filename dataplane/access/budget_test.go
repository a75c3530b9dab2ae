package access_test

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/dataplane/access"
	"github.com/caresphere/caresphere/dataplane/dptest"
	"github.com/caresphere/caresphere/dataplane/store"
	"github.com/caresphere/caresphere/tenants"
)

// TestTheConnectionsOfAllTenantsAreBounded lets many tenants' people ask at once. A
// worker with places for few connections serves all of them and never has more open;
// one with places for many, the twin, has more. Whoever is told to come again does so:
// how long a place takes to come free is the machine's, that it does is ours.
func TestTheConnectionsOfAllTenantsAreBounded(t *testing.T) {
	const organizations, few, answers = 8, 6, 5
	most := func(t *testing.T, budget int) int {
		cell := dptest.Start(t, dptest.WithConnections(budget))
		var people []*dptest.Person
		for i := range organizations {
			people = append(people, cell.Tenant(t, "harbor-"+string(rune('a'+i)), tenants.Residential).Owner)
		}
		looking, stop := context.WithCancel(t.Context())
		defer stop()
		highest := make(chan int)
		watch := dptest.Super(t, cell.DB)
		go func() {
			top := 0
			for looking.Err() == nil {
				var n int
				err := watch.QueryRow(context.WithoutCancel(looking), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename LIKE 't\_%'`).Scan(&n)
				if err != nil {
					n = -1
				}
				top = max(top, n)
			}
			highest <- top
		}()
		var wg sync.WaitGroup
		for _, p := range people {
			for range 3 {
				wg.Go(func() {
					for got := 0; got < answers; {
						a := p.Do(t, http.MethodGet, "/facilities", nil)
						if a.Status == http.StatusOK {
							got++
						} else if !assert.Equal(t, http.StatusServiceUnavailable, a.Status, string(a.Body)) {
							return
						}
					}
				})
			}
		}
		wg.Wait()
		stop()
		return <-highest
	}
	t.Run("few", func(t *testing.T) {
		n := most(t, few)
		require.Positive(t, n)
		require.LessOrEqual(t, n, few)
	})
	t.Run("many", func(t *testing.T) { require.Greater(t, most(t, 200), few) })
}

// TestWhereConnectionsAreShortNobodyOpensASecond: a tenant's reads at once share a
// connection for their entries. While somebody waits for a place, they do without it.
func TestWhereConnectionsAreShortNobodyOpensASecond(t *testing.T) {
	cell := dptest.Start(t, dptest.WithConnections(4)) // three places, and one for second connections
	var actors []tenants.Actor
	for _, slug := range []string{"harbor", "meadow", "orchard", "willow"} {
		org := cell.Tenant(t, slug, tenants.Residential)
		actors = append(actors, org.Actor(t, org.Owner))
	}
	var wg sync.WaitGroup
	read := func(actor tenants.Actor, then func()) {
		wg.Go(func() {
			err := cell.Door.Do(t.Context(), actor, tenants.PermFacilityRead, access.Target{Action: "facility.list", RecordType: "facility", OneRead: true},
				func(ctx context.Context, tx *access.Tx) error {
					_, err := tx.ListFacilities(ctx, store.ListFacilitiesParams{Facilities: tx.Actor.Facilities, PageSize: 5})
					then()
					return err
				})
			assert.NoError(t, err)
		})
	}
	// held begins a read that keeps its place until it is let go.
	held := func(actor tenants.Actor) (letGo func()) {
		begun, end := make(chan struct{}), make(chan struct{})
		read(actor, func() { close(begun); <-end })
		<-begun
		return func() { close(end) }
	}

	first := held(actors[0])
	read(actors[0], func() {})
	require.Eventually(t, func() bool { return cell.Door.EntriesOpened(actors[0].TenantID) == 1 }, 30*time.Second, time.Millisecond, "with places left")
	first()
	wg.Wait()

	second, third, fourth := held(actors[1]), held(actors[2]), held(actors[3])
	read(actors[0], func() {})
	require.Eventually(t, func() bool { return cell.Door.Waiting() == 1 }, 30*time.Second, time.Millisecond)
	read(actors[1], func() {})
	require.Eventually(t, func() bool { return cell.Door.Waiting() == 2 }, 30*time.Second, time.Millisecond)
	third()
	fourth()
	second()
	wg.Wait()
	require.Zero(t, cell.Door.EntriesOpened(actors[1].TenantID))
}
