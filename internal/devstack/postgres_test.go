package devstack

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/devstack/pki"
	"github.com/caresphere/caresphere/internal/devstack/proc"
)

func clusterConfig(t *testing.T, dir string) PostgresConfig {
	t.Helper()
	bin, _, err := FindPostgres(t.Context(), t.TempDir())
	require.NoError(t, err)
	base, release, err := LeasePorts()
	require.NoError(t, err)
	t.Cleanup(release)
	tls := t.TempDir()
	ca, err := pki.Open(tls, "ca", "Test CA")
	require.NoError(t, err)
	tenant, err := pki.Open(tls, "tenant-ca", "Tenant CA")
	require.NoError(t, err)
	server, err := ca.Issue("localhost", "localhost", "127.0.0.1")
	require.NoError(t, err)
	cfg := PostgresConfig{
		Bin: bin, Dir: dir, Port: base, Server: server, CA: ca.CertPath(), TenantCA: tenant.CertPath(),
		Passwords: map[string]string{}, Log: filepath.Join(t.TempDir(), "log"), Volatile: true,
	}
	for _, role := range ClusterRoles() {
		cfg.Passwords[role] = "it's a \\ " + role
	}
	return cfg
}

// openDir is a folder that every account can reach.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cs-pg-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o711))
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func startCluster(t *testing.T, cfg PostgresConfig) *Cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c, err := StartPostgres(ctx, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Process().Stop(context.Background()) })
	return c
}

func TestPostgresRunsUnderAnAccountWithoutRights(t *testing.T) {
	c := startCluster(t, clusterConfig(t, filepath.Join(openDir(t), "pg")))
	status, err := os.ReadFile("/proc/" + strconv.Itoa(c.Process().PID()) + "/status")
	require.NoError(t, err)
	require.NotContains(t, string(status), "Uid:\t0\t")
	info, err := os.Stat(c.data())
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	if os.Getuid() == 0 {
		require.NotZero(t, info.Sys().(*syscall.Stat_t).Uid)
	}
}

func TestPostgresMovesWhereItsAccountCanReach(t *testing.T) {
	closed := t.TempDir()
	require.NoError(t, os.Chmod(closed, 0o700))
	dir := filepath.Join(closed, "pg")
	home, account, err := PostgresHome(dir)
	require.NoError(t, err)
	if os.Getuid() != 0 {
		require.Nil(t, account)
		require.Equal(t, dir, home)
		return
	}
	require.NotEqual(t, dir, home)
	require.True(t, account.CanReach(home))
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	c := startCluster(t, clusterConfig(t, dir))
	require.Equal(t, home, c.Home())
	again, _, err := PostgresHome(dir)
	require.NoError(t, err)
	require.Equal(t, home, again, "the next start finds it")
}

func TestWhoGetsIntoTheCluster(t *testing.T) {
	cfg := clusterConfig(t, filepath.Join(openDir(t), "pg"))
	c := startCluster(t, cfg)
	ctx := t.Context()
	require.NoError(t, PrepareControlDatabase(ctx, c.Superuser, ControlDatabase))
	require.NoError(t, PrepareCellDatabase(ctx, c.Superuser, CellDatabase))
	execSQL(t, c.Superuser("postgres"), "CREATE ROLE t_0123456789abcdef0123456789abcdef LOGIN; GRANT CONNECT ON DATABASE "+CellDatabase+" TO t_0123456789abcdef0123456789abcdef")
	tenantCA, err := pki.Open(filepath.Dir(cfg.TenantCA), "tenant-ca", "Tenant CA")
	require.NoError(t, err)
	serviceCA, err := pki.Open(filepath.Dir(cfg.CA), "ca", "Test CA")
	require.NoError(t, err)
	tenant, err := tenantCA.Issue("t_0123456789abcdef0123456789abcdef")
	require.NoError(t, err)
	impostor, err := tenantCA.Issue("t_ffffffffffffffffffffffffffffffff")
	require.NoError(t, err)
	named, err := tenantCA.Issue("cell_owner")
	require.NoError(t, err)
	foreign, err := serviceCA.IssueAs("foreign", "t_0123456789abcdef0123456789abcdef")
	require.NoError(t, err)

	plain := func(database, role string) string {
		return "postgres://" + role + ":x@127.0.0.1:" + strconv.Itoa(cfg.Port) + "/" + database + "?sslmode=disable"
	}
	byCert := func(role string, pair pki.Pair) string {
		return PostgresDSN(cfg.Port, CellDatabase, role, "", cfg.CA) + "&sslcert=" + pair.Cert + "&sslkey=" + pair.Key
	}
	for _, c := range []struct {
		who string
		dsn string
		in  bool
	}{
		{"a role with its password", c.DSN(ControlDatabase, "controlplane"), true},
		{"a wrong password", PostgresDSN(cfg.Port, ControlDatabase, "controlplane", "wrong", cfg.CA), false},
		{"a role in another database", c.DSN(CellDatabase, "controlplane"), false},
		{"a role in postgres", c.DSN("postgres", "controlplane"), false},
		{"a cell role", c.DSN(CellDatabase, "cell_worker"), true},
		{"no TLS", plain(ControlDatabase, "controlplane"), false},
		{"the superuser by TCP", PostgresDSN(cfg.Port, "postgres", "postgres", "", cfg.CA), false},
		{"the superuser by socket", c.Superuser("postgres"), true},
		{"a tenant's certificate", byCert("t_0123456789abcdef0123456789abcdef", tenant), true},
		{"another tenant's certificate", byCert("t_0123456789abcdef0123456789abcdef", impostor), false},
		{"a certificate in the name of a platform role", byCert("cell_owner", named), false},
		{"a certificate of the service CA", byCert("t_0123456789abcdef0123456789abcdef", foreign), false},
		{"a tenant without a certificate", PostgresDSN(cfg.Port, CellDatabase, "t_0123456789abcdef0123456789abcdef", "", cfg.CA), false},
	} {
		conn, err := pgx.Connect(ctx, c.dsn)
		if c.in {
			require.NoError(t, err, c.who)
		} else {
			require.Error(t, err, c.who)
			continue
		}
		require.NoError(t, conn.Close(ctx))
	}
	for _, sql := range []string{"CREATE TEMP TABLE x (y int)", "SELECT lo_creat(-1)", "CREATE SCHEMA x", "CREATE TABLE public.x (y int)", "ALTER ROLE cell_worker CREATEDB"} {
		conn, err := pgx.Connect(ctx, byCert("t_0123456789abcdef0123456789abcdef", tenant))
		require.NoError(t, err)
		_, err = conn.Exec(ctx, sql)
		require.ErrorContains(t, err, "permission denied", sql)
		require.NoError(t, conn.Close(ctx))
	}
	owner, err := pgx.Connect(ctx, c.DSN(CellDatabase, "cell_owner"))
	require.NoError(t, err)
	_, err = owner.Exec(ctx, `CREATE SCHEMA x; CREATE ROLE t_11111111111111111111111111111111 LOGIN; GRANT CONNECT ON DATABASE `+CellDatabase+` TO t_11111111111111111111111111111111`)
	require.NoError(t, err, "the owner role can do what the tenants may not")
	require.NoError(t, owner.Close(ctx))
}

