package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/internal/kms"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/probe"
	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/tenants"
)

// asProcess makes the test binary the program itself, so that it can be killed.
const asProcess = "PROVISIONER_TEST_PROCESS"

func TestMain(m *testing.M) {
	if os.Getenv(asProcess) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// world is what a provisioner process works in, all of one test's own.
type world struct {
	t             *testing.T
	control, cell *testkit.DB
	admin         *pgxpool.Pool
	cellAdmin     *pgxpool.Pool
	worker        *pgxpool.Pool
	keys          kms.KMS
	env           []string
	health        string
	ca            *testkit.Authority
	objects       string
	isolationPub  string
	auditKey      note.Signer
	auditPub      note.Verifier
	keyring       string
	probed        atomic.Int64
	// silent makes the front fail every request, careless serve every one.
	silent, careless atomic.Bool
	stalled          atomic.Pointer[stall]
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ctx, dir := context.Background(), t.TempDir()
	w := &world{t: t, control: testkit.ControlDB(t), cell: testkit.CellDB(t), ca: testkit.CA(t)}
	w.admin, w.cellAdmin = w.open(w.control.Superuser(t)), w.open(w.cell.Superuser(t))
	w.worker = w.open(w.cell.DSN("cell_worker"))
	w.objects = filepath.Join(dir, "objects")
	keyring := "keyring:" + filepath.Join(dir, "keys")
	w.keyring = keyring
	var err error
	w.keys, err = kms.Open(ctx, kms.Config{URL: keyring})
	require.NoError(t, err)
	t.Cleanup(func() { _ = w.keys.Close() })

	write := func(name string) (path, public string) {
		private, public, err := note.GenerateKey(rand.Reader, "caresphere-"+name)
		require.NoError(t, err)
		path = filepath.Join(dir, name+".key")
		require.NoError(t, os.WriteFile(path, []byte(private+"\n"), 0o600))
		return path, public
	}
	auditKey, auditPublic := write("audit")
	private, err := os.ReadFile(auditKey)
	require.NoError(t, err)
	w.auditKey, err = note.NewSigner(strings.TrimSpace(string(private)))
	require.NoError(t, err)
	w.auditPub, err = note.NewVerifier(auditPublic)
	require.NoError(t, err)
	probeKey, probePublic := write("probe")
	isolationKey, isolationPublic := write("isolation")
	w.isolationPub = isolationPublic
	verifier, err := note.NewVerifier(probePublic)
	require.NoError(t, err)
	pair := w.ca.Issue(t, service)
	tenantCA, tenantCAKey := w.cell.PG().TenantCA()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w.health = ln.Addr().String()
	require.NoError(t, ln.Close())
	front := w.front(verifier)
	for k, v := range map[string]string{
		"TLS_CA": w.ca.Path(), "TLS_CERT": pair.Cert, "TLS_KEY": pair.Key, "HEALTH_LISTEN": w.health, "PUBLIC_ORIGIN": front,
		"CONTROL_DSN": w.control.DSN("provisioner"), "CELL_ID": "main",
		"CELL_OWNER_DSN": w.cell.DSN("cell_owner"), "CELL_SEALER_DSN": w.cell.DSN("cell_sealer"),
		"AUDIT_KEY": auditKey, "PROBE_KEY": probeKey, "ISOLATION_KEY": isolationKey, "TENANT_CA_CERT": tenantCA, "TENANT_CA_KEY": tenantCAKey,
		"KMS": keyring, "BLOB": "file:" + w.objects,
	} {
		w.env = append(w.env, "CARESPHERE_"+k+"="+v)
	}
	return w
}

func (w *world) open(dsn string) *pgxpool.Pool {
	w.t.Helper()
	pool, err := pg.Open(context.Background(), dsn, pg.Options{})
	require.NoError(w.t, err)
	w.t.Cleanup(pool.Close)
	return pool
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	_, err := w.admin.Exec(context.Background(), sql, args...)
	require.NoError(w.t, err)
}

func (w *world) text(sql string, args ...any) string {
	w.t.Helper()
	var s string
	require.NoError(w.t, w.admin.QueryRow(context.Background(), sql, args...).Scan(&s))
	return s
}

func (w *world) cellText(sql string, args ...any) string {
	w.t.Helper()
	var s string
	require.NoError(w.t, w.cellAdmin.QueryRow(context.Background(), sql, args...).Scan(&s))
	return s
}

// eventually polls until the query answers what is wanted.
func (w *world) eventually(within time.Duration, want, sql string, args ...any) {
	w.t.Helper()
	require.Eventually(w.t, func() bool {
		var s string
		return w.admin.QueryRow(context.Background(), sql, args...).Scan(&s) == nil && s == want
	}, within, 20*time.Millisecond, "%s was never %q", sql, want)
}

// organization plants a customer with an executed agreement, and the job that the
// countersignature would have inserted.
func (w *world) organization() tenants.ID {
	w.t.Helper()
	org := w.agreed()
	w.ask(org)
	return org
}

// ask inserts the job that the countersignature would have inserted.
func (w *world) ask(org tenants.ID) {
	w.t.Helper()
	w.exec(`INSERT INTO river_job (kind, args, queue, max_attempts) VALUES ('provision', jsonb_build_object('organization_id', $1::text), 'provision', 25)`, org.String())
}

// agreed plants a customer with an executed agreement.
func (w *world) agreed() tenants.ID {
	w.t.Helper()
	org, owner, baa := tenants.NewID(), tenants.NewID(), tenants.NewID()
	slug := "org-" + org.Hex()[20:]
	w.exec(`INSERT INTO organization (id, slug, legal_name, care_setting, state) VALUES ($1, $2, 'Willow Creek', 'residential', 'provisioning')`, org, slug)
	w.exec(`INSERT INTO account (identity_id, organization_id, email, name, first_owner) VALUES ($1, $2, $3, 'Ada Owner', true)`, owner, org, slug+"@example.com")
	w.exec(`INSERT INTO subscription (organization_id, plan, status) VALUES ($1, 'manual', 'pending')`, org)
	w.exec(`INSERT INTO baa (id, organization_id, template_version, document, document_sha256) VALUES ($1, $2, 'v1', 'text', sha256('text'))`, baa, org)
	w.exec(`UPDATE baa SET state = 'signed', customer_evidence = 'c', signed_at = now() WHERE id = $1`, baa)
	w.exec(`UPDATE baa SET state = 'executed', operator_evidence = 'o', pdf = 'p', bundle = 'b',
		executed_at = now() - interval '1 minute', expires_at = now() + interval '1 year' WHERE id = $1`, baa)
	return org
}

// process is a provisioner that runs.
type process struct {
	cmd  *exec.Cmd
	done chan error
	log  string
}

func (w *world) start() *process {
	w.t.Helper()
	p := &process{cmd: exec.Command(os.Args[0]), done: make(chan error, 1), log: filepath.Join(w.t.TempDir(), "log")}
	log, err := os.Create(p.log)
	require.NoError(w.t, err)
	p.cmd.Stderr, p.cmd.Stdout = log, log
	p.cmd.Env = append(slices.Clone(w.env), asProcess+"=1", "PATH="+os.Getenv("PATH"), "HOME="+os.Getenv("HOME"))
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(w.t, p.cmd.Start())
	gone := make(chan struct{})
	go func() {
		p.done <- p.cmd.Wait()
		_ = log.Close()
		close(gone)
	}()
	w.t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-gone
		if w.t.Failed() {
			b, _ := os.ReadFile(p.log)
			w.t.Logf("provisioner's log:\n%s", b)
		}
	})
	return p
}

