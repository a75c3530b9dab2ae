package router

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/internal/obs"
	"github.com/caresphere/caresphere/internal/routes"
	"github.com/caresphere/caresphere/tenants"
)

// Config describes a router.
type Config struct {
	Routes *routes.Store
	// Refresh fetches the newest table at once, after a worker's 421.
	Refresh func(context.Context) error
	// ControlPlane is its base address, as "https://127.0.0.1:8445".
	ControlPlane string
	// WorkerTLS and ControlTLS are client configurations for mutual TLS that
	// accept a server of the right name alone.
	WorkerTLS, ControlTLS *tls.Config
	Obs                   *obs.Obs
	// HealthEvery is the pause between two health checks of a worker; 0 is 1 s.
	HealthEvery time.Duration
	// AnswerTimeout bounds a request from when its body is there until the head of
	// its answer is, all attempts together; 0 is 14.5 s, which leaves a server its own
	// limit and the time to write down a refusal.
	AnswerTimeout time.Duration
	// PauseTimeout bounds each pause in an answer's body; 0 is 60 s.
	PauseTimeout time.Duration
	// DrainDelay is how long readiness says no before the listener closes.
	DrainDelay time.Duration
	// MaxConnsPerIP bounds the connections of one address; 0 does not, which is right
	// behind a load balancer alone.
	MaxConnsPerIP int
	// MaxStreams bounds the answers of one server that stream, and the bodies that stream
	// to it; 0 is 1,024 each. One more is refused, so that neither keeps others waiting.
	MaxStreams int
	// StreamLimit bounds a request's body in bytes; 0 is httpx's default.
	StreamLimit int64
}

// Router forwards requests. Make it with New and start its health checks with Run.
type Router struct {
	cfg     Config
	app     *fiber.App
	fleet   *fleet
	workers *servers
	control *servers
	metrics *metrics
}

// New returns a router; App serves it.
func New(cfg Config) *Router {
	if cfg.HealthEvery <= 0 {
		cfg.HealthEvery = time.Second
	}
	if cfg.AnswerTimeout <= 0 {
		cfg.AnswerTimeout = 14500 * time.Millisecond
	}
	if cfg.PauseTimeout <= 0 {
		cfg.PauseTimeout = 60 * time.Second
	}
	if cfg.MaxStreams <= 0 {
		cfg.MaxStreams = streamsEach
	}
	cfg.ControlPlane = strings.TrimSuffix(cfg.ControlPlane, "/")
	r := &Router{cfg: cfg, workers: newServers(cfg.WorkerTLS, &cfg), control: newServers(cfg.ControlTLS, &cfg)}
	r.metrics = newMetrics(cfg.Obs, func() float64 { return float64(cfg.Routes.Table().Version()) })
	r.fleet = newFleet(cfg.Routes, r.workers.health, cfg.HealthEvery, r.metrics)
	r.app = httpx.New(httpx.Config{
		Name: "router", Obs: cfg.Obs, Streaming: func(*fiber.Ctx) bool { return true }, StreamLimit: cfg.StreamLimit, RequestTime: -1,
		DrainDelay: cfg.DrainDelay, MaxConnsPerIP: cfg.MaxConnsPerIP, MaxRequestsPerConn: 10_000,
	})
	r.app.Get("/livez", func(c *fiber.Ctx) error { return c.JSON(fiber.Map{"live": true}) })
	r.app.Get("/readyz", r.ready)
	r.app.Use(r.forward)
	return r
}

// App is the public app.
func (r *Router) App() *fiber.App { return r.app }

// Run checks the workers' health until the context ends.
func (r *Router) Run(ctx context.Context) {
	r.fleet.run(ctx)
	r.workers.close()
	r.control.close()
}

// Labels of the kinds of request, in place of paths.
const (
	labelTenant  = "/t/:slug/*"
	labelSpec    = "/t/openapi.json"
	labelControl = "controlplane"
)

