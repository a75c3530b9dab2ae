package sealer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/audit/tree"
)

// Source is a database with logs in it: a cell, or the control database.
type Source struct {
	// Pool logs in as the sealer of that database.
	Pool *pgxpool.Pool
	// Logs lists the logs as of now; tenants come and go.
	Logs func(context.Context) ([]audit.Log, error)
	// Anchor keeps this source's heads, in another database than the source's.
	Anchor Anchor
}

// Config is what a Sealer works with. Zero durations and counts take defaults.
type Config struct {
	Sources []Source
	// Key is the encoded signing key (sumdb/note) named caresphere-audit.
	Key string
	// Debounce gathers notifications; 100 ms. Sweep is how often every log is
	// looked at without a notification; 40 s. Timeout ends the sealing of one log; 1 min.
	Debounce, Sweep, Timeout time.Duration
	// Workers seal at a time in each source; 4. Batch is the most entries in one transaction.
	Workers, Batch int
	Logger         *slog.Logger
	Registerer     prometheus.Registerer
}

// Sealer seals all logs of its sources.
type Sealer struct {
	cfg     Config
	units   []*unit
	metrics *metrics
}

// New checks the configuration.
func New(cfg Config) (*Sealer, error) {
	signer, verifier, _, err := tree.ParseSigner(cfg.Key)
	if err != nil {
		return nil, err
	}
	setDefault(&cfg.Debounce, 100*time.Millisecond)
	setDefault(&cfg.Sweep, 40*time.Second)
	setDefault(&cfg.Timeout, time.Minute)
	setDefault(&cfg.Workers, 4)
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	s := &Sealer{cfg: cfg, metrics: newMetrics(cfg.Registerer)}
	for _, src := range cfg.Sources {
		s.units = append(s.units, &unit{s: s, src: src, signer: signer, verifier: verifier,
			known: map[string]audit.Log{}, dirty: map[string]bool{}, running: map[string]bool{},
			wake: make(chan struct{}, 1), slots: make(chan struct{}, cfg.Workers)})
	}
	return s, nil
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Run seals until the context ends, and returns its error once all work has
// stopped. It needs no order of starting: a source that is down is tried again.
func (s *Sealer) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, u := range s.units {
		for _, part := range []func(context.Context){u.listen, u.sweep, u.dispatch} {
			wg.Go(func() { part(ctx) })
		}
	}
	wg.Wait()
	return ctx.Err()
}

// Tampered lists the logs that are stopped because they contradict what was
// signed or anchored, with the reason.
func (s *Sealer) Tampered() map[string]string { return s.metrics.tamperedLogs() }

// unit is the work on one source.
type unit struct {
	s        *Sealer
	src      Source
	signer   note.Signer
	verifier note.Verifier

	mu      sync.Mutex
	known   map[string]audit.Log // by tag
	dirty   map[string]bool      // tags to seal
	running map[string]bool      // tags being sealed
	wake    chan struct{}
	slots   chan struct{}
	work    sync.WaitGroup
}

// listen marks a log dirty for each notification, and all of them after a
// reconnect, for what was missed.
func (u *unit) listen(ctx context.Context) {
	for ctx.Err() == nil {
		if err := u.listenOnce(ctx); err != nil && ctx.Err() == nil {
			u.s.cfg.Logger.WarnContext(ctx, "audit sealer cannot listen", "error", err)
		}
		pause(ctx, time.Second)
	}
}

func (u *unit) listenOnce(ctx context.Context) error {
	pooled, err := u.src.Pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	conn := pooled.Hijack()
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, "LISTEN "+audit.Channel); err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	u.markAll(ctx)
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return fmt.Errorf("waiting for a notification: %w", err)
		}
		u.mu.Lock()
		_, known := u.known[n.Payload]
		u.mu.Unlock()
		if !known {
			// A tenant that was made since the last look.
			u.refresh(ctx)
		}
		u.mark(n.Payload)
	}
}

