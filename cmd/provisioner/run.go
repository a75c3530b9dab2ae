package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/sync/errgroup"

	"github.com/caresphere/caresphere/controlplane/billing"
	"github.com/caresphere/caresphere/controlplane/census"
	"github.com/caresphere/caresphere/controlplane/placement"
	"github.com/caresphere/caresphere/controlplane/provisioning"
	"github.com/caresphere/caresphere/internal/audit/sealer"
	"github.com/caresphere/caresphere/internal/blob"
	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/internal/kms"
	"github.com/caresphere/caresphere/internal/obs"
	"github.com/caresphere/caresphere/internal/obs/obspg"
	"github.com/caresphere/caresphere/internal/pause"
	"github.com/caresphere/caresphere/internal/payments"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/tenants"
)

const service = "provisioner"

// stopTime is how long the work in hand may take once the process is told to stop.
const stopTime = 15 * time.Second

// run wires the parts together and works until the context ends.
func run(ctx context.Context, s settings) error {
	o, flush, err := obs.Setup(ctx, service, s.Obs)
	if err != nil {
		return err
	}
	defer func() {
		fctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = flush(fctx)
	}()
	pools, err := openPools(ctx, s)
	if err != nil {
		return err
	}
	defer pools.close()
	keys, err := kms.Open(ctx, s.KMS)
	if err != nil {
		return err
	}
	defer func() { _ = keys.Close() }()
	rewrapper, err := openRewrapper(ctx, s)
	if err != nil {
		return err
	}
	defer func() { _ = rewrapper.Close() }()
	objects, err := blob.Open(s.Blob)
	if err != nil {
		return err
	}
	p, err := newProvisioner(s, pools, keys, rewrapper, objects, o)
	if err != nil {
		return err
	}
	sealing, err := newSealer(s, pools, objects, o)
	if err != nil {
		return err
	}
	prover, err := newProver(s, pools, keys, objects, o, p)
	if err != nil {
		return err
	}
	table, err := s.routes()
	if err != nil {
		return err
	}
	queue, err := p.Client(pools.queue, o.Log, prover)
	if err != nil {
		return fmt.Errorf("making the job client: %w", err)
	}

	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return serveHealth(gctx, s, o, p, keys, objects) })
	g.Go(func() error { return ended(sealing.Run(gctx)) })
	g.Go(func() error { return checkLogs(gctx, s.Checks, sealing, o) })
	g.Go(func() error { holdKeysClosed(gctx, s.Keys.Every, keys, o); return nil })
	g.Go(func() error {
		// A control database that is down when we start is waited for.
		if err := patiently(gctx, func(ctx context.Context) error { return p.RegisterCell(ctx) }); err != nil {
			return ended(err)
		}
		if err := patiently(gctx, func(ctx context.Context) error { return queue.Start(context.WithoutCancel(ctx)) }); err != nil {
			return ended(err)
		}
		o.Log.InfoContext(gctx, "working", "cell", s.CellID)
		g.Go(func() error { prover.Schedule(gctx, queue); return nil })
		g.Go(func() error {
			countAll(gctx, s.Census.Every, census.Config{Control: pools.control, Cell: pools.owner, CellID: s.CellID, Keys: keys, Objects: objects, Routes: table}, o)
			return nil
		})
		p.Watch(gctx, queue)
		sctx, cancel := context.WithTimeout(context.WithoutCancel(gctx), stopTime)
		defer cancel()
		return ended(queue.Stop(sctx))
	})
	return g.Wait()
}

// ended tells the asked-for end from a failure.
func ended(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// patiently tries until it works or the context ends.
func patiently(ctx context.Context, try func(context.Context) error) error {
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		if err := pause.For(ctx, time.Second); err != nil {
			return err
		}
	}
}

// queueConnections is how many connections the job queues share. Each asks twice a
// second, all at once when the process starts: with the jobs' pool to take from, every
// one of them, and what else begins then, would open one of its own.
const queueConnections = 4

type pools struct {
	control, queue, owner, sealer *pgxpool.Pool
	migrator                      *pg.Migrator
}

func openPools(ctx context.Context, s settings) (pools, error) {
	var (
		p   pools
		err error
	)
	o := pg.Options{ApplicationName: "caresphere-provisioner", MaxConns: 16, Tracer: obspg.Tracer()}
	if p.control, err = pg.Open(ctx, s.ControlDSN, o); err != nil {
		return p, fmt.Errorf("control database: %w", err)
	}
	o.ApplicationName, o.MaxConns = "caresphere-queue", queueConnections
	if p.queue, err = pg.Open(ctx, s.ControlDSN, o); err != nil {
		return p, fmt.Errorf("control database, for the job queues: %w", err)
	}
	o.ApplicationName, o.MaxConns, o.LockTimeout, o.MaxSchemas = "caresphere-provisioner", 8, 5*time.Second, 500
	if p.owner, err = pg.Open(ctx, s.OwnerDSN, o); err != nil {
		return p, fmt.Errorf("cell database: %w", err)
	}
	if p.migrator, err = pg.OpenMigrator(ctx, s.OwnerDSN, provisioning.MigrationsAtOnce); err != nil {
		return p, fmt.Errorf("cell database: %w", err)
	}
	o.ApplicationName, o.StatementTimeout, o.MaxSchemas = "caresphere-sealer", time.Minute, 1000
	if p.sealer, err = pg.Open(ctx, s.SealerDSN, o); err != nil {
		return p, fmt.Errorf("cell database as the sealer: %w", err)
	}
	return p, nil
}

