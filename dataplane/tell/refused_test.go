package tell

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/dataplane/access"
	"github.com/caresphere/caresphere/tenants"
)

// debtor has things to say until they were told; its control plane answers to each with
// what stands in errs.
type debtor struct {
	errs        map[tenants.ID]error
	page        []access.Untold
	asked, told int
}

// owing has one thing to say for each answer, in that order.
func owing(answers ...tenants.Kind) *debtor {
	d := &debtor{errs: map[tenants.ID]error{}}
	for _, kind := range answers {
		u := access.Untold{ID: tenants.NewID()}
		d.page = append(d.page, u)
		d.errs[u.ID] = tenants.NewError(kind, "refused")
	}
	return d
}

func (d *debtor) Untold(context.Context, tenants.ID, tenants.ID) ([]access.Untold, int, error) {
	d.asked++
	return d.page, len(d.page), nil
}

func (d *debtor) Told(_ context.Context, _ tenants.ID, some []access.Untold) error {
	d.told += len(some)
	d.page = d.page[len(some):]
	return nil
}

func (d *debtor) Serves(tenants.ID) bool { return true }

func (d *debtor) Stand(_ context.Context, _, id tenants.ID, _, _ string, _ int64) error {
	return d.errs[id]
}

func (d *debtor) EndSession(_ context.Context, id tenants.ID) error { return d.errs[id] }

// TestWhatIsRefusedIsToldOfOnceAnHour lets a day pass in which the control plane does not
// know whom it is told of, and others in which it refuses or is away: that ends at any
// moment, and is asked for each minute, also where somebody unknown stands beside it. Each
// is told in the end.
func TestWhatIsRefusedIsToldOfOnceAnHour(t *testing.T) {
	const unknown, conflict, away = tenants.KindNotFound, tenants.KindConflict, tenants.KindUnavailable
	hourly, byTheMinute := [2]int{24, 70}, [2]int{24 * 60, 3 * 24 * 60}
	for name, c := range map[string]struct {
		answers []tenants.Kind
		asked   [2]int
	}{
		"unknown":               {[]tenants.Kind{unknown}, hourly},
		"both unknown":          {[]tenants.Kind{unknown, unknown}, hourly},
		"refused":               {[]tenants.Kind{conflict}, byTheMinute},
		"away":                  {[]tenants.Kind{away}, byTheMinute},
		"unknown, then refused": {[]tenants.Kind{unknown, conflict}, byTheMinute},
		"refused, then unknown": {[]tenants.Kind{conflict, unknown}, byTheMinute},
		"unknown, then away":    {[]tenants.Kind{unknown, away}, byTheMinute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := owing(c.answers...)
				teller := New(d, d, nil)
				ctx, cancel := context.WithCancel(t.Context())
				go teller.Run(ctx)
				teller.Opened(tenants.NewID())
				<-time.After(24 * time.Hour)
				synctest.Wait()
				require.GreaterOrEqual(t, d.asked, c.asked[0])
				require.LessOrEqual(t, d.asked, c.asked[1])
				require.Equal(t, len(c.answers), teller.Untold())
				clear(d.errs)
				<-time.After(time.Hour)
				synctest.Wait()
				require.Equal(t, len(c.answers), d.told)
				require.Zero(t, teller.Untold())
				cancel()
			})
		})
	}
}
