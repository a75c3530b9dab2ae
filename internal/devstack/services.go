package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/caresphere/caresphere/internal/devstack/proc"
	"github.com/caresphere/caresphere/internal/devstack/tools"
)

// CellID names the local stack's only cell.
const CellID = "main"

// Bucket is the local object store's only bucket.
const Bucket = "caresphere"

// Config says how a stack is run.
type Config struct {
	Layout
	// Binaries is the folder with the platform's own programs.
	Binaries string
	// Cache is where built tools are.
	Cache string
	// Full uses Vault, S3 and stripe-mock in place of the embedded defaults.
	Full bool
	// Volatile gives up safety against a power loss, and password hashing that
	// takes its time, for speed: for tests.
	Volatile bool
	// SharedBuffers is PostgreSQL's memory for pages in common; see PostgresConfig.
	SharedBuffers string
	// Traces has each program write its spans to Layout.Traces.
	Traces bool
	// Via says on which loopback port the programs reach a server in place of its own,
	// for tests that put a faulty network between them.
	Via map[Port]int
	// Progress gets one line a step, Building one for each program that has to be
	// installed or built first.
	Progress, Building io.Writer
}

func (c Config) say(format string, args ...any) {
	if c.Progress != nil {
		fmt.Fprintf(c.Progress, format+"\n", args...)
	}
}

func (c Config) bcryptCost() int {
	if c.Volatile {
		return 4
	}
	return 12
}

// services are the servers below the platform's own programs.
type services struct {
	keys     *keychain
	postgres *Cluster
	// stops are called in reverse.
	stops []stop
	// watched end only when the stack does.
	watched []*proc.Process
}

type stop struct {
	name string
	f    func(context.Context) error
}

// startServices starts everything that the platform's programs need. After an
// error nothing runs.
func startServices(ctx context.Context, cfg Config) (s *services, err error) {
	s = &services{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop(context.WithoutCancel(ctx), cfg))
		}
	}()
	if s.keys, err = cfg.openKeychain(); err != nil {
		return s, err
	}
	built, bin, err := s.programs(ctx, cfg)
	if err != nil {
		return s, err
	}
	if err := s.startPostgres(ctx, cfg, bin); err != nil {
		return s, err
	}
	// The two realms migrate and start side by side.
	var wait sync.WaitGroup
	realms := make([]*Kratos, 2)
	failed := make([]error, 3)
	for i, realm := range []string{"customers", "operators"} {
		wait.Go(func() { realms[i], failed[i] = StartKratos(ctx, s.kratosConfig(cfg, realm, built[tools.Kratos])) })
	}
	if cfg.Full {
		failed[2] = s.startFull(ctx, cfg, built)
	}
	wait.Wait()
	for _, k := range realms {
		if k != nil {
			s.keep(k.Process().Name(), k.Process(), k.Process().Stop)
		}
	}
	if err := errors.Join(failed...); err != nil {
		return s, err
	}
	cfg.say("identity     %s (customers), %s (operators)", cfg.URL(PortKratos), cfg.URL(PortOpsKratos))
	return s, nil
}

// programs finds or builds what is to be started.
func (s *services) programs(ctx context.Context, cfg Config) (map[tools.Tool]string, string, error) {
	bin, err := EnsurePostgres(ctx, cfg.Cache, cfg.Building)
	if err != nil {
		return nil, "", err
	}
	wanted := []tools.Tool{tools.Kratos}
	if cfg.Full {
		wanted = append(wanted, tools.Vault, tools.VersityGW, tools.StripeMock)
	}
	built, err := tools.Builder{Cache: cfg.Cache, Progress: cfg.Building}.Build(ctx, wanted...)
	return built, bin, err
}

func (s *services) keep(name string, p *proc.Process, f func(context.Context) error) {
	s.stops = append(s.stops, stop{name, f})
	if p != nil {
		s.watched = append(s.watched, p)
	}
}