func (p pools) close() {
	for _, one := range []*pgxpool.Pool{p.control, p.queue, p.owner, p.sealer} {
		one.Close()
	}
	p.migrator.Close()
}

func newProvisioner(s settings, db pools, keys, rewrapper kms.KMS, objects blob.Store, o *obs.Obs) (*provisioning.Provisioner, error) {
	caCert, err := os.ReadFile(s.TenantCACert)
	if err != nil {
		return nil, fmt.Errorf("reading the tenant authority: %w", err)
	}
	caKey, err := os.ReadFile(s.TenantCAKey)
	if err != nil {
		return nil, fmt.Errorf("reading the tenant authority's key: %w", err)
	}
	authority, err := tenantdb.LoadCA(caCert, caKey)
	if err != nil {
		return nil, err
	}
	probeKey, err := secretFile(s.ProbeKey)
	if err != nil {
		return nil, err
	}
	signer, err := note.NewSigner(probeKey)
	if err != nil {
		return nil, fmt.Errorf("reading the probe's key: %w", err)
	}
	public, err := httpx.ClientTLS(s.TLSCA, "", "")
	if err != nil {
		return nil, err
	}
	provider, err := openPayments(s)
	if err != nil {
		return nil, err
	}
	inserter, err := provisioning.Inserter(db.control, o.Log)
	if err != nil {
		return nil, fmt.Errorf("making the job inserter: %w", err)
	}
	host, _ := os.Hostname()
	return provisioning.New(provisioning.Config{
		Control: db.control, Cell: db.owner, CellDSN: s.OwnerDSN, Migrator: db.migrator, CellID: s.CellID,
		Keys: keys, Rewrapper: rewrapper, Objects: objects, Billing: billing.New(db.control, provider), Gatekeeper: placement.NewGates(inserter, nil),
		Authority: authority, ProbeSigner: signer, PublicOrigin: s.PublicOrigin, ProbeTLS: public,
		// The id makes a restarted process another holder than the one that was killed.
		Holder: fmt.Sprintf("%.60s-%s", host, tenants.NewID().Hex()),
		Log:    o.Log, LeaseLife: s.LeaseLife, RotateEvery: s.Rotation.Every, RotateGrace: s.Rotation.Grace,
	})
}

func openPayments(s settings) (payments.Provider, error) {
	if s.StripeKey == "" {
		return payments.Open(payments.Config{})
	}
	key, err := secretFile(s.StripeKey)
	if err != nil {
		return nil, err
	}
	c := payments.Config{StripeKey: key, StripeURL: s.StripeURL}
	if s.StripeURL != "" {
		if c.TLS, err = httpx.ClientTLS(s.TLSCA, "", ""); err != nil {
			return nil, err
		}
	}
	return payments.Open(c)
}

func newSealer(s settings, db pools, objects blob.Store, o *obs.Obs) (*sealer.Sealer, error) {
	key, err := secretFile(s.AuditKey)
	if err != nil {
		return nil, err
	}
	return sealer.New(sealer.Config{
		Key: key, Logger: o.Log, Registerer: o.Metrics,
		Sources: []sealer.Source{
			{Pool: db.sealer, Logs: tenantLogs(db.control, s.CellID), Anchor: sealer.PostgresAnchor{Pool: db.control}},
			// The control plane's own heads are kept outside its database.
			{Pool: db.control, Logs: controlLog, Anchor: objectAnchor{objects}},
		},
	})
}

func serveHealth(ctx context.Context, s settings, o *obs.Obs, p *provisioning.Provisioner, keys kms.KMS, objects blob.Store) error {
	conf, err := httpx.ServerTLS(s.TLSCert, s.TLSKey)
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", s.HealthListen)
	if err != nil {
		return fmt.Errorf("listening for health checks: %w", err)
	}
	return httpx.Serve(ctx, httpx.Health(httpx.HealthConfig{ //nolint:contextcheck // each request has its own
		Metrics: o.Metrics,
		Checks: []httpx.Check{
			{Name: "databases", Run: p.Ready},
			{Name: "keys", Run: keys.Health},
			{Name: "objects", Run: objects.Health},
		},
	}), ln, conf)
}
