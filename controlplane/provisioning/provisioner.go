package provisioning

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/kms/driver"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/tenants"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"golang.org/x/mod/sumdb/note"
)

// Keys is what provisioning and the gate need of the KMS.
type Keys interface {
	Ensure(ctx context.Context, key string) error
	Enable(ctx context.Context, key string) error
	Disable(ctx context.Context, key string) error
	Status(ctx context.Context, key string) (driver.Status, error)
	tenantdb.DataKeys
}

// Objects is what provisioning needs of the object store.
type Objects interface {
	EnsurePrefix(ctx context.Context, prefix string) error
	Get(ctx context.Context, key string) (io.ReadCloser, error)
}

// Billing makes the customer and the subscription of an organization, or finds
// them made. It is called again after a crash and must not make two.
type Billing interface {
	Ensure(ctx context.Context, organization tenants.ID) error
}

// Gatekeeper decides an organization's gate anew in the caller's transaction,
// stores the decision, raises the route table's version and enqueues what applies it.
type Gatekeeper interface {
	Decide(ctx context.Context, tx pgx.Tx, organization tenants.ID) error
}

// Config is what a Provisioner works with; everything is required but Billing,
// without which the plan is manual, and what has a default.
type Config struct {
	Control *pgxpool.Pool
	// Cell is a pool of cell_owner's in the cell's database; CellDSN is its
	// connection string, for logins as a tenant; Migrator migrates as cell_owner.
	Cell     *pgxpool.Pool
	CellDSN  string
	Migrator *pg.Migrator
	CellID   string

	Keys       Keys
	Rewrapper  Rewrapper
	Objects    Objects
	Billing    Billing
	Gatekeeper Gatekeeper
	Authority  *tenantdb.CA

	// ProbeSigner signs the probe's token; PublicOrigin is where the probe goes in,
	// as "https://localhost:8443"; ProbeTLS verifies it.
	ProbeSigner  note.Signer
	PublicOrigin string
	ProbeTLS     *tls.Config

	// Holder names this process in leases: unique among processes.
	Holder string
	// LeaseLife is how long a process that died holds up the others;
	// DefaultLeaseLife if zero.
	LeaseLife time.Duration
	// RotateGrace is how long the old version of a key still unwraps after everything
	// was rewrapped: DefaultRotateGrace if zero. It outlasts whatever a worker does
	// with a data key that it was just given.
	RotateGrace time.Duration
	// RotateEvery is the age at which a key is rotated by itself; DefaultRotateEvery if zero.
	RotateEvery time.Duration
	Log         *slog.Logger
	Now         func() time.Time
}

// Provisioner takes the steps. Safe for concurrent use.
type Provisioner struct {
	Config
	q      *store.Queries
	jobs   *river.Client[pgx.Tx] // inserts only
	client *http.Client
	steps  []step
}

// New checks the configuration and returns a Provisioner. It contacts nothing.
func New(c Config) (*Provisioner, error) {
	switch {
	case c.Control == nil, c.Cell == nil, c.CellDSN == "", c.Migrator == nil, c.CellID == "", c.Keys == nil, c.Rewrapper == nil, c.Objects == nil,
		c.Gatekeeper == nil, c.Authority == nil, c.ProbeSigner == nil, c.PublicOrigin == "", c.ProbeTLS == nil, c.Holder == "", c.LeaseLife < 0, c.RotateGrace < 0, c.RotateEvery < 0:
		return nil, errors.New("provisioning: the configuration lacks a part or has an impossible one")
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.LeaseLife == 0 {
		c.LeaseLife = DefaultLeaseLife
	}
	if c.RotateGrace == 0 {
		c.RotateGrace = DefaultRotateGrace
	}
	if c.RotateEvery == 0 {
		c.RotateEvery = DefaultRotateEvery
	}
	inserter, err := Inserter(c.Control, c.Log)
	if err != nil {
		return nil, fmt.Errorf("provisioning: making the job inserter: %w", err)
	}
	p := &Provisioner{Config: c, q: store.New(c.Control), jobs: inserter, client: &http.Client{
		Timeout:       10 * time.Second,
		Transport:     &http.Transport{TLSClientConfig: c.ProbeTLS, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	p.steps = p.declare()
	return p, nil
}

// RegisterCell makes this cell known to the control database, so that
// organizations are placed in it.
func (p *Provisioner) RegisterCell(ctx context.Context) error {
	return p.q.CellAdd(ctx, p.CellID)
}

// system is the actor of everything that this package does.
func system() tenants.Actor { return tenants.Actor{Kind: tenants.ActorSystem} }
