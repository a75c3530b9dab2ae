// Package tell tells the control plane what was decided about people here: which
// session was ended, who is an owner, who is disabled.
//
// It owns when that happens and what follows when it cannot. The tenant's own rows say
// what was told, so nothing is lost with a worker; telling twice does no harm. Nothing
// that serves a live tenant depends on it: it never fails a request. It trusts the door
// for what was decided and the control plane for what follows from that.
package tell

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caresphere/caresphere/dataplane/access"
	"github.com/caresphere/caresphere/internal/obs"
	"github.com/caresphere/caresphere/tenants"
)

// ControlPlane is who is told; platform.Client speaks to it. Errors: KindUnavailable
// when it is away, others when it refuses this one.
type ControlPlane interface {
	Stand(ctx context.Context, tenant, identity tenants.ID, role, status string, version int64) error
	EndSession(ctx context.Context, session tenants.ID) error
}

// Rows are what the tenants' rows say of it; access.Door is it.
type Rows interface {
	Untold(ctx context.Context, tenant, about tenants.ID) (page []access.Untold, pending int, err error)
	Told(ctx context.Context, tenant tenants.ID, told []access.Untold) error
	// Serves tells whether the tenant's connections are kept still: whoever opens them
	// again has the tenant looked at then.
	Serves(tenant tenants.ID) bool
}

const (
	// tellWithin is how long an answer waits for the control plane.
	tellWithin = 2500 * time.Millisecond
	// lookAfter is when a tenant that was opened is looked at: who opened it comes first.
	lookAfter = time.Second
	// settleWithin bounds one tenant's turn in the background.
	settleWithin = 20 * time.Second
	// drainWithin bounds the last round when the worker ends.
	drainWithin = 3 * time.Second
	// The pause after a failure doubles from the first to the longest. Whom a control plane
	// that answers does not know, it goes on not to know.
	firstPause     = time.Second
	longestPause   = time.Minute
	longestRefused = time.Hour
)

// Teller tells. Safe for concurrent use.
type Teller struct {
	rows  Rows
	plane ControlPlane

	mu   sync.Mutex
	owed map[tenants.ID]*debt
	// away counts the failures of the control plane in a row; until pauses for them.
	away  int
	until time.Time
	wake  chan struct{}
}

// debt is a tenant that has, or may have, something untold.
type debt struct {
	due     time.Time
	failed  int
	pending int
	// again: something was decided while the tenant had its turn.
	again bool
}

// New returns a teller; Run is its background. o, if given, shows how much is untold.
func New(rows Rows, plane ControlPlane, o *obs.Obs) *Teller {
	t := &Teller{rows: rows, plane: plane, owed: map[tenants.ID]*debt{}, wake: make(chan struct{}, 1)}
	if o != nil {
		o.Metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "caresphere_dataplane_untold", Help: "Decisions about people that the control plane has not been told, as far as this worker knows.",
		}, func() float64 { return float64(t.Untold()) }))
	}
	return t
}

// Untold returns how many decisions this worker knows to be untold.
func (t *Teller) Untold() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, d := range t.owed {
		n += d.pending
	}
	return n
}

// Tell tells what was just committed about a member or a session, and returns when
// that is done or the time for it is over: the rest is done in the background. It goes
// on when the client has gone.
func (t *Teller) Tell(ctx context.Context, tenant, about tenants.ID) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tellWithin)
	defer cancel()
	page, pending, err := t.rows.Untold(ctx, tenant, about)
	if err != nil {
		slog.WarnContext(ctx, "what the control plane is to be told could not be read", "tenant", tenant.String(), "error", err)
		t.owe(tenant, 1, firstPause)
		return
	}
	mine := page
	for i, u := range page {
		if u.ID != about {
			mine = page[:i]
			break
		}
	}
	told, err := t.deliver(ctx, tenant, mine)
	if told > 0 {
		t.heard()
	}
	if err != nil {
		slog.WarnContext(ctx, "the control plane could not be told of a decision; it is tried again", "tenant", tenant.String(), "error", err)
	}
	switch left := pending - told; {
	case err != nil:
		t.owe(tenant, left, firstPause)
	case left > 0:
		t.owe(tenant, left, 0)
	}
}

// Opened has the tenant looked at soon, if its connections are kept so long: a worker that
// was killed may have left something untold. It does not wait.
func (t *Teller) Opened(tenant tenants.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.owed[tenant] == nil {
		t.owed[tenant] = &debt{due: time.Now().Add(lookAfter)}
		t.stir()
	}
}

// owe notes what is left of a tenant, to be told after the pause.
func (t *Teller) owe(tenant tenants.ID, left int, after time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	due := time.Now().Add(after)
	d := t.owed[tenant]
	if d == nil {
		d = &debt{due: due}
		t.owed[tenant] = d
	}
	d.pending, d.again = max(d.pending, left), true
	if due.Before(d.due) {
		d.due = due
	}
	t.stir()
}

// heard ends the pause for a control plane that was away.
func (t *Teller) heard() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.away > 0 {
		t.away, t.until = 0, time.Time{}
		t.stir()
	}
}

// stir wakes Run; t.mu is held.
func (t *Teller) stir() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// deliver tells the page and notes what was told. One that is refused does not hold up
// the others; when the control plane is away the rest waits. It returns how many were
// told and the first error, of those that may pass if there is one.
func (t *Teller) deliver(ctx context.Context, tenant tenants.ID, page []access.Untold) (int, error) {
	var told []access.Untold
	var failed error
	for _, u := range page {
		var err error
		if u.Session {
			err = t.plane.EndSession(ctx, u.ID)
		} else {
			err = t.plane.Stand(ctx, tenant, u.ID, u.Role, u.Status, u.Version)
		}
		if err == nil {
			told = append(told, u)
			continue
		}
		// Somebody unknown hides no failure that passes.
		if failed == nil || tenants.IsKind(failed, tenants.KindNotFound) {
			failed = &undelivered{err}
		}
		if tenants.IsKind(err, tenants.KindUnavailable) {
			break
		}
	}
	if len(told) == 0 {
		return 0, failed
	}
	if err := t.rows.Told(ctx, tenant, told); err != nil {
		return 0, err
	}
	return len(told), failed
}

// undelivered is an error of the control plane, not of the tenant's rows.
type undelivered struct{ err error }

// Error implements error.
func (u *undelivered) Error() string { return u.err.Error() }

// Unwrap gives the cause.
func (u *undelivered) Unwrap() error { return u.err }
