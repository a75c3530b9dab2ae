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

// debtor has one thing to say until it was told; its control plane answers with err.
type debtor struct {
	err   error
	asked int
	told  bool
}

func (d *debtor) Untold(context.Context, tenants.ID, tenants.ID) ([]access.Untold, int, error) {
	if d.told {
		return nil, 0, nil
	}
	return []access.Untold{{ID: tenants.NewID()}}, 1, nil
}

func (d *debtor) Told(context.Context, tenants.ID, []access.Untold) error {
	d.told = true
	return nil
}

func (d *debtor) Serves(tenants.ID) bool { return true }

func (d *debtor) Stand(context.Context, tenants.ID, tenants.ID, string, string, int64) error {
	d.asked++
	return d.err
}

func (d *debtor) EndSession(context.Context, tenants.ID) error { return d.err }

// TestWhatIsRefusedIsToldOfOnceAnHour lets a day pass in which the control plane does not
// know whom it is told of, and others in which it refuses or is away: that ends at any
// moment, and is asked for each minute. Each is told in the end.
func TestWhatIsRefusedIsToldOfOnceAnHour(t *testing.T) {
	for kind, asked := range map[tenants.Kind][2]int{
		tenants.KindNotFound:    {24, 70},
		tenants.KindConflict:    {24 * 60, 3 * 24 * 60},
		tenants.KindUnavailable: {24 * 60, 3 * 24 * 60},
	} {
		t.Run(string(kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &debtor{err: tenants.NewError(kind, "refused")}
				teller := New(d, d, nil)
				ctx, cancel := context.WithCancel(t.Context())
				go teller.Run(ctx)
				teller.Opened(tenants.NewID())
				<-time.After(24 * time.Hour)
				synctest.Wait()
				require.GreaterOrEqual(t, d.asked, asked[0])
				require.LessOrEqual(t, d.asked, asked[1])
				require.Equal(t, 1, teller.Untold())
				d.err = nil
				<-time.After(time.Hour)
				synctest.Wait()
				require.True(t, d.told)
				require.Zero(t, teller.Untold())
				cancel()
			})
		})
	}
}
