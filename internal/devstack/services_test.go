package devstack

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/devstack/tools"
	"github.com/caresphere/caresphere/internal/kms"
	"github.com/caresphere/caresphere/internal/schema"
	"github.com/caresphere/caresphere/tenants"
)

// testConfig is a stack of the test's own: a state folder that every account can
// reach, and leased ports.
func testConfig(t *testing.T) Config {
	t.Helper()
	dir, err := os.MkdirTemp("", "cs-state-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o711))
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	base, release, err := LeasePorts()
	require.NoError(t, err)
	t.Cleanup(release)
	cache, err := tools.DefaultCache()
	require.NoError(t, err)
	return Config{Layout: Layout{State: filepath.Join(dir, "state"), Base: base}, Cache: cache, Volatile: true, Full: true, Progress: os.Stderr, Building: os.Stderr}
}

func TestServicesKeepTheirStateOverARestart(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	cfg := testConfig(t)
	tenant, purpose, id := tenants.NewID(), "field", tenants.NewID()
	var wrapped []byte

	run := func(check func(s *services, worker, provisioner kms.KMS)) {
		unlock, err := cfg.Lock()
		require.NoError(t, err)
		defer unlock()
		s, err := startServices(ctx, cfg)
		require.NoError(t, err)
		defer func() { require.NoError(t, s.stop(ctx, cfg)) }()
		open := func(role string) kms.KMS {
			k, err := kms.Open(ctx, kms.Config{
				URL: "vault:" + cfg.URL(PortVault), CellID: CellID, CAFile: cfg.CA(),
				RoleIDFile: cfg.Path("secrets", "vault", role+".role-id"), SecretIDFile: cfg.Path("secrets", "vault", role+".secret-id"),
			})
			require.NoError(t, err)
			t.Cleanup(func() { _ = k.Close() })
			return k
		}
		check(s, open("worker"), open("provisioner"))
	}

	run(func(s *services, worker, provisioner kms.KMS) {
		_, err := schema.Control(ctx, s.postgres.DSN(ControlDatabase, "platform_owner"))
		require.NoError(t, err)
		_, err = schema.Cell(ctx, s.postgres.DSN(CellDatabase, "cell_owner"))
		require.NoError(t, err)
		execSQL(t, s.postgres.DSN(ControlDatabase, "controlplane"), "INSERT INTO cell (id) VALUES ('kept')")
		require.NoError(t, provisioner.Ensure(ctx, kms.KeyName(tenant)))
		key, err := worker.NewDataKey(ctx, kms.KeyName(tenant), purpose, id)
		require.NoError(t, err)
		wrapped = key.Wrapped
	})
	run(func(s *services, worker, _ kms.KMS) {
		n, err := schema.Control(ctx, s.postgres.DSN(ControlDatabase, "platform_owner"))
		require.NoError(t, err)
		require.Zero(t, n, "the second start has nothing to migrate")
		require.Equal(t, "kept", queryText(t, s.postgres.DSN(ControlDatabase, "controlplane"), "SELECT id FROM cell"))
		_, err = worker.Unwrap(ctx, kms.KeyName(tenant), purpose, id, wrapped)
		require.NoError(t, err)
	})
}

func execSQL(t *testing.T, dsn, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	_, err = conn.Exec(t.Context(), sql)
	require.NoError(t, err)
}

func queryText(t *testing.T, dsn, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	var got string
	require.NoError(t, conn.QueryRow(t.Context(), sql).Scan(&got))
	return got
}