func TestPostgresKeepsItsDataAndOutlivesAKilledParent(t *testing.T) {
	cfg := clusterConfig(t, filepath.Join(openDir(t), "pg"))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	first, err := StartPostgres(ctx, cfg)
	require.NoError(t, err)
	execSQL(t, first.Superuser("postgres"), "CREATE TABLE kept (x text); INSERT INTO kept VALUES ('yes')")

	// As after a parent that was killed: the server still runs, nobody stops it.
	second := startCluster(t, cfg)
	require.NotEqual(t, first.Process().PID(), second.Process().PID())
	<-first.Process().Done()
	require.Equal(t, "yes", queryText(t, second.Superuser("postgres"), "SELECT x FROM kept"))
	require.NoError(t, second.Process().Stop(ctx))

	// As after a crash of the machine: the number in the file is somebody else's.
	pidFile := filepath.Join(second.data(), "postmaster.pid")
	bystander, err := proc.Start(proc.Spec{Name: "bystander", Path: "/bin/sleep", Args: []string{"600"}, Log: filepath.Join(t.TempDir(), "log"), As: second.account})
	require.NoError(t, err)
	defer bystander.Kill()
	require.NoError(t, os.WriteFile(pidFile, []byte(strconv.Itoa(bystander.PID())+"\n"+second.data()+"\n"), 0o600))
	require.NoError(t, second.own(pidFile))
	third := startCluster(t, cfg)
	require.Equal(t, "yes", queryText(t, third.Superuser("postgres"), "SELECT x FROM kept"))
	require.NoError(t, syscall.Kill(bystander.PID(), 0), "the bystander was left alone")
}

func TestPostgresNamesATakenPort(t *testing.T) {
	cfg := clusterConfig(t, filepath.Join(openDir(t), "pg"))
	startCluster(t, cfg)
	other := cfg
	other.Dir = filepath.Join(openDir(t), "pg")
	_, err := StartPostgres(t.Context(), other)
	var taken *PortTaken
	require.True(t, errors.As(err, &taken), "%v", err)
	require.Equal(t, cfg.Port, taken.Port)
}

func TestAnUnfinishedClusterIsMadeAnew(t *testing.T) {
	dir := filepath.Join(openDir(t), "pg")
	cfg := clusterConfig(t, dir)
	c := &Cluster{cfg: cfg}
	var err error
	c.home, c.account, err = PostgresHome(dir)
	require.NoError(t, err)
	require.NoError(t, c.ownDir(dir))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "data.new"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "data.new", "PG_VERSION"), []byte("half"), 0o600))
	startCluster(t, cfg)
}

func TestAForeignFolderIsRefused(t *testing.T) {
	if os.Getuid() != 0 {
		c := &Cluster{cfg: PostgresConfig{}}
		require.ErrorContains(t, c.ownDir("/usr"), "belongs to another account")
		return
	}
	dir := filepath.Join(openDir(t), "theirs")
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, os.Chown(dir, 12345, 12345))
	_, err := StartPostgres(t.Context(), clusterConfig(t, dir))
	require.ErrorContains(t, err, "belongs to another account")
}
