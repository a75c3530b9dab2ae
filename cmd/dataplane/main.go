// Command dataplane is a worker of one cell: it serves the records of the cell's
// tenants to the routers, and nobody else.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // facilities name time zones; the machine may not have them

	"github.com/caresphere/caresphere/internal/config"
	"github.com/caresphere/caresphere/internal/kms"
	"github.com/caresphere/caresphere/internal/obs"
)

// settings come from the environment.
type settings struct {
	obs.Config
	KMS kms.Config

	CA           string `env:"CARESPHERE_TLS_CA" required:"true"`
	Cert         string `env:"CARESPHERE_TLS_CERT" required:"true"`
	Key          string `env:"CARESPHERE_TLS_KEY" required:"true"`
	HealthListen string `env:"CARESPHERE_HEALTH_LISTEN" required:"true"`
	PublicOrigin string `env:"CARESPHERE_PUBLIC_ORIGIN" required:"true"`

	// Connections is how many the worker has open to the cell for all tenants.
	Connections int `env:"CARESPHERE_TENANT_CONNECTIONS" default:"120"`

	Listen       string `env:"CARESPHERE_LISTEN" required:"true"`
	CellID       string `env:"CARESPHERE_CELL_ID" required:"true"`
	WorkerID     string `env:"CARESPHERE_WORKER_ID" required:"true"`
	WorkerURL    string `env:"CARESPHERE_WORKER_URL" required:"true"`
	CellDSN      string `env:"CARESPHERE_CELL_DSN" required:"true"`
	Kratos       string `env:"CARESPHERE_KRATOS_PUBLIC_URL" required:"true"`
	ControlPlane string `env:"CARESPHERE_CONTROLPLANE_URL" required:"true"`
	RoutePub     string `env:"CARESPHERE_ROUTE_PUB" required:"true"`
	ProbePub     string `env:"CARESPHERE_PROBE_PUB" required:"true"`
	AuditPub     string `env:"CARESPHERE_AUDIT_PUB" required:"true"`
	ExportKey    string `env:"CARESPHERE_EXPORT_KEY" required:"true"`
	StateDir     string `env:"CARESPHERE_STATE_DIR" required:"true"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		slog.Error("the worker ended", obs.Err(err))
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	cfg, err := config.Load[settings]()
	if err != nil {
		return err
	}
	o, flush, err := obs.Setup(ctx, "dataplane", cfg.Config)
	if err != nil {
		return fmt.Errorf("setting up logs and metrics: %w", err)
	}
	defer func() { _ = flush(context.WithoutCancel(ctx)) }()
	w, err := newWorker(ctx, cfg, o)
	if err != nil {
		return err
	}
	defer w.close()
	return w.run(ctx)
}
