package provisioning_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/controlplane/placement"
	"github.com/caresphere/caresphere/controlplane/provisioning"
	"github.com/caresphere/caresphere/internal/blob"
	"github.com/caresphere/caresphere/internal/kms"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/probe"
	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/tenants"
)

// bundle is a control database, a cell and a provisioner over them, with real keys
// and objects, all of one test's own.
type bundle struct {
	control, cell *testkit.DB
	admin         *pgxpool.Pool // the control database's superuser: plants what other parts write
	cellAdmin     *pgxpool.Pool
	cellWorker    *pgxpool.Pool
	keys          kms.KMS
	objects       string
	config        provisioning.Config
	p             *provisioning.Provisioner
	probes        *probeServer
}

func setup(t testing.TB) *bundle {
	t.Helper()
	ctx := context.Background()
	b := &bundle{control: testkit.ControlDB(t), cell: testkit.CellDB(t), objects: t.TempDir()}
	b.admin = open(t, b.control.Superuser(t), pg.Options{})
	b.cellAdmin = open(t, b.cell.Superuser(t), pg.Options{})
	b.cellWorker = open(t, b.cell.DSN("cell_worker"), pg.Options{})

	dir := t.TempDir()
	var err error
	b.keys, err = kms.Open(ctx, kms.Config{URL: "keyring:" + filepath.Join(dir, "keys"), CellID: "main"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.keys.Close() })
	objects, err := blob.Open(blob.Config{URL: "file:" + b.objects})
	require.NoError(t, err)

	control := open(t, b.control.DSN("provisioner"), pg.Options{ApplicationName: "provisioner"})
	inserter, err := provisioning.Inserter(control, nil)
	require.NoError(t, err)
	private, public, err := note.GenerateKey(rand.Reader, "caresphere-probe")
	require.NoError(t, err)
	signer, err := note.NewSigner(private)
	require.NoError(t, err)
	verifier, err := note.NewVerifier(public)
	require.NoError(t, err)
	b.probes = newProbeServer(t, b, verifier)
	migrator, err := pg.OpenMigrator(ctx, b.cell.DSN("cell_owner"), provisioning.MigrationsAtOnce)
	require.NoError(t, err)
	t.Cleanup(migrator.Close)
	b.config = provisioning.Config{
		Control: control, Cell: open(t, b.cell.DSN("cell_owner"), pg.Options{ApplicationName: "provisioner"}),
		CellDSN: b.cell.DSN("cell_owner"), Migrator: migrator, CellID: "main",
		Keys: b.keys, Rewrapper: b.keys, Objects: objects, Gatekeeper: placement.NewGates(inserter, nil), Authority: authority(t, b.cell.PG()),
		ProbeSigner: signer, PublicOrigin: b.probes.server.URL, ProbeTLS: b.probes.client,
		Holder: "one",
	}
	b.p, err = provisioning.New(b.config)
	require.NoError(t, err)
	require.NoError(t, b.p.RegisterCell(ctx))
	return b
}

func open(t testing.TB, dsn string, o pg.Options) *pgxpool.Pool {
	t.Helper()
	pool, err := pg.Open(context.Background(), dsn, o)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func authority(t testing.TB, server *testkit.PG) *tenantdb.CA {
	t.Helper()
	certFile, keyFile := server.TenantCA()
	cert, err := os.ReadFile(certFile)
	require.NoError(t, err)
	key, err := os.ReadFile(keyFile)
	require.NoError(t, err)
	ca, err := tenantdb.LoadCA(cert, key)
	require.NoError(t, err)
	return ca
}

// organization plants a customer with an executed agreement, about to be provisioned.
func (b *bundle) organization(t testing.TB) (org, owner tenants.ID) {
	t.Helper()
	org, owner = tenants.NewID(), tenants.NewID()
	slug := "org-" + org.Hex()[20:]
	b.exec(t, `INSERT INTO organization (id, slug, legal_name, care_setting, state) VALUES ($1, $2, 'Willow Creek', 'residential', 'provisioning')`, org, slug)
	b.exec(t, `INSERT INTO account (identity_id, organization_id, email, name, first_owner) VALUES ($1, $2, $3, 'Ada Owner', true)`, owner, org, slug+"@example.com")
	b.agreement(t, org)
	return org, owner
}

func (b *bundle) agreement(t testing.TB, org tenants.ID) tenants.ID {
	t.Helper()
	id := tenants.NewID()
	b.exec(t, `INSERT INTO baa (id, organization_id, template_version, document, document_sha256) VALUES ($1, $2, 'v1', 'text', sha256('text'))`, id, org)
	b.exec(t, `UPDATE baa SET state = 'signed', customer_evidence = 'c', signed_at = now() WHERE id = $1`, id)
	b.exec(t, `UPDATE baa SET state = 'executed', operator_evidence = 'o', pdf = 'p', bundle = 'b',
		executed_at = now() - interval '1 minute', expires_at = now() + interval '1 year' WHERE id = $1`, id)
	return id
}

func (b *bundle) exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	_, err := b.admin.Exec(context.Background(), sql, args...)
	require.NoError(t, err)
}

func (b *bundle) text(t testing.TB, sql string, args ...any) string {
	t.Helper()
	var s string
	require.NoError(t, b.admin.QueryRow(context.Background(), sql, args...).Scan(&s))
	return s
}

