package sealer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/audit/tree"
	"github.com/caresphere/caresphere/internal/pause"
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
	// Debounce gathers notifications; 400 ms. Sweep is how often it is asked, without a
	// notification, which logs have entries that are not sealed; 40 s. Whole is in what
	// time each log is held against its anchor even when it has none; 15 sweeps, longer
	// where that would take more than a tenth of the time.
	// Timeout ends the sealing of one log; 1 min.
	Debounce, Sweep, Whole, Timeout time.Duration
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
	setDefault(&cfg.Debounce, 400*time.Millisecond)
	setDefault(&cfg.Sweep, 40*time.Second)
	setDefault(&cfg.Whole, 15*cfg.Sweep)
	setDefault(&cfg.Timeout, time.Minute)
	setDefault(&cfg.Workers, 4)
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	s := &Sealer{cfg: cfg, metrics: newMetrics(cfg.Registerer)}
	for _, src := range cfg.Sources {
		s.units = append(s.units, &unit{s: s, src: src, signer: signer, verifier: verifier,
			known: map[string]audit.Log{}, dirty: map[string]time.Time{}, swept: map[string]bool{}, running: map[string]bool{}, looks: map[string]bool{}, whole: map[string]int64{},
			paced: paced{due: map[string]bool{}, begun: map[string]time.Time{}}, since: time.Now(),
			wake: make(chan struct{}, 1), ask: make(chan struct{}, 1), slots: make(chan struct{}, cfg.Workers)})
	}
	s.register(cfg.Registerer)
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
	dirty   map[string]time.Time // tags to seal, and from when on
	swept   map[string]bool      // tags to look at once nothing is left to seal: something may be
	running map[string]bool      // tags being sealed
	looks   map[string]bool      // of these, whose whole look it is
	listed  bool                 // known was read once
	listing time.Duration        // how long the last reading took
	met     time.Time            // when an unknown tag last had the list read, or will have
	meeting bool                 // it will have
	wake    chan struct{}
	ask     chan struct{} // has the sweep ask all logs at once
	slots   chan struct{}
	work    sync.WaitGroup
	counts  map[string]count // by tag; the sweep's own
	whole   map[string]int64 // by tag: the size of a log that was sealed to its end
	paced   paced
	since   time.Time // when the unit was made
}

// listen marks a log dirty for each notification, and has all of them asked after a
// reconnect, for what was missed.
func (u *unit) listen(ctx context.Context) {
	for ctx.Err() == nil {
		if err := u.listenOnce(ctx); err != nil && ctx.Err() == nil {
			u.s.cfg.Logger.WarnContext(ctx, "audit sealer cannot listen", "error", err)
		}
		_ = pause.For(ctx, time.Second)
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
	u.missed(ctx)
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
			u.meet(ctx)
		}
		u.mark(n.Payload)
	}
}

// missed has every log asked for what no notification told of, and looked at as the pace
// allows.
func (u *unit) missed(ctx context.Context) {
	u.refresh(ctx)
	u.duePart(0, 1)
	select {
	case u.ask <- struct{}{}:
	default: // it is going to
	}
}

func (u *unit) mark(tag string) {
	u.mu.Lock()
	_, known := u.known[tag]
	if _, marked := u.dirty[tag]; known && !marked {
		u.dirty[tag] = time.Now().Add(u.s.cfg.Debounce)
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

// dispatch hands logs to the workers.
func (u *unit) dispatch(ctx context.Context) {
	defer u.work.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case u.slots <- struct{}{}:
		}
		l, ok, wait := u.next(time.Now())
		if ok {
			u.work.Go(func() {
				defer func() { <-u.slots }()
				u.seal(ctx, l)
			})
			continue
		}
		<-u.slots
		u.rest(ctx, wait)
	}
}

// rest waits for a signal, and no longer than d unless that is zero.
func (u *unit) rest(ctx context.Context, d time.Duration) {
	var due <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		due = t.C
	}
	select {
	case <-ctx.Done():
	case <-u.wake:
	case <-due:
	}
}

// next returns a log that nobody works on, and marks it as worked on: one that has
// something to seal before any that is only looked at, or among ten thousand logs a
// fresh entry would wait for all of them. Without one it says how long until a log is
// due, if any is.
func (u *unit) next(now time.Time) (l audit.Log, ok bool, wait time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for tag, due := range u.dirty {
		if u.running[tag] {
			continue
		}
		if left := due.Sub(now); left > 0 {
			if wait == 0 || left < wait {
				wait = left
			}
			continue
		}
		delete(u.dirty, tag)
		if l, ok = u.begin(tag); ok {
			return l, true, 0
		}
	}
	for tag := range u.swept {
		if u.running[tag] {
			continue
		}
		delete(u.swept, tag)
		if l, ok = u.begin(tag); ok {
			u.looks[tag] = true
			return l, true, 0
		}
	}
	tag, left := u.paced.choose(now, u.running)
	for ; tag != ""; tag, left = u.paced.choose(now, u.running) {
		if l, ok = u.begin(tag); ok {
			u.looks[tag] = true
			return l, true, 0
		}
		u.paced.now = "" // it is gone
	}
	if left > 0 && (wait == 0 || left < wait) {
		wait = left
	}
	return l, false, wait
}

// begin marks a log as worked on, if it still exists; the caller holds the lock.
func (u *unit) begin(tag string) (audit.Log, bool) {
	l, ok := u.known[tag]
	if ok {
		u.running[tag] = true
	}
	return l, ok
}

func (u *unit) seal(ctx context.Context, l audit.Log) {
	tag, start := l.Tag(), time.Now()
	sctx, cancel := context.WithTimeout(ctx, u.s.cfg.Timeout)
	defer cancel()
	u.mu.Lock()
	recent := time.Duration(0)
	if u.looks[tag] {
		recent = u.paced.recent(tag, u.s.cfg.Whole, start)
	}
	u.mu.Unlock()
	r, err := Log{Log: l, Pool: u.src.Pool, Anchor: u.src.Anchor, Signer: u.signer, Verifier: u.verifier, Batch: u.s.cfg.Batch, Recent: recent}.Seal(sctx)
	u.mu.Lock()
	u.paced.ended(tag, u.looks[tag], err == nil, start, time.Now())
	delete(u.running, tag)
	delete(u.looks, tag)
	delete(u.whole, tag)
	if err == nil && r.Oldest.IsZero() {
		u.whole[tag] = r.Size
	}
	u.mu.Unlock()
	u.signal() // it may have been marked again meanwhile
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
