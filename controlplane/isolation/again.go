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

// again looks once more at those of a proof of all that could not be proven while a part
// of the platform was away: a proof of thousands lasts longer than a restart. No look
// begins after the time.
func (p *Prover) again(ctx context.Context, run store.IsolationStartRow, report *isolation.Report, seen []time.Time, until time.Time, look func(context.Context, int) isolation.Tenant) error {
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(p.lookers(run))
	for _, i := range unsettled(report.Tenants, seen, time.Now()) {
		group.Go(func() error {
			if gctx.Err() != nil || time.Now().After(until) {
				return gctx.Err()
			}
			verdict := look(gctx, i)
			report.Tenants[i] = verdict
			return p.record(gctx, run.ID, verdict, true)
		})
	}
	return errors.Join(group.Wait(), ctx.Err())
}

// lookers is how many tenants are looked at at once. Nobody waits for a proof that the
// schedule asked for: it leaves the servers to requests.
func (*Prover) lookers(run store.IsolationStartRow) int {
	if run.AskedBy == scheduled {
		return 1
	}
	return atOnce
}
