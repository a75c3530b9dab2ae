package e2e_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/internal/demo"
	"github.com/caresphere/caresphere/internal/devstack"
	"github.com/caresphere/caresphere/internal/kms"
	"github.com/caresphere/caresphere/internal/routes"
	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/tenants"
)

// table is the route table that the control plane publishes, verified.
func (w *world) table(t *testing.T) tenants.RouteTable {
	t.Helper()
	r := w.wire(t, w.URL(devstack.PortControlPlane), w.certificate(t, devstack.Router)).do(t, http.MethodGet, "/internal/v1/routes?after=0", nil)
	require.Equal(t, http.StatusOK, r.status, r.body)
	return w.verified(t, []byte(r.body))
}

func (w *world) verified(t *testing.T, doc []byte) tenants.RouteTable {
	t.Helper()
	pub, err := os.ReadFile(w.Layout().Path("keys", "route.pub"))
	require.NoError(t, err)
	v, err := note.NewVerifier(strings.TrimSpace(string(pub)))
	require.NoError(t, err)
	table, err := routes.Verify(doc, v)
	require.NoError(t, err)
	return table
}

// kept is the table that a program holds on disk.
func (w *world) kept(t *testing.T, program string) tenants.RouteTable {
	t.Helper()
	doc, err := os.ReadFile(w.Layout().Path(program, routes.FileName))
	require.NoError(t, err)
	return w.verified(t, doc)
}

func find(table tenants.RouteTable, l *demo.Live) (tenants.Route, bool) {
	for _, r := range table.Routes {
		if r.Slug == l.Slug {
			return r, true
		}
	}
	return tenants.Route{}, false
}

// route is the tenant's route as published.
func (w *world) route(t *testing.T, l *demo.Live) tenants.Route {
	t.Helper()
	r, ok := find(w.table(t), l)
	require.True(t, ok, "%s has a route", l.Slug)
	return r
}

// keys is the KMS with a worker's rights.
func (w *world) keys(t *testing.T) kms.KMS {
	t.Helper()
	k, err := kms.Open(within(t, 30*time.Second), kms.Config{
		URL: "keyring:" + w.Layout().Path("keyring"), CellID: devstack.CellID,
		CAFile: w.Layout().CA(), ShredLedger: w.Layout().Path("shredded-keys"),
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = k.Close() })
	return k
}

// credential is what a worker holds for a tenant while its gate is open: whoever
// stole it then has it still when the gate is closed.
type credential struct {
	id   tenants.ID
	cert tls.Certificate
	data kms.DataKey
	key  tenants.ID
}

func (w *world) credential(t *testing.T, l *demo.Live) credential {
	t.Helper()
	ctx := within(t, 30*time.Second)
	id, err := tenants.ParseID(l.ID)
	require.NoError(t, err)
	conn, err := pgx.Connect(ctx, w.DSN("cell_worker"))
	require.NoError(t, err)
	defer func() { _ = conn.Close(ctx) }()
	row, err := tenantdb.LoadCredential(ctx, conn, id)
	require.NoError(t, err)
	k := w.keys(t)
	c := credential{id: id, key: tenants.NewID()}
	c.cert, _, err = tenantdb.OpenCredential(ctx, k, row)
	require.NoError(t, err)
	c.data, err = k.NewDataKey(ctx, kms.KeyName(id), "field", c.key)
	require.NoError(t, err)
	return c
}

// loggedIn is a connection to the cell as the tenant's role, by its own certificate.
func (w *world) loggedIn(t *testing.T, c credential) (*pgx.Conn, error) {
	t.Helper()
	cfg, err := pgx.ParseConfig(w.DSN("cell_worker"))
	require.NoError(t, err)
	cfg.User, cfg.Password = tenants.RoleName(c.id), ""
	cfg.TLSConfig = &tls.Config{RootCAs: w.roots, Certificates: []tls.Certificate{c.cert}, ServerName: "localhost", MinVersion: tls.VersionTLS12}
	cfg.Fallbacks = nil
	return pgx.ConnectConfig(within(t, 10*time.Second), cfg)
}

