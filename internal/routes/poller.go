package routes

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/retrypolicy"

	"github.com/caresphere/caresphere/internal/obs"
)

const (
	// Path is where the control plane answers: 200 with a document newer than
	// ?after=VERSION, or 204 when there is none after 25 seconds.
	Path = "/internal/v1/routes"
	// pollTimeout is longer than the control plane waits.
	pollTimeout    = 35 * time.Second
	refreshTimeout = 3 * time.Second
)

// Poller keeps a Store up to date from the control plane.
type Poller struct {
	// URL is the control plane's base address, as "https://127.0.0.1:8445".
	URL string
	// Client speaks mutual TLS to it. Each call has its own deadline.
	Client *http.Client
	Store  *Store
	// FirstPause and LongestPause bound the jittered waits after failures; zero
	// is 100 ms and 5 s.
	FirstPause, LongestPause time.Duration

	heard      atomic.Int64 // unix nanoseconds
	refreshing sync.Mutex
}

// Run asks until the context ends. Failures are logged, once for each time that
// the control plane goes away, and tried again with jittered, growing pauses.
func (p *Poller) Run(ctx context.Context) {
	first, longest := p.FirstPause, p.LongestPause
	if first <= 0 {
		first = 100 * time.Millisecond
	}
	if longest <= 0 {
		longest = 5 * time.Second
	}
	away := false
	retry := retrypolicy.NewBuilder[any]().WithMaxRetries(-1).WithBackoff(first, longest).WithJitterFactor(0.3).
		AbortOnErrors(context.Canceled).
		OnRetryScheduled(func(e failsafe.ExecutionScheduledEvent[any]) {
			if !away {
				away = true
				slog.ErrorContext(ctx, "no newer route table; going on with the one at hand",
					"version", p.Store.Table().Version(), obs.Err(e.LastError()))
			}
		}).Build()
	exec := failsafe.With[any](retry).WithContext(ctx)
	for ctx.Err() == nil {
		_ = exec.Run(func() error {
			if err := p.poll(ctx, p.Store.Table().Version(), pollTimeout); err != nil {
				return err
			}
			if away {
				away = false
				slog.InfoContext(ctx, "route tables arrive again", "version", p.Store.Table().Version())
			}
			return nil
		})
	}
}

// Refresh asks for the newest table now. Calls that come while one is under way
// wait for it and then ask no more.
func (p *Poller) Refresh(ctx context.Context) error {
	before := p.heard.Load()
	p.refreshing.Lock()
	defer p.refreshing.Unlock()
	if p.heard.Load() != before {
		return nil
	}
	return p.poll(ctx, 0, refreshTimeout)
}

// Heard is when the control plane last answered; zero if it never did.
func (p *Poller) Heard() time.Time {
	if n := p.heard.Load(); n != 0 {
		return time.Unix(0, n)
	}
	return time.Time{}
}

func (p *Poller) poll(ctx context.Context, after int64, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	doc, err := ask(ctx, p.Client, p.URL, after)
	if err != nil {
		return err
	}
	if doc == nil {
		p.heard.Store(time.Now().UnixNano())
		return nil
	}
	newer, err := p.Store.Put(doc)
	if err != nil {
		return err
	}
	p.heard.Store(time.Now().UnixNano())
	if !newer && after > 0 {
		// Without this a server that always answers at once would be asked in a loop.
		return errNotNewer
	}
	return nil
}

var errNotNewer = errors.New("the control plane sent the table that was at hand")
