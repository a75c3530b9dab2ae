package router

import (
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caresphere/caresphere/internal/obs"
	"github.com/caresphere/caresphere/internal/pause"
	"github.com/caresphere/caresphere/internal/routes"
	"github.com/caresphere/caresphere/tenants"
)

const (
	// readyPath is asked on a worker's own listener.
	readyPath     = "/internal/readyz"
	probeTimeout  = 2 * time.Second
	badProbes     = 2 // in a row, before a worker that was healthy is not
	failuresLimit = 5 // in a row, before a worker is ejected
	ejectFor      = 5 * time.Second
	ejectAtMost   = 30 * time.Second
)

// upstream is a worker as the router sees it.
type upstream struct {
	worker tenants.Worker
	busy   atomic.Int64
	// sick is set by the health checks, ejectedUntil by failures of requests.
	sick         atomic.Bool
	ejectedUntil atomic.Int64 // unix nanoseconds
	failures     atomic.Int32
	ejections    atomic.Int32
	stop         context.CancelFunc
}

func (u *upstream) available(now time.Time) bool {
	return !u.sick.Load() && u.ejectedUntil.Load() <= now.UnixNano()
}

func (u *upstream) succeeded() {
	if u.failures.Load() != 0 {
		u.failures.Store(0)
	}
	if u.ejections.Load() != 0 && u.ejectedUntil.Load() <= time.Now().UnixNano() {
		u.ejections.Store(0)
	}
}

// fleet follows the workers of the route table and their health.
type fleet struct {
	store   *routes.Store
	tr      *http.Transport
	every   time.Duration
	metrics *metrics
	view    atomic.Pointer[fleetView]
	mu      sync.Mutex
	byID    map[string]*upstream
	probes  sync.WaitGroup
	ctx     context.Context
}

type fleetView struct {
	byCell map[string][]*upstream
	all    []*upstream
}

func newFleet(store *routes.Store, tr *http.Transport, every time.Duration, m *metrics) *fleet {
	f := &fleet{store: store, tr: tr, every: every, metrics: m, byID: map[string]*upstream{}}
	f.view.Store(&fleetView{})
	f.follow()
	return f
}

func (f *fleet) cell(id string) []*upstream { return f.view.Load().byCell[id] }
func (f *fleet) all() []*upstream           { return f.view.Load().all }

// follow takes the workers of the newest table. One whose address is unchanged
// keeps its history.
func (f *fleet) follow() {
	f.mu.Lock()
	defer f.mu.Unlock()
	view := &fleetView{byCell: map[string][]*upstream{}}
	next := map[string]*upstream{}
	for _, w := range f.store.Table().AllWorkers() {
		u := f.byID[w.ID]
		if u == nil || u.worker != w {
			u = &upstream{worker: w}
			f.probe(u)
		}
		next[w.ID] = u
		view.byCell[w.CellID] = append(view.byCell[w.CellID], u)
		view.all = append(view.all, u)
	}
	for id, u := range f.byID {
		if next[id] != u && u.stop != nil {
			u.stop()
		}
	}
	f.byID = next
	f.view.Store(view)
}

// run follows the table and checks health until the context ends.
func (f *fleet) run(ctx context.Context) {
	updated, done := f.store.Updated()
	defer done()
	f.mu.Lock()
	f.ctx = ctx
	for _, u := range f.byID {
		f.probe(u)
	}
	f.mu.Unlock()
	f.follow()
	for {
		select {
		case <-updated:
			f.follow()
		case <-ctx.Done():
			f.probes.Wait()
			return
		}
	}
}

// probe starts the health checks of a worker; the caller holds the lock.
func (f *fleet) probe(u *upstream) {
	if f.ctx == nil || u.stop != nil {
		return
	}
	ctx, stop := context.WithCancel(f.ctx)
	u.stop = stop
	f.probes.Go(func() {
		defer stop()
		bad, first := 0, true
		for ctx.Err() == nil {
			if f.healthy(ctx, u) {
				bad = 0
			} else {
				bad++
			}
			// A worker that was never seen healthy needs one bad answer to count as sick.
			sick := bad >= badProbes || first && bad > 0
			if ctx.Err() == nil && u.sick.Swap(sick) != sick {
				slog.WarnContext(ctx, "a worker's health changed", "worker", u.worker.ID, "healthy", !sick)
			}
			first = false
			f.metrics.healthy.WithLabelValues(u.worker.ID).Set(gauge(!sick))
			// Up to a tenth earlier or later, so that many routers do not ask at once.
			_ = pause.For(ctx, f.every*9/10+rand.N(f.every/5+1))
		}
		f.metrics.healthy.DeleteLabelValues(u.worker.ID)
	})
}

func (f *fleet) healthy(ctx context.Context, u *upstream) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.worker.URL+readyPath, nil)
	if err != nil {
		return false
	}
	resp, err := f.tr.RoundTrip(req)
	if err != nil {
		slog.DebugContext(ctx, "a worker did not answer its health check", "worker", u.worker.ID, obs.Err(err))
		return false
	}
	defer func() { _ = resp.Body.Close() }()
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, bufferLimit))
	return err == nil && resp.StatusCode == http.StatusOK
}

// failed counts a failure of the connection, and ejects a worker that fails
// again and again: 5 s at first, longer each time, at most 30 s.
func (f *fleet) failed(u *upstream) {
	if u.failures.Add(1) < failuresLimit {
		return
	}
	u.failures.Store(0)
	d := min(ejectFor*time.Duration(u.ejections.Add(1)), ejectAtMost)
	u.ejectedUntil.Store(time.Now().Add(d).UnixNano())
	f.metrics.ejections.WithLabelValues(u.worker.ID).Inc()
	slog.Warn("a worker is ejected", "worker", u.worker.ID, "for", d.String())
}