// login tells what keeps the tenant's role from logging in.
func (w *world) login(t *testing.T, c credential) error {
	t.Helper()
	conn, err := w.loggedIn(t, c)
	if err != nil {
		return err
	}
	return conn.Close(within(t, 10*time.Second))
}

// refusedLogin tells whether the server itself said no to the role.
func refusedLogin(err error) bool {
	var p *pgconn.PgError
	return errors.As(err, &p) && p.Code == "28000"
}

func (w *world) unwrap(t *testing.T, c credential) error {
	t.Helper()
	_, err := w.keys(t).Unwrap(within(t, 10*time.Second), kms.KeyName(c.id), "field", c.key, c.data.Wrapped)
	return err
}

// closed shows that every layer refuses the tenant by itself. It waits for those
// that a job closes, and for a control plane that was away.
func (w *world) closed(t *testing.T, l *demo.Live, c credential) {
	t.Helper()
	until(t, promise, "no route is published for "+l.Slug, func() (bool, string) {
		r, there := find(w.table(t), l)
		return !there, fmt.Sprintf("%+v", r)
	})
	for i, p := range []devstack.Port{devstack.PortWorkerA, devstack.PortWorkerB} {
		own := w.asRouter(t, p).as(l.Nurse.Client).do(t, http.MethodGet, "/t/"+l.Slug+"/v1/clients", nil)
		require.Equal(t, http.StatusForbidden, own.status, "%s answers the tenant's own session: %s", workers[i], own.body)
		require.Equal(t, string(tenants.KindGateClosed), own.problem())
		strange := w.asRouter(t, p).as(w.other(t).Nurse.Client).do(t, http.MethodGet, "/t/"+l.Slug+"/v1/clients", nil)
		require.Equal(t, http.StatusNotFound, strange.status, "%s answers another tenant's session: %s", workers[i], strange.body)
	}
	until(t, 10*time.Second, "the login role is shut", func() (bool, string) {
		err := w.login(t, c)
		if err == nil {
			return false, "the tenant's certificate still opens its role"
		}
		return refusedLogin(err), err.Error()
	})
	until(t, 10*time.Second, "the key refuses", func() (bool, string) {
		err := w.unwrap(t, c)
		if err == nil {
			return false, "the KMS still unwraps"
		}
		return errors.Is(err, kms.ErrKeyDisabled), err.Error()
	})
	var n int
	require.NoError(t, w.database(t, devstack.CellDatabase).QueryRow(within(t, 10*time.Second),
		"SELECT count(*) FROM pg_stat_activity WHERE usename = $1", tenants.RoleName(c.id)).Scan(&n))
	require.Zero(t, n, "no session of the role is left")
}

// opened is the twin: every layer lets the tenant through.
func (w *world) opened(t *testing.T, l *demo.Live, c credential) {
	t.Helper()
	require.NoError(t, w.login(t, c), "the tenant's certificate opens its role")
	require.NoError(t, w.unwrap(t, c), "the KMS unwraps")
	epoch := w.route(t, l).Epoch
	for i, p := range []devstack.Port{devstack.PortWorkerA, devstack.PortWorkerB} {
		a := w.asRouter(t, p).as(l.Nurse.Client).with("Caresphere-Placement-Epoch", itoa(epoch)).do(t, http.MethodGet, "/t/"+l.Slug+"/v1/clients", nil)
		require.Equal(t, http.StatusOK, a.status, "%s: %s", workers[i], a.body)
	}
}

// served waits until the tenant's nurse is served through the router.
func (w *world) served(t *testing.T, l *demo.Live) {
	t.Helper()
	until(t, 30*time.Second, l.Slug+" is served", func() (bool, string) {
		err := l.Nurse.Tenant(l.Slug).Do(within(t, 10*time.Second), http.MethodGet, "/clients", nil, nil)
		if err != nil {
			return false, err.Error()
		}
		return true, ""
	})
}