func (p *process) kill(t *testing.T) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Kill())
	<-p.done
}

func (p *process) signal(t *testing.T, s os.Signal) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(s))
}

// front stands where router and worker are and does what a worker does for a probe.
func (w *world) front(verifier note.Verifier) string {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if s := w.stalled.Swap(nil); s != nil {
			close(s.reached)
			<-s.release
		}
		switch {
		case w.silent.Load():
			rw.WriteHeader(http.StatusServiceUnavailable)
			return
		case w.careless.Load():
			return
		}
		if err := w.serve(r, verifier); err != nil {
			rw.WriteHeader(http.StatusNotFound)
			if !errors.Is(err, probe.ErrInvalid) && !errors.Is(err, pgx.ErrNoRows) {
				w.t.Logf("probe: %v", err)
			}
			return
		}
		w.probed.Add(1)
	}))
	pair := w.ca.Issue(w.t, "localhost")
	cert, err := tls.LoadX509KeyPair(pair.Cert, pair.Key)
	require.NoError(w.t, err)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	w.t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	require.NoError(w.t, err)
	return "https://localhost:" + port
}

func (w *world) serve(r *http.Request, verifier note.Verifier) error {
	var id tenants.ID
	if err := w.admin.QueryRow(r.Context(), `SELECT id FROM organization WHERE slug = $1 AND gate_mode <> 'closed' AND placement_epoch > 0`,
		strings.Split(r.URL.Path, "/")[2]).Scan(&id); err != nil {
		return fmt.Errorf("route: %w", err)
	}
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if _, err := probe.Verify(verifier, token, id, time.Now()); err != nil {
		return err
	}
	return w.asTenant(r.Context(), id, `INSERT INTO probe (id, sealed) VALUES (gen_random_uuid(), 'x')`, `DELETE FROM probe`)
}

