package sealer

import (
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caresphere/caresphere/internal/audit"
)

// metrics are for all logs together: a label per tenant would not scale. Which
// log it is stands in the error log.
type metrics struct {
	sealed   prometheus.Counter
	failures prometheus.Counter
	took     prometheus.Histogram
	// last, by log, for the gauges.
	mu       sync.Mutex
	oldest   map[string]time.Time
	tampered map[string]string
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		sealed:   prometheus.NewCounter(prometheus.CounterOpts{Name: "caresphere_audit_sealed_entries_total", Help: "Audit entries sealed."}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "caresphere_audit_seal_failures_total", Help: "Attempts to seal a log that failed."}),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "caresphere_audit_seal_seconds", Help: "Duration of sealing one log once.",
			Buckets: []float64{.002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10}}),
		oldest: map[string]time.Time{}, tampered: map[string]string{},
	}
	if r != nil {
		r.MustRegister(m.sealed, m.failures, m.took,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "caresphere_audit_seal_lag_seconds",
				Help: "Age of the oldest committed entry that is not sealed. Alert above 30."}, m.lag),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "caresphere_audit_tampered_logs",
				Help: "Logs that contradict what was signed or anchored. Alert above 0."},
				func() float64 { return float64(len(m.tamperedLogs())) }))
	}
	return m
}

// register adds what is known of the units.
func (s *Sealer) register(r prometheus.Registerer) {
	if r == nil {
		return
	}
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "caresphere_audit_look_age_seconds",
		Help: "How long ago the log that waits longest was held against its anchor."}, func() float64 {
		var longest time.Duration
		for _, u := range s.units {
			u.mu.Lock()
			longest = max(longest, u.paced.unlooked(u.known, u.since, time.Now()))
			u.mu.Unlock()
		}
		return longest.Seconds()
	}))
}

func (m *metrics) observe(l audit.Log, r Result, err error, took time.Duration) {
	m.sealed.Add(float64(r.Sealed))
	m.took.Observe(took.Seconds())
	m.mu.Lock()
	defer m.mu.Unlock()
	var tampered *TamperError
	switch {
	case err == nil:
		delete(m.tampered, l.Name())
		delete(m.oldest, l.Name())
		if !r.Oldest.IsZero() {
			m.oldest[l.Name()] = r.Oldest
		}
		return
	case errors.Is(err, ErrBusy):
		return
	case errors.As(err, &tampered):
		m.tampered[l.Name()] = tampered.What
	}
	m.failures.Inc()
	if _, ok := m.oldest[l.Name()]; !ok {
		m.oldest[l.Name()] = time.Now()
	}
}

func (m *metrics) lag() float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	var lag time.Duration
	for _, at := range m.oldest {
		lag = max(lag, time.Since(at))
	}
	return lag.Seconds()
}

func (m *metrics) tamperedLogs() map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.tampered)
}
