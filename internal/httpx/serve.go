package httpx

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
)

// abortGrace is what a handler has to answer after its context was cancelled.
const abortGrace = 2 * time.Second

// Serve answers on the listener until the context ends, then drains: readiness
// turns first (Draining), after DrainDelay the listener closes, requests in
// flight finish within DrainTimeout, then their contexts end with ErrDraining and
// what is still open is closed. Connections over Config.MaxConnsPerIP are closed as they
// come. It returns nil after a clean stop and an error if
// requests had to be cut off. A nil tls.Config serves plain HTTP, for tests alone.
func Serve(ctx context.Context, app *fiber.App, ln net.Listener, conf *tls.Config) error {
	s := serverOf(app)
	if s == nil {
		return errors.New("httpx: the app was not made by New")
	}
	tracked := newTrackedListener(ln, s.cfg.MaxConnsPerIP)
	var front net.Listener = tracked
	if conf != nil {
		front = tls.NewListener(tracked, conf)
	}
	failed := make(chan error, 1)
	go func() { failed <- app.Listener(front) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serving %s: %w", s.cfg.Name, err)
	case <-ctx.Done():
	}
	s.draining.Store(true)
	slog.Info("draining", "server", s.cfg.Name)
	delay := time.NewTimer(s.cfg.DrainDelay)
	defer delay.Stop()
	select {
	case <-delay.C:
	case err := <-failed:
		return fmt.Errorf("serving %s: %w", s.cfg.Name, err)
	}

	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.DrainTimeout)
	defer cancel()
	err := app.Server().ShutdownWithContext(bound)
	s.abort(ErrDraining)
	if err == nil {
		return nil
	}
	left := s.awaitHandlers(abortGrace)
	tracked.closeAll()
	if left > 0 {
		return fmt.Errorf("stopping %s: %d requests were cut off", s.cfg.Name, left)
	}
	return nil
}

// awaitHandlers waits for the requests in flight and returns how many are left.
func (s *server) awaitHandlers(most time.Duration) int64 {
	end := time.NewTimer(most)
	defer end.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for s.inFlight.Load() > 0 {
		select {
		case <-tick.C:
		case <-end.C:
			return s.inFlight.Load()
		}
	}
	return 0
}

// Draining tells whether the app has been told to stop.
func Draining(app *fiber.App) func() bool {
	s := serverOf(app)
	return func() bool { return s != nil && s.draining.Load() }
}

// Endpoint is an app and where it listens.
type Endpoint struct {
	App *fiber.App
	// Address is host:port; Listener, if not nil, is used instead.
	Address  string
	Listener net.Listener
	TLS      *tls.Config
}

// Run serves the endpoints until the context ends or one fails, and drains them
// all together; health (a zero Endpoint is none) answers to the end, so that what
// watches the process sees it say that it stops.
func Run(ctx context.Context, health Endpoint, endpoints ...Endpoint) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	healthCtx, stopHealth := context.WithCancel(context.WithoutCancel(ctx))
	defer stopHealth()

	var lns []net.Listener
	open := func(e Endpoint) (net.Listener, error) {
		if e.Listener != nil {
			return e.Listener, nil
		}
		ln, err := net.Listen("tcp", e.Address)
		if err != nil {
			return nil, fmt.Errorf("listening on %s: %w", e.Address, err)
		}
		return ln, nil
	}
	all := endpoints
	if health.App != nil {
		all = append([]Endpoint{health}, endpoints...)
	}
	for _, e := range all {
		ln, err := open(e)
		if err != nil {
			for _, l := range lns {
				_ = l.Close()
			}
			return err
		}
		lns = append(lns, ln)
	}
	var mu sync.Mutex
	var errs []error
	serve := func(ctx context.Context, e Endpoint, ln net.Listener) {
		defer stop() // one that ends takes the others with it
		if err := Serve(ctx, e.App, ln, e.TLS); err != nil {
			mu.Lock()
			errs = append(errs, err)
			mu.Unlock()
		}
	}
	var main, side sync.WaitGroup
	if health.App != nil {
		ln := lns[0]
		side.Go(func() { serve(healthCtx, health, ln) })
		lns = lns[1:]
	}
	for i, e := range endpoints {
		ln := lns[i]
		main.Go(func() { serve(ctx, e, ln) })
	}
	if len(endpoints) == 0 {
		<-ctx.Done()
	}
	main.Wait()
	stopHealth()
	side.Wait()
	return errors.Join(errs...)
}
