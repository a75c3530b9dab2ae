package access_test

import (
	"context"
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/dataplane/dptest"
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
