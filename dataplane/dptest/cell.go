// Package dptest gives the data plane's tests a worker that serves: a real cell
// database with the real tenant migrations, real tenant logins by certificate, the
// keyring, and the API behind mutual TLS. Only who is signed in is the test's word
// where Kratos' own behaviour does not matter. It is linked into tests only.
package dptest

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/dataplane/access"
	"github.com/caresphere/caresphere/dataplane/api"
	"github.com/caresphere/caresphere/dataplane/session"
	"github.com/caresphere/caresphere/dataplane/tell"
	"github.com/caresphere/caresphere/dataplane/trail"
	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/internal/identity"
	"github.com/caresphere/caresphere/internal/kms/driver"
	"github.com/caresphere/caresphere/internal/kms/keyring"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/phi"
	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/tenants"
)

// CellID is the cell's name; Epoch the placement that its tenants begin with.
const (
	CellID = "main"
	Epoch  = 7
)

// Cell is a cell with one worker.
type Cell struct {
	DB  *testkit.DB
	KMS driver.KMS
	// Super is for planting faults and for looking.
	Super *pgx.Conn
	Door  *access.Door
	Gate  *session.Gate
	API   *api.API
	URL   string
	// HTTP is the router's client.
	HTTP   *http.Client
	Routes *Routes
	// People says whose session a token is.
	People *People
	// Invited are the invitations that went to the control plane.
	Invited *Invitations
	// Control hears what was decided about people, which Teller tells.
	Control *ControlPlane
	Teller  *tell.Teller
	// Probe signs probe tokens as the provisioner does; AuditKey is the sealer's.
	Probe    note.Signer
	AuditKey string

	authority *tenantdb.CA
	owner     *pgxpool.Pool
}

// Option changes a cell before it serves.
type Option func(*options)

type options struct {
	identity session.Identity
	dsn      func(string) string
	log      io.Writer
	db       func(testing.TB) *testkit.DB
	requests int
	// connections is the budget of the worker's pools.
	connections int
	believe     []session.Believe
}

// WithRequests sets how many of one tenant's transactions run at once.
func WithRequests(n int) Option { return func(o *options) { o.requests = n } }

// WithConnections sets how many connections the worker has open for all tenants.
func WithConnections(n int) Option { return func(o *options) { o.connections = n } }

// WithDatabase puts the cell into another cluster than the run's own.
func WithDatabase(f func(testing.TB) *testkit.DB) Option { return func(o *options) { o.db = f } }

// WithIdentity asks another source whose session it is, as a real Kratos.
func WithIdentity(i session.Identity) Option { return func(o *options) { o.identity = i } }

// WithBelieve sets for how long an answer about a session is used.
func WithBelieve(b session.Believe) Option {
	return func(o *options) { o.believe = append(o.believe, b) }
}

// WithLog takes what the worker logs.
func WithLog(w io.Writer) Option { return func(o *options) { o.log = w } }

// WithDSN changes the worker's way to its database, as through a faulty network.
func WithDSN(f func(string) string) Option { return func(o *options) { o.dsn = f } }

// Start starts a cell for the test.
func Start(t testing.TB, opts ...Option) *Cell {
	t.Helper()
	o := options{dsn: func(s string) string { return s }, log: os.Stderr, db: testkit.CellDB}
	for _, f := range opts {
		f(&o)
	}
	c := &Cell{DB: o.db(t), Routes: &Routes{bySlug: map[string]tenants.Route{}}, People: &People{byToken: map[string]identity.Session{}}, Invited: &Invitations{}}
	if o.identity == nil {
		o.identity = c.People
	}
	c.KMS = openKeyring(t)
	ctx := context.Background()
	var err error
	if c.Super, err = pgx.Connect(ctx, c.DB.Superuser(t)); err != nil {
		t.Fatal(err)
	}
	pg.RegisterTypes(c.Super.TypeMap())
	t.Cleanup(func() { _ = c.Super.Close(ctx) })
	c.owner = open(t, c.DB.DSN("cell_owner"))
	cert, key := c.DB.PG().TenantCA()
	if c.authority, err = tenantdb.LoadCA(read(t, cert), read(t, key)); err != nil {
		t.Fatal(err)
	}
	c.work(t, o)
	c.serve(t)
	return c
}

// work makes the worker's parts.
func (c *Cell) work(t testing.TB, o options) {
	t.Helper()
	dsn := o.dsn(c.DB.DSN("cell_worker"))
	signals := access.NewSignals(dsn, 10*time.Millisecond, slog.New(slog.NewJSONHandler(o.log, nil)))
	pools := access.NewPools(access.PoolConfig{DSN: dsn, Requests: o.requests, Connections: o.connections}, access.StoredCredentials{Cell: open(t, dsn), KMS: c.KMS})
	c.Door = access.NewDoor(pools, signals)
	cipher, err := phi.NewCipher(c.KMS, c.Door.Keys(), phi.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c.Door.Use(cipher)
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = signals.Run(ctx, c.Door) })
	t.Cleanup(func() { stop(); wg.Wait(); c.Door.Close(); cipher.Close() })
	c.Gate = session.NewGate(CellID, o.identity, c.Routes, c.Door, o.believe...)
	probe, probePub := key(t, "caresphere-probe")
	exporter, exporterPub := key(t, "caresphere-export")
	audit, auditPub := key(t, "caresphere-audit")
	c.AuditKey = audit
	c.Probe = signer(t, probe)
	verifier, err := note.NewVerifier(probePub)
	if err != nil {
		t.Fatal(err)
	}
	c.Control = newControlPlane(t)
	c.Teller = tell.New(c.Door, c.Control.Client, nil)
	c.API = api.New(api.Config{PublicOrigin: Origin, Version: "test", Gate: c.Gate, Routes: c.Routes, Door: c.Door,
		Invitations: c.Invited, Teller: c.Teller, Probe: verifier,
		Trail: &trail.Service{Door: c.Door, Signer: signer(t, exporter), Verifiers: auditPub + "\n" + exporterPub}})
}

// Origin is the browsers' origin.
const Origin = "https://localhost:8443"

func (c *Cell) serve(t testing.TB) {
	t.Helper()
	ca := testkit.CA(t)
	mine, router := ca.Issue(t, "dataplane"), ca.Issue(t, "router")
	conf, err := httpx.MutualTLS(ca.Path(), mine.Cert, mine.Key, "router")
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- httpx.Serve(ctx, c.API.App, ln, conf) }()
	t.Cleanup(func() {
		c.HTTP.CloseIdleConnections()
		stop()
		if err := <-ended; err != nil {
			t.Errorf("stopping the worker: %v", err)
		}
	})
	c.URL = "https://" + ln.Addr().String()
	client, err := httpx.ClientTLS(ca.Path(), router.Cert, router.Key, "dataplane")
	if err != nil {
		t.Fatal(err)
	}
	c.HTTP = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: client, MaxIdleConnsPerHost: 64}}
}

func openKeyring(t testing.TB) driver.KMS {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := keyring.Create(dir); err != nil {
		t.Fatal(err)
	}
	k, err := keyring.Open(dir, keyring.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	return k
}

func open(t testing.TB, dsn string) *pgxpool.Pool {
	t.Helper()
	p, err := pg.Open(context.Background(), dsn, pg.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func key(t testing.TB, name string) (private, public string) {
	t.Helper()
	private, public, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	return private, public
}

func signer(t testing.TB, private string) note.Signer {
	t.Helper()
	s, err := note.NewSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