// sweep marks every log now and then: notifications are a hint, not a promise.
func (u *unit) sweep(ctx context.Context) {
	for ctx.Err() == nil {
		// Jitter keeps several sealers from looking at the same moment.
		pause(ctx, u.s.cfg.Sweep/2+rand.N(u.s.cfg.Sweep)) //nolint:gosec // nothing secret depends on it
		u.markAll(ctx)
	}
}

func (u *unit) markAll(ctx context.Context) {
	u.refresh(ctx)
	u.mu.Lock()
	for tag := range u.known {
		u.dirty[tag] = true
	}
	u.mu.Unlock()
	u.signal()
}

// refresh reads the list of logs; an error leaves the old one.
func (u *unit) refresh(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	logs, err := u.src.Logs(ctx)
	if err != nil {
		if ctx.Err() == nil {
			u.s.cfg.Logger.WarnContext(ctx, "audit sealer cannot list logs", "error", err)
		}
		return
	}
	known := make(map[string]audit.Log, len(logs))
	for _, l := range logs {
		known[l.Tag()] = l
	}
	u.mu.Lock()
	u.known = known
	u.mu.Unlock()
}

func (u *unit) mark(tag string) {
	u.mu.Lock()
	if _, ok := u.known[tag]; ok {
		u.dirty[tag] = true
	}
	u.mu.Unlock()
	u.signal()
}

func (u *unit) signal() {
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// dispatch hands dirty logs to the workers.
func (u *unit) dispatch(ctx context.Context) {
	defer u.work.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-u.wake:
		}
		pause(ctx, u.s.cfg.Debounce)
		for _, l := range u.take() {
			select {
			case <-ctx.Done():
				return
			case u.slots <- struct{}{}:
			}
			u.work.Go(func() {
				defer func() { <-u.slots }()
				u.seal(ctx, l)
			})
		}
	}
}

// take returns the dirty logs that nobody works on, and marks them as worked on.
func (u *unit) take() []audit.Log {
	u.mu.Lock()
	defer u.mu.Unlock()
	var logs []audit.Log
	for tag := range u.dirty {
		l, ok := u.known[tag]
		if ok && u.running[tag] {
			continue
		}
		delete(u.dirty, tag)
		if ok {
			u.running[tag] = true
			logs = append(logs, l)
		}
	}
	return logs
}

func (u *unit) seal(ctx context.Context, l audit.Log) {
	tag, start := l.Tag(), time.Now()
	sctx, cancel := context.WithTimeout(ctx, u.s.cfg.Timeout)
	defer cancel()
	r, err := Log{Log: l, Pool: u.src.Pool, Anchor: u.src.Anchor, Signer: u.signer, Verifier: u.verifier, Batch: u.s.cfg.Batch}.Seal(sctx)
	u.mu.Lock()
	delete(u.running, tag)
	again := u.dirty[tag]
	u.mu.Unlock()
	if again {
		u.signal()
	}
	if ctx.Err() != nil {
		return
	}
	u.s.metrics.observe(l, r, err, time.Since(start))
	var tampered *TamperError
	switch {
	case errors.As(err, &tampered):
		u.s.cfg.Logger.ErrorContext(ctx, "AUDIT LOG TAMPERED WITH: sealing stopped", "log", tampered.Log, "what", tampered.What)
	case errors.Is(err, ErrBusy):
		u.later(ctx, tag, time.Second)
	case err != nil:
		u.s.cfg.Logger.ErrorContext(ctx, "audit log not sealed", "log", l.Name(), "error", err)
		u.later(ctx, tag, 2*time.Second)
	case !r.Oldest.IsZero():
		// A transaction from before holds entries back: look again once it may have ended.
		u.later(ctx, tag, min(max(time.Since(r.Oldest)/4, 100*time.Millisecond), 2*time.Second))
	}
}

// later marks the log again after the delay, if the sealer still runs.
func (u *unit) later(ctx context.Context, tag string, d time.Duration) {
	time.AfterFunc(d, func() {
		if ctx.Err() == nil {
			u.mark(tag)
		}
	})
}

// pause waits for d or for the context's end.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