func (s *services) startPostgres(ctx context.Context, cfg Config, bin string) (err error) {
	s.postgres, err = StartPostgres(ctx, PostgresConfig{
		Bin: bin, Dir: cfg.Path("postgres"), Port: cfg.Port(PortPostgres),
		Server: s.keys.local, CA: s.keys.ca.CertPath(), TenantCA: s.keys.tenantCA.CertPath(),
		Passwords: s.keys.passwords, Log: cfg.Log("postgres"), Volatile: cfg.Volatile, SharedBuffers: cfg.SharedBuffers,
	})
	if err != nil {
		return fmt.Errorf("starting PostgreSQL: %w", err)
	}
	s.keep("postgres", s.postgres.Process(), func(ctx context.Context) error { return s.postgres.Process().Stop(ctx) })
	if err := errors.Join(
		PrepareControlDatabase(ctx, s.postgres.Superuser, ControlDatabase),
		PrepareCellDatabase(ctx, s.postgres.Superuser, CellDatabase),
		PrepareKratosDatabase(ctx, s.postgres.Superuser, KratosDatabase, "kratos"),
		PrepareKratosDatabase(ctx, s.postgres.Superuser, OpsKratosDatabase, "kratos_ops"),
	); err != nil {
		return err
	}
	cfg.say("database     127.0.0.1:%d, files in %s", cfg.Port(PortPostgres), s.postgres.Home())
	return nil
}

func (s *services) kratosConfig(cfg Config, realm, bin string) KratosConfig {
	k := KratosConfig{
		Realm: realm, Bin: bin, Dir: cfg.Path("kratos"), Log: cfg.Log("kratos-" + realm),
		DSN:        s.postgres.DSN(KratosDatabase, "kratos"),
		PublicPort: cfg.Port(PortKratos), AdminPort: cfg.Port(PortKratosAdmin),
		Server: s.keys.local, CA: s.keys.ca.CertPath(), Origin: cfg.URL(PortPublic), Cookie: "caresphere_session",
		Secrets: s.keys.kratos[realm], BcryptCost: cfg.bcryptCost(),
		MailURL: cfg.CourierURL(realm), MailKey: s.keys.courierKey,
	}
	if realm == "operators" {
		k.DSN = s.postgres.DSN(OpsKratosDatabase, "kratos_ops")
		k.PublicPort, k.AdminPort = cfg.Port(PortOpsKratos), cfg.Port(PortOpsKratosAdmin)
		k.Origin, k.Cookie = cfg.URL(PortOperators), "caresphere_operator"
	}
	return k
}

// CourierURL is where a realm's identity server hands over its mails. It has no
// client certificate to show, so that this is on the control plane's health
// listener, which asks for none, and not on the one between our own programs.
func (l Layout) CourierURL(realm string) string {
	return l.URL(PortHealthControlPlane) + "/internal/v1/kratos-mail?realm=" + realm
}

func (s *services) startFull(ctx context.Context, cfg Config, built map[tools.Tool]string) error {
	v, err := StartVault(ctx, VaultConfig{
		Bin: built[tools.Vault], Dir: cfg.Path("vault"), Log: cfg.Log("vault"),
		Port: cfg.Port(PortVault), ClusterPort: cfg.Port(PortVaultCluster), Server: s.keys.local, CA: s.keys.ca.CertPath(),
	})
	if err != nil {
		return err
	}
	s.keep("vault", v.Process(), v.Process().Stop)
	if err := v.SetUpCell(ctx, CellID, cfg.Path("secrets", "vault")); err != nil {
		return err
	}
	cfg.say("keys         %s (Vault)", v.Address())
	objects, err := StartS3(ctx, S3Config{
		Bin: built[tools.VersityGW], Dir: cfg.Path("s3"), Log: cfg.Log("s3"), Port: cfg.Port(PortS3),
		Server: s.keys.local, CA: s.keys.ca.CertPath(), AccessKey: s.keys.s3Access, SecretKey: s.keys.s3Secret, Bucket: Bucket,
	})
	if err != nil {
		return err
	}
	s.keep("s3", objects.Process(), objects.Process().Stop)
	cfg.say("objects      https://%s (S3)", objects.Host())
	stripe, err := StartStripe(ctx, StripeConfig{
		Bin: built[tools.StripeMock], Log: cfg.Log("stripe-mock"), Port: cfg.Port(PortStripe), PlainPort: cfg.Port(PortStripePlain),
		Server: s.keys.local, CA: s.keys.ca.CertPath(),
	})
	if err != nil {
		return err
	}
	s.keep("stripe-mock", stripe.Process(), stripe.Stop)
	cfg.say("payments     %s (stripe-mock)", stripe.URL())
	return nil
}

// stop stops the services in the reverse order of their start.
func (s *services) stop(ctx context.Context, cfg Config) error {
	var failed []error
	for i := len(s.stops) - 1; i >= 0; i-- {
		began := time.Now()
		if err := s.stops[i].f(ctx); err != nil {
			failed = append(failed, err)
			continue
		}
		cfg.say("stopped      %s (%s)", s.stops[i].name, time.Since(began).Round(time.Millisecond))
	}
	s.stops, s.watched = nil, nil
	return errors.Join(failed...)
}
