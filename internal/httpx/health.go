package httpx

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/adaptor"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/caresphere/caresphere/internal/obs"
)

// DefaultCheckTimeout bounds a check that names no time of its own.
const DefaultCheckTimeout = 2 * time.Second

// Check is one thing that readiness needs.
type Check struct {
	// Name stands in the answer, as "postgres".
	Name string
	// Run returns nil if all is well. Its error is logged and not shown.
	Run func(context.Context) error
	// Timeout bounds Run; 0 is DefaultCheckTimeout.
	Timeout time.Duration
}

// CheckResult is one line of a readiness answer.
type CheckResult struct {
	Name string  `json:"name"`
	OK   bool    `json:"ok"`
	MS   float64 `json:"ms"`
}

// Readiness is the body of a readiness answer.
type Readiness struct {
	Ready  bool          `json:"ready"`
	Checks []CheckResult `json:"checks"`
}

// RunChecks runs the checks side by side, each within its time.
func RunChecks(ctx context.Context, checks []Check) Readiness {
	out := Readiness{Ready: true, Checks: make([]CheckResult, len(checks))}
	var wg sync.WaitGroup
	for i, ch := range checks {
		wg.Go(func() {
			timeout := ch.Timeout
			if timeout <= 0 {
				timeout = DefaultCheckTimeout
			}
			ctx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			start := time.Now()
			err := runCheck(ctx, ch)
			out.Checks[i] = CheckResult{ch.Name, err == nil, float64(time.Since(start).Microseconds()) / 1000}
			if err != nil {
				slog.WarnContext(ctx, "not ready", "check", ch.Name, obs.Err(err))
			}
		})
	}
	wg.Wait()
	for _, r := range out.Checks {
		out.Ready = out.Ready && r.OK
	}
	return out
}

// runCheck does not wait for a check that ignores its deadline.
func runCheck(ctx context.Context, ch Check) error {
	done := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				logPanic(ctx, p)
				done <- fmt.Errorf("the check panicked")
			}
		}()
		done <- ch.Run(ctx)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// ReadyHandler answers 200 if every check passes and the process is not
// draining, else 503; in both cases with a Readiness.
func ReadyHandler(draining func() bool, checks ...Check) fiber.Handler {
	return func(c *fiber.Ctx) error {
		r := RunChecks(Context(c), checks)
		if draining != nil && draining() {
			r.Ready = false
			r.Checks = append(r.Checks, CheckResult{Name: "not_draining"})
		}
		if !r.Ready {
			c.Status(fiber.StatusServiceUnavailable)
			c.Set(fiber.HeaderRetryAfter, "1")
		}
		return c.JSON(r)
	}
}

// HealthConfig describes a health app.
type HealthConfig struct {
	// Draining tells that the process is stopping; see Draining.
	Draining func() bool
	Checks   []Check
	// Metrics is what /metrics shows; nil leaves it out.
	Metrics *prometheus.Registry
}

// Health returns an app with /livez (the process answers), /readyz (the checks
// pass) and /metrics (Prometheus text). It belongs on a listener of its own.
func Health(cfg HealthConfig) *fiber.App {
	app := New(Config{Name: "health", DrainTimeout: time.Second})
	app.Get("/livez", func(c *fiber.Ctx) error { return c.JSON(fiber.Map{"live": true}) })
	app.Get("/readyz", ReadyHandler(cfg.Draining, cfg.Checks...))
	if cfg.Metrics != nil {
		app.Get("/metrics", adaptor.HTTPHandler(promhttp.HandlerFor(cfg.Metrics, promhttp.HandlerOpts{})))
	}
	return app
}