// asTenant runs statements as a worker would: with the stored credential, under a
// system context.
func (w *world) asTenant(ctx context.Context, id tenants.ID, statements ...string) error {
	return w.inTenant(ctx, id, func(tx pgx.Tx) error {
		for _, sql := range statements {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return nil
	})
}

func (w *world) inTenant(ctx context.Context, id tenants.ID, fn func(pgx.Tx) error) error {
	row, err := tenantdb.LoadCredential(ctx, w.worker, id)
	if err != nil {
		return err
	}
	cert, key, err := tenantdb.OpenCredential(ctx, w.keys, row)
	if err != nil {
		return err
	}
	conn, err := pg.Connect(ctx, w.cell.DSN("cell_worker"), pg.Options{User: tenants.RoleName(id), Certificate: &cert, SearchPath: tenants.SchemaName(id)})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	return pg.InTx(ctx, conn, func(tx pgx.Tx) error {
		signed := tenantdb.Mint(key, conn.PgConn().PID(), tenantdb.KindSystem, tenants.Actor{TenantID: id}, time.Now().Add(10*time.Second))
		if _, err := tx.Exec(ctx, `SELECT set_config($1, $2, true)`, tenantdb.Setting, signed); err != nil {
			return err
		}
		return fn(tx)
	})
}

func (w *world) anchors() []string {
	w.t.Helper()
	found, err := filepath.Glob(filepath.Join(w.objects, "anchors", "*", "latest"))
	require.NoError(w.t, err)
	return found
}

func (w *world) get(path string) (int, error) {
	code, _, err := w.fetch(path)
	return code, err
}

// metrics are what the running process says of itself, or empty.
func (w *world) metrics() string {
	_, body, _ := w.fetch("/metrics")
	return body
}

func (w *world) fetch(path string) (int, string, error) {
	pool := x509.NewCertPool()
	pem, err := os.ReadFile(w.ca.Path())
	if err != nil {
		return 0, "", err
	}
	pool.AppendCertsFromPEM(pem)
	c := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
	res, err := c.Get("https://" + w.health + path)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	return res.StatusCode, string(body), err
}