func (b *bundle) cellText(t testing.TB, sql string, args ...any) string {
	t.Helper()
	var s string
	require.NoError(t, b.cellAdmin.QueryRow(context.Background(), sql, args...).Scan(&s))
	return s
}

// provisioned brings an organization to life and returns a way in as its role.
func (b *bundle) provisioned(t testing.TB) *tenant {
	t.Helper()
	org, owner := b.organization(t)
	require.NoError(t, b.p.Provision(context.Background(), org, true))
	require.Equal(t, "live", b.text(t, `SELECT state FROM organization WHERE id = $1`, org))
	return &tenant{b: b, id: org, owner: owner}
}

// tenant is a provisioned organization as a worker sees it.
type tenant struct {
	b         *bundle
	id, owner tenants.ID
}

// login opens a connection as the tenant's role with its stored credential.
func (o *tenant) login(t testing.TB) (*pgx.Conn, tenantdb.ContextKey) {
	t.Helper()
	conn, key, err := o.b.login(context.Background(), o.id)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn, key
}

func (b *bundle) login(ctx context.Context, id tenants.ID) (*pgx.Conn, tenantdb.ContextKey, error) {
	row, err := tenantdb.LoadCredential(ctx, b.cellWorker, id)
	if err != nil {
		return nil, tenantdb.ContextKey{}, err
	}
	cert, key, err := tenantdb.OpenCredential(ctx, b.keys, row)
	if err != nil {
		return nil, tenantdb.ContextKey{}, err
	}
	conn, err := pg.Connect(ctx, b.cell.DSN("cell_worker"), pg.Options{
		User: tenants.RoleName(id), Certificate: &cert, SearchPath: tenants.SchemaName(id)})
	return conn, key, err
}

// as runs fn in a transaction under a context for the actor.
func as(conn *pgx.Conn, key tenantdb.ContextKey, kind tenantdb.Kind, a tenants.Actor, fn func(pgx.Tx) error) error {
	ctx := context.Background()
	return pg.InTx(ctx, conn, func(tx pgx.Tx) error {
		signed := tenantdb.Mint(key, conn.PgConn().PID(), kind, a, time.Now().Add(10*time.Second))
		if _, err := tx.Exec(ctx, `SELECT set_config($1, $2, true)`, tenantdb.Setting, signed); err != nil {
			return err
		}
		return fn(tx)
	})
}

func (o *tenant) actor(id tenants.ID, role tenants.Role, facilities ...tenants.ID) tenants.Actor {
	return tenants.Actor{Kind: tenants.ActorMember, ID: id, TenantID: o.id, Role: role, Facilities: facilities, SessionID: tenants.NewID()}
}

// probeServer stands where router and worker are: it does what a worker does for a
// probe, over the same packages.
type probeServer struct {
	server *httptest.Server
	client *tls.Config
	mu     sync.Mutex
	refuse int // answers with this status instead, if not zero
	served int
	other  *bundle // the cell of that name, in tests of two
}

// answer has probes answered with the status, or as a worker does if it is zero.
func (s *probeServer) answer(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = status
}

// stoppedAtTheProbe is an organization whose provisioning came to its probe, which was
// refused. Probes are served again.
func (b *bundle) stoppedAtTheProbe(t testing.TB) tenants.ID {
	t.Helper()
	org, _ := b.organization(t)
	b.probes.answer(http.StatusServiceUnavailable)
	defer b.probes.answer(0)
	short, cancel := context.WithTimeout(context.Background(), 8*time.Second)
	defer cancel()
	require.Error(t, b.p.Provision(short, org, false))
	return org
}

func newProbeServer(t testing.TB, b *bundle, verifier note.Verifier) *probeServer {
	s := &probeServer{}
	s.server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		refuse := s.refuse
		s.served++
		s.mu.Unlock()
		if refuse != 0 {
			w.WriteHeader(refuse)
			return
		}
		if err := s.serve(r, b, verifier); err != nil {
			t.Logf("probe: %v", err)
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	pool := x509.NewCertPool()
	pool.AddCert(s.server.Certificate())
	s.client = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	t.Cleanup(s.server.Close)
	return s
}

func (s *probeServer) serve(r *http.Request, b *bundle, verifier note.Verifier) error {
	ctx := r.Context()
	var (
		id   tenants.ID
		cell string
	)
	slug := strings.Split(r.URL.Path, "/")[2]
	// What the route table would show: a gate that is not closed, in a place.
	if err := b.admin.QueryRow(ctx, `SELECT id, cell_id FROM organization WHERE slug = $1 AND gate_mode <> 'closed' AND placement_epoch > 0`, slug).Scan(&id, &cell); err != nil {
		return fmt.Errorf("route: %w", err)
	}
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if _, err := probe.Verify(verifier, token, id, time.Now()); err != nil {
		return err
	}
	s.mu.Lock()
	if cell == "other" {
		b = s.other
	}
	s.mu.Unlock()
	conn, key, err := b.login(ctx, id)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	row := tenants.NewID()
	return as(conn, key, tenantdb.KindSystem, tenants.Actor{TenantID: id}, func(tx pgx.Tx) error {
		var back []byte
		if _, err := tx.Exec(ctx, `INSERT INTO probe (id, sealed) VALUES ($1, 'x')`, row); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, `SELECT sealed FROM probe WHERE id = $1`, row).Scan(&back); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `DELETE FROM probe WHERE id = $1`, row)
		return err
	})
}
