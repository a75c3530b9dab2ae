package isolation

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/blob"
	"github.com/caresphere/caresphere/internal/isolation"
	"github.com/caresphere/caresphere/internal/kms/driver"
	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/tenants"
)

// Keys is what a proof needs of the KMS: it never sees a data key, for rewrapping
// tells as well whether a wrap is a tenant's.
type Keys interface {
	Status(ctx context.Context, key string) (driver.Status, error)
	Rewrap(ctx context.Context, key, purpose string, id tenants.ID, wrapped []byte) (newWrapped []byte, version int, err error)
}

// Gatekeeper decides an organization's gate anew in the caller's transaction.
type Gatekeeper interface {
	Decide(ctx context.Context, tx pgx.Tx, organization tenants.ID) error
}

// Provisioner mends what is not in the catalog; provisioning.Provisioner does.
type Provisioner interface {
	// ApplyGate makes the newest gate decision hold for role and key.
	ApplyGate(ctx context.Context, organization tenants.ID) error
	// Reissue gives the tenant a fresh credential.
	Reissue(ctx context.Context, organization tenants.ID) error
	// Rules returns what must hold for every tenant whatever its version, and does not.
	Rules(ctx context.Context, organization tenants.ID) ([]string, error)
}

// Config is what a Prover works with; everything is required but what says otherwise.
type Config struct {
	Control *pgxpool.Pool
	// Cell is a pool of cell_owner's; CellDSN its connection string, for logins as a tenant.
	Cell    *pgxpool.Pool
	CellDSN string
	CellID  string

	Keys        Keys
	Objects     blob.Store
	Gatekeeper  Gatekeeper
	Provisioner Provisioner
	Authority   *tenantdb.CA

	// ProbeSigner signs the probes that go in at PublicOrigin; ProbeTLS verifies it.
	ProbeSigner  note.Signer
	PublicOrigin string
	ProbeTLS     *tls.Config

	// Signer signs the reports; its name is isolation.KeyName.
	Signer note.Signer
	// Every is the pause between scheduled proofs; 0 means one hour.
	Every time.Duration
	// Part is after how long a run over all tenants lets others have their turn, and
	// goes on after them where it was; 0 means 10 min.
	Part time.Duration
	// Peers is against how many others a tenant is tried in one proof; 0 means 12.
	// A cell of no more tenants has all its pairs tried each time.
	Peers int
	// AlertMail is where letters about quarantines go; optional.
	AlertMail string
	// Metrics is optional.
	Metrics prometheus.Registerer
	Log     *slog.Logger
	Now     func() time.Time
}

// Prover proves and mends. Safe for concurrent use.
type Prover struct {
	Config
	q      *store.Queries
	client *http.Client
	// under gives a tenant its part of the object store, as whatever handles its objects does.
	under  func(blob.Store, string) (blob.Store, error)
	gauges gauges

	mu         sync.Mutex
	references map[versions]*reference
}

// New checks the configuration and returns a Prover. It contacts nothing.
func New(c Config) (*Prover, error) {
	switch {
	case c.Control == nil, c.Cell == nil, c.CellDSN == "", c.CellID == "", c.Keys == nil, c.Objects == nil, c.Gatekeeper == nil,
		c.Provisioner == nil, c.Authority == nil, c.ProbeSigner == nil, c.PublicOrigin == "", c.ProbeTLS == nil, c.Signer == nil:
		return nil, errors.New("isolation: the configuration lacks a part")
	case c.Signer.Name() != isolation.KeyName:
		return nil, errors.New("isolation: the signing key must be named " + isolation.KeyName)
	}
	if c.Every <= 0 {
		c.Every = time.Hour
	}
	if c.Part <= 0 {
		c.Part = 10 * time.Minute
	}
	if c.Peers <= 0 {
		c.Peers = 12
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Prover{Config: c, q: store.New(c.Control), under: blob.Under, gauges: newGauges(c.Metrics), references: map[versions]*reference{}, client: &http.Client{
		Timeout:       10 * time.Second,
		Transport:     &http.Transport{TLSClientConfig: c.ProbeTLS, MaxIdleConnsPerHost: 8, IdleConnTimeout: 30 * time.Second},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// subject is a tenant as the control database has it.
type subject struct {
	id                       tenants.ID
	slug, state, gate        string
	gateVersion, gateApplied int64
	keyAlive                 bool
}

func (s subject) open() bool { return s.gate != string(tenants.GateClosed) }

type gauges struct {
	tenants *prometheus.GaugeVec
	last    prometheus.Gauge
	seconds prometheus.Gauge
	locked  prometheus.Counter
}

func newGauges(r prometheus.Registerer) gauges {
	g := gauges{
		tenants: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "caresphere_isolation_tenants", Help: "Tenants by the verdict of the last proof of the whole cell."}, []string{"verdict"}),
		last:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "caresphere_isolation_last_proof_timestamp_seconds", Help: "When the last proof of the whole cell ended."}),
		seconds: prometheus.NewGauge(prometheus.GaugeOpts{Name: "caresphere_isolation_last_proof_seconds", Help: "How long the last proof of the whole cell took."}),
		locked:  prometheus.NewCounter(prometheus.CounterOpts{Name: "caresphere_isolation_quarantines_total", Help: "Tenants that were quarantined because their proof failed."}),
	}
	if r != nil {
		r.MustRegister(g.tenants, g.last, g.seconds, g.locked)
	}
	return g
}
