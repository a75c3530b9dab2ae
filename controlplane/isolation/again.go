package isolation

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/isolation"
)

const (
	// passing is how old a verdict is that an outage of a moment may explain, when the
	// proof goes on for longer.
	passing = time.Minute
	// few is how many tenants are looked at again. Where more could not be proven, what
	// did not answer is still away, and another look would wait for it once more.
	few = 50
)

// unsettled returns the places of those that could not be proven, a while ago and not many.
func unsettled(list []isolation.Tenant, seen []time.Time, now time.Time) []int {
	var at []int
	for i, t := range list {
		if t.Verdict == isolation.Unproven && now.Sub(seen[i]) >= passing {
			at = append(at, i)
		}
	}
	if len(at) > few {
		return nil
	}
	return at
}

// again visits the tenants at these places once more, so many at once. They are those of a
// proof of all that could not be proven while a part of the platform was away: a proof of
// thousands lasts longer than a restart. No visit begins after the time.
func again(ctx context.Context, places []int, until time.Time, atOnce int, visit func(context.Context, int) error) error {
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, i := range places {
		group.Go(func() error {
			if gctx.Err() != nil || time.Now().After(until) {
				return gctx.Err()
			}
			return visit(gctx, i)
		})
	}
	return errors.Join(group.Wait(), ctx.Err())
}

// lookers is how many tenants are looked at at once. Nobody waits for a proof that the
// schedule asked for: it leaves the servers to requests.
func lookers(run store.IsolationStartRow) int {
	if run.AskedBy == scheduled {
		return 1
	}
	return atOnce
}