// forward decides where a request goes. The path is canonical: httpx saw to it.
func (r *Router) forward(c *fiber.Ctx) error {
	path := c.Path()
	switch {
	case path == "/internal" || strings.HasPrefix(path, "/internal/"):
		// The control plane would believe that the router itself is asking.
		return tenants.NotFound()
	case path == "/t/openapi.json":
		obs.SetRoute(c, labelSpec)
		return r.toWorker(c, target{path: "/openapi.json", any: true})
	case path == "/t" || strings.HasPrefix(path, "/t/"):
		obs.SetRoute(c, labelTenant)
		slug, rest, _ := strings.Cut(strings.TrimPrefix(path[len("/t"):], "/"), "/")
		if slug == "" || rest == "" {
			return tenants.NotFound()
		}
		t := target{slug: slug, path: path}
		if _, ok := r.cfg.Routes.BySlug(slug); !ok {
			t = absent(rest)
		}
		return r.toWorker(c, t)
	default:
		obs.SetRoute(c, labelControl)
		return r.toControl(c)
	}
}

// target is where in the data plane a request goes: to a worker of the tenant's
// cell, or to any worker at all.
type target struct {
	slug, path string
	any        bool
}

// absent is the target of a request for an organization that has no route. Any worker
// answers it as it answers a stranger's for one that has: who has no session learns
// that, and not which names are customers. The name in the path is nobody's, so that a
// withdrawn route stays one whatever the worker holds.
func absent(rest string) target {
	return target{path: "/t/" + tenants.AbsentSlug + "/" + rest, any: true}
}

// candidates looks the target up in the newest table.
func (r *Router) candidates(t target) (ups []*upstream, epoch int64, err error) {
	if t.any {
		return r.fleet.all(), 0, nil
	}
	route, ok := r.cfg.Routes.BySlug(t.slug)
	if !ok {
		return nil, 0, tenants.NotFound()
	}
	return r.fleet.cell(route.CellID), route.Epoch, nil
}

// attempts is how often a request may be sent in all: once, once more on another
// worker, once more after a refreshed table.
const attempts = 3

func (r *Router) toWorker(c *fiber.Ctx, t target) error {
	out, err := prepare(c, t.path, &r.cfg)
	if err != nil {
		return err
	}
	defer out.release()
	var tried []*upstream
	retried, refreshed := false, false
	for range attempts {
		ups, epoch, err := r.candidates(t)
		if err != nil {
			return err
		}
		up := choose(ups, tried, t.slug)
		if up == nil {
			return unavailable()
		}
		tried = append(tried, up)
		out.epoch = epoch
		answer, err := r.send(c, out, r.workers, up.worker.URL, up)
		if err != nil {
			if out.ctx.Err() != nil {
				return gaveUp(out.ctx)
			}
			if !retried && out.mayRepeat(err) {
				retried = true
				r.metrics.retries.WithLabelValues("connection").Inc()
				continue
			}
			return unavailable()
		}
		if answer.status() == http.StatusMisdirectedRequest && !t.any && !refreshed && out.idempotent && out.replayable() {
			answer.discard()
			refreshed = true
			r.metrics.retries.WithLabelValues("misdirected").Inc()
			if err := r.cfg.Refresh(out.ctx); err != nil {
				return unavailable()
			}
			tried = nil // the newer table may name the same worker at a newer epoch
			continue
		}
		return answer.deliver(c, out)
	}
	return unavailable()
}

func (r *Router) toControl(c *fiber.Ctx) error {
	out, err := prepare(c, c.Path(), &r.cfg)
	if err != nil {
		return err
	}
	defer out.release()
	for try := 0; ; try++ {
		answer, err := r.send(c, out, r.control, r.cfg.ControlPlane, nil)
		switch {
		case err == nil:
			return answer.deliver(c, out)
		case out.ctx.Err() != nil:
			return gaveUp(out.ctx)
		case try > 0 || !out.mayRepeat(err) || errors.Is(err, errFull):
			return unavailable()
		}
	}
}

func unavailable() error {
	return &tenants.Error{Kind: tenants.KindUnavailable, Message: "no server can answer this now", RetryAfter: time.Second}
}

// gaveUp is for a client that has gone, a process that stops, or a body that broke.
func gaveUp(ctx context.Context) error {
	var te *tenants.Error
	var fe *fiber.Error
	cause := context.Cause(ctx)
	if errors.As(cause, &te) || errors.As(cause, &fe) {
		return cause
	}
	return tenants.WrapError(tenants.KindUnavailable, "the request was given up", cause)
}
