// Command router is the front door of CareSphere; see package dataplane/router.
// Its settings come from the environment, and it stops cleanly on SIGTERM.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/dataplane/router"
	"github.com/caresphere/caresphere/internal/config"
	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/internal/obs"
	"github.com/caresphere/caresphere/internal/routes"
)

type settings struct {
	Obs          obs.Config
	CA           string        `env:"CARESPHERE_TLS_CA" required:"true"`
	Cert         string        `env:"CARESPHERE_TLS_CERT" required:"true"`
	Key          string        `env:"CARESPHERE_TLS_KEY" required:"true"`
	PublicCert   string        `env:"CARESPHERE_LISTEN_TLS_CERT"`
	PublicKey    string        `env:"CARESPHERE_LISTEN_TLS_KEY"`
	Listen       string        `env:"CARESPHERE_LISTEN" required:"true"`
	HealthListen string        `env:"CARESPHERE_HEALTH_LISTEN" required:"true"`
	ControlPlane string        `env:"CARESPHERE_CONTROLPLANE_URL" required:"true"`
	RoutePub     string        `env:"CARESPHERE_ROUTE_PUB" required:"true"`
	StateDir     string        `env:"CARESPHERE_STATE_DIR" required:"true"`
	DrainDelay   time.Duration `env:"CARESPHERE_DRAIN_DELAY" default:"1s"`
	// PerAddress bounds the connections of one address, or of one /64 of IPv6; 0 does not.
	PerAddress int `env:"CARESPHERE_CONNECTIONS_PER_ADDRESS" default:"512"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if os.Getenv("GOGC") == "" {
		// It keeps a few megabytes and throws away some with each request.
		debug.SetGCPercent(400)
	}
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "router:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	cfg, err := config.Load[settings]()
	if err != nil {
		return err
	}
	o, flush, err := obs.Setup(ctx, "router", cfg.Obs)
	if err != nil {
		return err
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = errors.Join(err, flush(end))
	}()
	pub, err := os.ReadFile(cfg.RoutePub)
	if err != nil {
		return fmt.Errorf("reading the route table's key: %w", err)
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(string(pub)))
	if err != nil {
		return fmt.Errorf("reading the route table's key: %w", err)
	}
	store, err := routes.Open(cfg.StateDir, verifier)
	if err != nil {
		return err
	}
	workerTLS, err := httpx.ClientTLS(cfg.CA, cfg.Cert, cfg.Key, "dataplane")
	if err != nil {
		return err
	}
	controlTLS, err := httpx.ClientTLS(cfg.CA, cfg.Cert, cfg.Key, "controlplane")
	if err != nil {
		return err
	}
	if cfg.PublicCert == "" {
		cfg.PublicCert, cfg.PublicKey = cfg.Cert, cfg.Key
	}
	publicTLS, err := httpx.ServerTLS(cfg.PublicCert, cfg.PublicKey)
	if err != nil {
		return err
	}
	healthTLS, err := httpx.ServerTLS(cfg.Cert, cfg.Key)
	if err != nil {
		return err
	}
	poller := &routes.Poller{URL: cfg.ControlPlane, Store: store, Client: &http.Client{Transport: &http.Transport{
		TLSClientConfig: controlTLS, TLSHandshakeTimeout: 2 * time.Second, IdleConnTimeout: 60 * time.Second}}}
	r := router.New(router.Config{
		Routes: store, Refresh: poller.Refresh, ControlPlane: cfg.ControlPlane,
		WorkerTLS: workerTLS, ControlTLS: controlTLS, Obs: o, DrainDelay: cfg.DrainDelay,
		MaxConnsPerIP: cfg.PerAddress,
	})
	// The table and the health checks go on until the last request is answered.
	background, end := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() { poller.Run(background) })
	wg.Go(func() { r.Run(background) })
	health := httpx.Health(httpx.HealthConfig{Draining: httpx.Draining(r.App()), Checks: r.Checks(), Metrics: o.Metrics})
	o.Log.Info("starting", "listen", cfg.Listen, "health", cfg.HealthListen)
	err = httpx.Run(ctx, httpx.Endpoint{App: health, Address: cfg.HealthListen, TLS: healthTLS},
		httpx.Endpoint{App: r.App(), Address: cfg.Listen, TLS: publicTLS})
	end()
	wg.Wait()
	o.Log.Info("stopped")
	return err
}
