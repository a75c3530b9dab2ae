package sealer

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/pause"
)

// Checks reads every log of a sealer's sources from its first entry on, now and
// then: sealing alone does not look at old entries.
type Checks struct {
	// Sealer has the sources, the key and the logger.
	Sealer *Sealer
	// Every is the time from one round to the next; 24 h if zero. The first begins
	// within a twenty-fourth of it, at a time of its own choice, so that many
	// processes do not begin at once.
	Every time.Duration
	// Timeout ends the check of one log; 1 h if zero.
	Timeout time.Duration
	// Registerer, if not nil, gets the metrics.
	Registerer prometheus.Registerer

	metrics checkMetrics
}

type checkMetrics struct {
	entries  prometheus.Counter
	failures prometheus.Counter
	mu       sync.Mutex
	damaged  map[string]int // findings by log
	finished time.Time
}

// Run checks until the context ends, and returns its error. Call it once.
func (c *Checks) Run(ctx context.Context) error {
	setDefault(&c.Every, 24*time.Hour)
	setDefault(&c.Timeout, time.Hour)
	c.register()
	wait := rand.N(c.Every/24 + 1) //nolint:gosec // scattering, no secret
	for {
		_ = pause.For(ctx, wait)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		started := time.Now()
		c.Round(ctx)
		wait = max(c.Every-time.Since(started), 0)
	}
}

// register makes the metrics: for all logs together, as the sealer's.
func (c *Checks) register() {
	m := &c.metrics
	m.init()
	if c.Registerer == nil {
		return
	}
	c.Registerer.MustRegister(m.entries, m.failures,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "caresphere_audit_damaged_logs",
			Help: "Logs in which the last check of all entries found damage. Alert above 0."}, func() float64 {
			m.mu.Lock()
			defer m.mu.Unlock()
			return float64(len(m.damaged))
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "caresphere_audit_check_finished_timestamp_seconds",
			Help: "When the last round of checks ended with every log read; 0 before the first. Alert when it is two intervals old."}, func() float64 {
			m.mu.Lock()
			defer m.mu.Unlock()
			if m.finished.IsZero() {
				return 0
			}
			return float64(m.finished.Unix())
		}))
}

func (m *checkMetrics) init() {
	if m.damaged != nil {
		return
	}
	m.damaged = map[string]int{}
	m.entries = prometheus.NewCounter(prometheus.CounterOpts{Name: "caresphere_audit_checked_entries_total", Help: "Audit entries read again and held against their leaves."})
	m.failures = prometheus.NewCounter(prometheus.CounterOpts{Name: "caresphere_audit_check_failures_total", Help: "Checks of a log that could not be done."})
}

// Round checks every log once, one after the other, and reports damage as errors in
// the log. It tells whether every log could be read and none is damaged.
func (c *Checks) Round(ctx context.Context) bool {
	c.metrics.init()
	good, whole := true, true
	var seen []string
	for _, u := range c.Sealer.units {
		u.refresh(ctx)
		u.mu.Lock()
		logs := make([]audit.Log, 0, len(u.known))
		for _, l := range u.known {
			logs = append(logs, l)
		}
		u.mu.Unlock()
		for _, l := range logs {
			if ctx.Err() != nil {
				return false
			}
			seen = append(seen, l.Name())
			begun := time.Now()
			damaged, err := c.one(ctx, u, l)
			good, whole = good && !damaged && err == nil, whole && err == nil
			// Thousands of logs one after the other would take requests their processor for an
			// hour. A round is over within half of the time to the next.
			_ = pause.For(ctx, checkRest(time.Since(begun), c.Every, len(logs)))
		}
	}
	m := &c.metrics
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.damaged {
		if !slices.Contains(seen, name) && whole {
			delete(m.damaged, name) // its tenant has gone
		}
	}
	if whole && ctx.Err() == nil {
		m.finished = time.Now()
	}
	return good
}

// checkRest is how long to rest after a check of one of so many logs that took so long.
func checkRest(took, every time.Duration, logs int) time.Duration {
	return min(lookRest*took, every/2/time.Duration(logs))
}

func (c *Checks) one(ctx context.Context, u *unit, l audit.Log) (damaged bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, max(c.Timeout, time.Minute))
	defer cancel()
	log := c.Sealer.cfg.Logger
	report, err := Log{Log: l, Pool: u.src.Pool, Anchor: u.src.Anchor, Signer: u.signer, Verifier: u.verifier}.Check(ctx)
	c.metrics.entries.Add(float64(report.Entries))
	if err != nil {
		c.metrics.failures.Inc()
		log.ErrorContext(ctx, "audit log not checked", "log", l.Name(), "error", err)
		return false, err
	}
	c.metrics.mu.Lock()
	defer c.metrics.mu.Unlock()
	if len(report.Findings) == 0 {
		delete(c.metrics.damaged, l.Name())
		return false, nil
	}
	c.metrics.damaged[l.Name()] = len(report.Findings)
	for _, f := range report.Findings[:min(10, len(report.Findings))] {
		log.ErrorContext(ctx, "AUDIT LOG DAMAGED", "log", l.Name(), "leaf", f.Leaf, "seq", f.Seq, "what", f.What)
	}
	log.ErrorContext(ctx, "AUDIT LOG DAMAGED: export it, and keep the database as it is", "log", l.Name(), "findings", len(report.Findings))
	return true, nil
}
