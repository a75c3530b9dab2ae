package tell

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/caresphere/caresphere/tenants"
)

// Run tells what is left until the context ends, and then tries once more what is known
// to be untold: what it does not get to is in the tenants' rows.
func (t *Teller) Run(ctx context.Context) {
	for ctx.Err() == nil {
		tenant, wait := t.next()
		if wait <= 0 {
			t.turn(ctx, tenant)
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-t.wake:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	t.drain(ctx)
}

// next returns the tenant whose turn it is, or how long it is until there is one.
func (t *Teller) next() (tenants.ID, time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var first tenants.ID
	due := time.Now().Add(longestPause)
	for tenant, d := range t.owed {
		if d.due.Before(due) {
			first, due = tenant, d.due
		}
	}
	if due.Before(t.until) {
		due = t.until
	}
	return first, time.Until(due)
}

// turn tells all that is left of a tenant and forgets it, or sets when to try again.
func (t *Teller) turn(ctx context.Context, tenant tenants.ID) {
	t.mu.Lock()
	d := t.owed[tenant]
	if d.pending == 0 && d.failed == 0 && !d.again && !t.rows.Serves(tenant) {
		// Nothing is known to be untold, as of a tenant that went live a moment ago: its
		// connections served the probe, and are not opened again for a look.
		delete(t.owed, tenant)
		t.mu.Unlock()
		return
	}
	d.again = false
	t.mu.Unlock()
	left, err := t.settle(ctx, tenant)
	var theirs *undelivered
	away := errors.As(err, &theirs) && tenants.IsKind(err, tenants.KindUnavailable)
	if err != nil && ctx.Err() == nil {
		slog.WarnContext(ctx, "the control plane is not told yet", "tenant", tenant.String(), "left", left, "error", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case tenants.IsKind(err, tenants.KindGateClosed):
		// It is looked at when it is opened again.
		delete(t.owed, tenant)
	case away:
		// Nobody's turn would go better. The tenant stays first in line.
		d.pending = left
		t.until = time.Now().Add(pauseAfter(t.away, longestPause))
		t.away++
	case err != nil:
		if left >= 0 {
			d.pending = left
		}
		longest := longestPause
		if theirs != nil && tenants.IsKind(err, tenants.KindNotFound) {
			longest = longestRefused
		}
		d.due = time.Now().Add(pauseAfter(d.failed, longest))
		d.failed++
	case d.again:
		d.due = time.Now()
	default:
		delete(t.owed, tenant)
	}
	if err == nil || theirs != nil && !away {
		t.away = 0
	}
}

// pauseAfter is how long to wait after so many failures in a row.
func pauseAfter(failures int, longest time.Duration) time.Duration {
	p := min(firstPause<<min(failures, 12), longest)
	return p/2 + rand.N(p/2) //nolint:gosec // jitter, not a secret
}

// settle tells page after page. left is how many are still untold, -1 for unknown.
func (t *Teller) settle(ctx context.Context, tenant tenants.ID) (left int, err error) {
	ctx, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	for {
		page, pending, err := t.rows.Untold(ctx, tenant, tenants.NilID)
		if err != nil {
			return -1, err
		}
		told, err := t.deliver(ctx, tenant, page)
		if err != nil || pending == len(page) {
			return pending - told, err
		}
	}
}

// drain is the last round.
func (t *Teller) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainWithin)
	defer cancel()
	t.mu.Lock()
	var rest []tenants.ID
	for tenant, d := range t.owed {
		if d.pending > 0 {
			rest = append(rest, tenant)
		}
	}
	t.mu.Unlock()
	for _, tenant := range rest {
		if _, err := t.settle(ctx, tenant); tenants.IsKind(err, tenants.KindUnavailable) || ctx.Err() != nil {
			slog.WarnContext(ctx, "the worker ends with decisions untold; whoever opens the tenants next tells them", "tenants", len(rest), "error", err)
			return
		}
	}
}
