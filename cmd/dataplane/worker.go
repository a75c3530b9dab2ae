package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/dataplane/access"
	"github.com/caresphere/caresphere/dataplane/api"
	"github.com/caresphere/caresphere/dataplane/platform"
	"github.com/caresphere/caresphere/dataplane/session"
	"github.com/caresphere/caresphere/dataplane/tell"
	"github.com/caresphere/caresphere/dataplane/trail"
	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/internal/identity"
	"github.com/caresphere/caresphere/internal/kms"
	"github.com/caresphere/caresphere/internal/obs"
	"github.com/caresphere/caresphere/internal/obs/obspg"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/phi"
	"github.com/caresphere/caresphere/internal/routes"
	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/tenants"
)

// hintsEvery is how long hints for others are gathered.
const hintsEvery = 100 * time.Millisecond

// database is the cell's, as the worker's own role sees it: credentials and hints.
type database interface {
	tenantdb.Queryer
	Ping(ctx context.Context) error
	Close()
}

// worker holds what runs.
type worker struct {
	cfg      settings
	obs      *obs.Obs
	cell     database
	kms      kms.KMS
	cipher   *phi.Cipher
	door     *access.Door
	served   *served
	signals  *access.Signals
	routes   *routes.Store
	poller   *routes.Poller
	platform *platform.Client
	teller   *tell.Teller
	api      *api.API
	server   *tls.Config
	health   *tls.Config
}

func newWorker(ctx context.Context, cfg settings, o *obs.Obs) (_ *worker, err error) {
	w := &worker{cfg: cfg, obs: o}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	client, err := w.transport()
	if err != nil {
		return nil, err
	}
	cell, err := pg.Open(ctx, cfg.CellDSN, pg.Options{ApplicationName: "caresphere-dataplane", MaxConns: 4, Tracer: obspg.Tracer()})
	if err != nil {
		return nil, fmt.Errorf("opening the cell's database: %w", err)
	}
	w.cell = cell
	if w.kms, err = kms.Open(ctx, cfg.KMS); err != nil {
		return nil, fmt.Errorf("opening the key service: %w", err)
	}
	w.signals = access.NewSignals(cfg.CellDSN, hintsEvery, o.Log)
	w.served = newServed(access.StoredCredentials{Cell: w.cell, KMS: w.kms})
	pools := access.NewPools(access.PoolConfig{DSN: cfg.CellDSN, Connections: cfg.Connections, Tracer: obspg.Tracer()}, w.served)
	w.door = access.NewDoor(pools, w.signals)
	if w.cipher, err = phi.NewCipher(w.kms, w.door.Keys(), phi.Options{}); err != nil {
		return nil, fmt.Errorf("making the cipher: %w", err)
	}
	w.door.Use(w.cipher)
	routeKey, err := verifier(cfg.RoutePub)
	if err != nil {
		return nil, err
	}
	if w.routes, err = routes.Open(cfg.StateDir, routeKey); err != nil {
		return nil, fmt.Errorf("opening the route table: %w", err)
	}
	w.poller = &routes.Poller{URL: cfg.ControlPlane, Client: client, Store: w.routes}
	w.platform = &platform.Client{URL: cfg.ControlPlane, HTTP: client}
	w.teller = tell.New(w.door, w.platform, o)
	w.door.OnOpen(w.teller.Opened)
	return w, w.makeAPI()
}

// transport reads the certificates: what is served with and what is called with.
func (w *worker) transport() (*http.Client, error) {
	var err error
	if w.server, err = httpx.MutualTLS(w.cfg.CA, w.cfg.Cert, w.cfg.Key, "router"); err != nil {
		return nil, fmt.Errorf("preparing the listener: %w", err)
	}
	if w.health, err = httpx.ServerTLS(w.cfg.Cert, w.cfg.Key); err != nil {
		return nil, fmt.Errorf("preparing the health listener: %w", err)
	}
	conf, err := httpx.ClientTLS(w.cfg.CA, w.cfg.Cert, w.cfg.Key, "controlplane")
	if err != nil {
		return nil, fmt.Errorf("preparing calls of the control plane: %w", err)
	}
	t := &http.Transport{TLSClientConfig: conf, MaxIdleConnsPerHost: 8, IdleConnTimeout: time.Minute}
	return &http.Client{Transport: obs.Transport(t, "controlplane")}, nil
}

