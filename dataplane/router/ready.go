package router

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/caresphere/caresphere/internal/httpx"
)

// ready answers 200 if a request could go the whole way, from sign-up to PHI: the
// control plane and all that it needs, and one healthy worker. The answer lists
// every check, the control plane's own among them. Serving never waits for it: a
// tenant that is live is served with the control plane away.
func (r *Router) ready(c *fiber.Ctx) error {
	// The check may be left while it runs: what it found comes by this alone.
	found := make(chan httpx.Readiness, 1)
	out := httpx.RunChecks(httpx.Context(c), []httpx.Check{
		{Name: "controlplane", Timeout: 3 * time.Second, Run: func(ctx context.Context) error {
			inner, err := r.controlReady(ctx)
			found <- inner
			return err
		}},
		{Name: "workers", Run: func(context.Context) error { return r.fleet.ready() }},
	})
	select {
	case inner := <-found:
		for _, ch := range inner.Checks {
			ch.Name = "controlplane." + ch.Name
			out.Checks = append(out.Checks, ch)
		}
	default:
	}
	if httpx.Draining(r.app)() {
		out.Ready = false
		out.Checks = append(out.Checks, httpx.CheckResult{Name: "not_draining"})
	}
	if !out.Ready {
		c.Status(fiber.StatusServiceUnavailable)
		c.Set(fiber.HeaderRetryAfter, "1")
	}
	return c.JSON(out)
}

// Checks are what the router itself needs to be useful, for its own health listener.
func (r *Router) Checks() []httpx.Check {
	return []httpx.Check{{Name: "routes", Run: func(context.Context) error {
		if r.cfg.Routes.Table().Version() == 0 {
			return errors.New("no route table has arrived yet")
		}
		return nil
	}}}
}

func (f *fleet) ready() error {
	for _, u := range f.all() {
		if u.available(time.Now()) {
			return nil
		}
	}
	return errors.New("no worker is healthy")
}

func (r *Router) controlReady(ctx context.Context) (httpx.Readiness, error) {
	var out httpx.Readiness
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.cfg.ControlPlane+readyPath, nil)
	if err != nil {
		return out, fmt.Errorf("asking the control plane: %w", err)
	}
	resp, err := r.control.health.RoundTrip(req)
	if err != nil {
		return out, fmt.Errorf("asking the control plane: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(io.LimitReader(resp.Body, bufferLimit)).Decode(&out); err != nil {
		return httpx.Readiness{}, fmt.Errorf("reading the control plane's answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK || !out.Ready {
		return out, fmt.Errorf("the control plane is not ready: status %d", resp.StatusCode)
	}
	return out, nil
}