// makeAPI makes the gate and the API behind it.
func (w *worker) makeAPI() error {
	conf, err := httpx.ClientTLS(w.cfg.CA, "", "")
	if err != nil {
		return fmt.Errorf("preparing calls of Kratos: %w", err)
	}
	ids, err := identity.Open(identity.Config{PublicURL: w.cfg.Kratos, TLS: conf, Timeout: 3 * time.Second})
	if err != nil {
		return fmt.Errorf("preparing calls of Kratos: %w", err)
	}
	probe, err := verifier(w.cfg.ProbePub)
	if err != nil {
		return err
	}
	exporter, lines, err := w.exportKeys()
	if err != nil {
		return err
	}
	gate := session.NewGate(w.cfg.CellID, ids, w.routes, w.door)
	gate.Prolong(w.platform)
	w.api = api.New(api.Config{
		Obs: w.obs, PublicOrigin: w.cfg.PublicOrigin, Version: version(),
		Gate: gate, Routes: w.routes, Door: w.door, Invitations: w.platform, Teller: w.teller, Probe: probe, Ready: w.checks(),
		Trail: &trail.Service{Door: w.door, Signer: exporter, Verifiers: lines,
			Ask: func(_ context.Context, l audit.Log) error { w.signals.AuditDirty(l.TenantID); return nil }},
	})
	return nil
}

// exportKeys reads the key that signs exports and the public lines that they
// verify with. The exporter's own public key follows from its private one.
func (w *worker) exportKeys() (note.Signer, string, error) {
	private, err := line(w.cfg.ExportKey)
	if err != nil {
		return nil, "", err
	}
	signer, err := note.NewSigner(private)
	if err != nil {
		return nil, "", fmt.Errorf("reading the export key: %w", err)
	}
	audited, err := os.ReadFile(w.cfg.AuditPub)
	if err != nil {
		return nil, "", fmt.Errorf("reading the audit log's public key: %w", err)
	}
	public, err := publicLine(private)
	if err != nil {
		return nil, "", err
	}
	return signer, strings.TrimSpace(string(audited)) + "\n" + public, nil
}

// checks say whether this worker can serve. Kratos and the KMS are not among
// them: a worker less would not bring them back, and requests say so themselves.
func (w *worker) checks() []httpx.Check {
	return []httpx.Check{
		{Name: "cell_database", Run: func(ctx context.Context) error { return w.cell.Ping(ctx) }},
		{Name: "route_table", Run: func(context.Context) error {
			if w.routes.Table().Version() == 0 {
				return fmt.Errorf("no route table yet")
			}
			return nil
		}},
	}
}

func (w *worker) run(ctx context.Context) error {
	var wg sync.WaitGroup
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	// The farewell goes first, hints, telling and routes last until the requests are done.
	wg.Go(func() { w.poller.Run(background) })
	wg.Go(func() { _ = w.signals.Run(background, w.door) })
	wg.Go(func() { w.followRoutes(background) })
	wg.Go(func() { w.teller.Run(background) })
	wg.Go(func() {
		w.platform.Announce(ctx, tenants.Worker{ID: w.cfg.WorkerID, CellID: w.cfg.CellID, URL: w.cfg.WorkerURL})
	})
	health := httpx.Health(httpx.HealthConfig{Draining: httpx.Draining(w.api.App), Checks: w.checks(), Metrics: w.obs.Metrics})
	err := httpx.Run(ctx, httpx.Endpoint{App: health, Address: w.cfg.HealthListen, TLS: w.health},
		httpx.Endpoint{App: w.api.App, Address: w.cfg.Listen, TLS: w.server})
	stop()
	wg.Wait()
	return err
}

// followRoutes forgets each tenant whose route was withdrawn, ran out or leads to
// another cell: its connections, keys and authorizations.
func (w *worker) followRoutes(ctx context.Context) {
	updated, end := w.routes.Updated()
	defer end()
	expiry := time.NewTicker(30 * time.Second)
	defer expiry.Stop()
	open := func(tenant tenants.ID) bool {
		r, ok := w.routes.ByTenant(tenant)
		return ok && r.CellID == w.cfg.CellID && r.Mode != tenants.GateClosed
	}
	for {
		for _, tenant := range w.served.withdrawn(time.Now(), open) {
			w.door.Forget(tenant)
		}
		select {
		case <-updated:
		case <-expiry.C:
		case <-ctx.Done():
			return
		}
	}
}

func (w *worker) close() {
	if w.door != nil {
		w.door.Close()
	}
	if w.cipher != nil {
		w.cipher.Close()
	}
	if w.kms != nil {
		_ = w.kms.Close()
	}
	if w.cell != nil {
		w.cell.Close()
	}
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "devel"
}
