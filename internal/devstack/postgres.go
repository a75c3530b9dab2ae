package devstack

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/internal/devstack/pki"
	"github.com/caresphere/caresphere/internal/devstack/proc"
)

// superuser is the cluster's bootstrap role. It logs in over the Unix socket
// alone, as the account of the server or of this process (peer authentication).
const superuser = "postgres"

// PostgresConfig says how a cluster is run.
type PostgresConfig struct {
	// Bin is the folder with initdb and postgres, as FindPostgres returns it.
	Bin string
	// Dir is where the cluster lives. As root it may lie where the server's
	// account cannot reach; then Home names the place that is used.
	Dir string
	// Port is the TLS port on 127.0.0.1.
	Port int
	// Server is the server's certificate; CA the authority that clients verify
	// it by; TenantCA the one that tenants' client certificates must come from.
	Server   pki.Pair
	CA       string
	TenantCA string
	// Passwords has one entry for each of ClusterRoles.
	Passwords map[string]string
	// Log is the server's log file.
	Log string
	// Volatile trades safety against a power loss for speed: for tests.
	Volatile bool
	// SharedBuffers is the memory for pages in common, as PostgreSQL writes it; 128MB if empty.
	SharedBuffers string
	// AnyDatabase lets the cluster's roles into databases of any name, as far as
	// their grants go: for tests, which clone databases.
	AnyDatabase bool
}

// Cluster is a running PostgreSQL.
type Cluster struct {
	cfg     PostgresConfig
	account *proc.Account
	home    string
	socket  string
	process *proc.Process
}

// StartPostgres makes the cluster if it is not there, starts it, waits until it
// answers and brings its roles and their passwords up to date. A server that a
// killed run left behind on the same folder is stopped first.
func StartPostgres(ctx context.Context, cfg PostgresConfig) (*Cluster, error) {
	c := &Cluster{cfg: cfg}
	var err error
	if c.home, c.account, err = PostgresHome(cfg.Dir); err != nil {
		return nil, err
	}
	if c.socket, err = c.socketDir(); err != nil {
		return nil, err
	}
	if err := c.initialize(ctx); err != nil {
		return nil, err
	}
	if err := c.endStale(ctx); err != nil {
		return nil, err
	}
	if err := CheckPort("postgres", cfg.Port); err != nil {
		return nil, err
	}
	if err := c.configure(); err != nil {
		return nil, err
	}
	if err := c.makeRecordDir(); err != nil {
		return nil, err
	}
	if err := c.serve(ctx); err != nil {
		return nil, err
	}
	if err := c.bootstrapRoles(ctx); err != nil {
		_ = c.process.Stop(context.WithoutCancel(ctx))
		return nil, err
	}
	return c, nil
}

// serve starts the server and waits until it answers.
func (c *Cluster) serve(ctx context.Context) (err error) {
	stop := syscall.SIGINT // fast shutdown: sessions end, a checkpoint is written
	if c.cfg.Volatile {
		stop = syscall.SIGQUIT // at once; nobody will need the data
	}
	c.process, err = proc.Start(proc.Spec{
		Name: "postgres", Path: filepath.Join(c.cfg.Bin, "postgres"), Args: []string{"-D", c.data()},
		Env: plainEnv(), Dir: c.home, Log: c.cfg.Log, As: c.account, Stop: stop, Grace: 30 * time.Second,
	})
	if err != nil {
		return err
	}
	if err := c.process.Ready(ctx, c.ping); err != nil {
		_ = c.process.Stop(context.WithoutCancel(ctx))
		return fmt.Errorf("%w\nits record ends with:\n%s", err, indent(c.lastWords()))
	}
	return nil
}

// Restart starts the server again if it has ended by itself, and waits until it
// answers. One that is just ending, of a recovery that fails, is waited for.
func (c *Cluster) Restart(ctx context.Context) error {
	err := c.process.Ready(ctx, c.ping)
	if err == nil {
		return nil
	}
	select {
	case <-c.process.Done():
	default:
		return err
	}
	if err := c.endStale(ctx); err != nil {
		return err
	}
	return c.serve(ctx)
}

// PostgresHome returns the folder that a cluster for dir lives in, and the
// account that its server runs under (nil: our own). PostgreSQL refuses to run
// as root: then it runs as postgres or nobody, and where that account cannot
// reach dir (below a home of mode 0700, say) the cluster lives under
// /var/lib/caresphere, in a folder named by dir.
func PostgresHome(dir string) (home string, account *proc.Account, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return "", nil, fmt.Errorf("locating the cluster's folder: %w", err)
	}
	if os.Getuid() != 0 {
		return dir, nil, nil
	}
	other, err := proc.Unprivileged("postgres", "nobody")
	if err != nil {
		return "", nil, fmt.Errorf("PostgreSQL does not run as root: %w; make an account named postgres", err)
	}
	if !other.CanReach(dir) {
		dir = filepath.Join("/var/lib/caresphere", shortHash(dir))
	}
	return dir, &other, nil
}

func (c *Cluster) data() string { return filepath.Join(c.home, "data") }

// socketDir returns a folder for the Unix socket whose path fits in the 107
// bytes that the system allows.
func (c *Cluster) socketDir() (string, error) {
	dir := filepath.Join(c.home, "run")
	if len(dir) > 80 {
		dir = filepath.Join("/tmp", "caresphere-pg-"+shortHash(c.home))
	}
	return dir, c.ownDir(dir)
}

// ownDir makes the folder for the server's account alone. A folder that is
// somebody else's is refused, not taken over.
func (c *Cluster) ownDir(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil { //nolint:gosec // the server's account passes through
		return fmt.Errorf("making %s: %w", filepath.Dir(dir), err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("making %s: %w", dir, err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("looking at %s: %w", dir, err)
	}
	want := os.Getuid()
	if c.account != nil {
		want = c.account.UID
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || !info.IsDir() || (int(st.Uid) != want && int(st.Uid) != os.Getuid()) {
		return fmt.Errorf("%s belongs to another account; remove it or set CARESPHERE_STATE elsewhere", dir)
	}
	return c.own(dir)
}

func (c *Cluster) own(path string) error {
	if c.account == nil {
		return nil
	}
	if err := os.Lchown(path, c.account.UID, c.account.GID); err != nil {
		return fmt.Errorf("giving %s to %s: %w", path, c.account.Name, err)
	}
	return nil
}

// initialize runs initdb into a folder beside the final one and renames it, so
// that a run that was killed half way leaves no half cluster.
func (c *Cluster) initialize(ctx context.Context) error {
	if err := c.ownDir(c.home); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(c.data(), "PG_VERSION")); err == nil {
		return c.checkVersion(ctx)
	}
	fresh := filepath.Join(c.home, "data.new")
	if err := os.RemoveAll(fresh); err != nil {
		return fmt.Errorf("removing an unfinished cluster: %w", err)
	}
	args := []string{"-D", fresh, "-U", superuser, "-E", "UTF8", "--no-locale", "--auth-local=peer", "--auth-host=reject", "--data-checksums"}
	if c.cfg.Volatile {
		args = append(args, "--no-sync")
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(c.cfg.Bin, "initdb"), args...)
	cmd.Env, cmd.Dir = plainEnv(), c.home
	if c.account != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(c.account.UID), Gid: uint32(c.account.GID)}}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, strings.TrimSpace(string(out)))
	}
	if err := os.Rename(fresh, c.data()); err != nil {
		return fmt.Errorf("moving the new cluster into place: %w", err)
	}
	return nil
}

// checkVersion refuses a cluster of another major version by name, before the
// server does it in its log.
func (c *Cluster) checkVersion(ctx context.Context) error {
	have, err := os.ReadFile(filepath.Join(c.data(), "PG_VERSION"))
	if err != nil {
		return fmt.Errorf("reading the cluster's version: %w", err)
	}
	major, err := postgresMajor(ctx, c.cfg.Bin)
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(have)) != strconv.Itoa(major) {
		return fmt.Errorf("the cluster in %s was made by PostgreSQL %s and %s is %d: run `make clean-state`, or put version %s first on PATH",
			c.data(), strings.TrimSpace(string(have)), c.cfg.Bin, major, strings.TrimSpace(string(have)))
	}
	return nil
}

// configure writes the server's whole configuration: what a user changed in it
// by hand does not survive, so that two machines run the same.
func (c *Cluster) configure() error {
	files := map[string][]byte{
		"postgresql.conf": []byte(c.serverConf()),
		"pg_hba.conf":     []byte(c.hbaConf()),
		"pg_ident.conf":   []byte(c.identConf()),
	}
	for name, from := range map[string]string{"server.crt": c.cfg.Server.Cert, "server.key": c.cfg.Server.Key, "tenant-ca.crt": c.cfg.TenantCA} {
		b, err := os.ReadFile(from)
		if err != nil {
			return fmt.Errorf("reading the server's certificates: %w", err)
		}
		files[name] = b
	}
	for name, content := range files {
		path := filepath.Join(c.data(), name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return fmt.Errorf("writing %s: %w", path, err)
		}
		if err := c.own(path); err != nil {
			return err
		}
	}
	return nil
}

// Superuser returns the DSN of the bootstrap role for a database. Only for
// making the cluster and for tests that plant a fault.
func (c *Cluster) Superuser(database string) string {
	q := url.Values{"host": {c.socket}, "port": {strconv.Itoa(c.cfg.Port)}, "user": {superuser}}
	return "postgres:///" + database + "?" + q.Encode()
}

// DSN returns the DSN of one of ClusterRoles for a database: TLS, with the
// server's certificate verified.
func (c *Cluster) DSN(database, role string) string {
	return PostgresDSN(c.cfg.Port, database, role, c.cfg.Passwords[role], c.cfg.CA)
}

// PostgresDSN builds the DSN of a role over verified TLS.
func PostgresDSN(port int, database, role, password, ca string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(role, password),
		Host: "127.0.0.1:" + strconv.Itoa(port), Path: "/" + database,
		RawQuery: url.Values{"sslmode": {"verify-full"}, "sslrootcert": {ca}}.Encode(),
	}
	return u.String()
}

// Port is the cluster's TLS port on 127.0.0.1.
func (c *Cluster) Port() int { return c.cfg.Port }

// Passwords are those of ClusterRoles.
func (c *Cluster) Passwords() map[string]string { return c.cfg.Passwords }

// Home is the folder that the cluster lives in.
func (c *Cluster) Home() string { return c.home }

// Process is the server, to be watched or stopped.
func (c *Cluster) Process() *proc.Process { return c.process }

func (c *Cluster) ping(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, c.Superuser("postgres"))
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// plainEnv is the environment of third-party servers: nothing of ours leaks in.
func plainEnv(extra ...string) []string {
	return append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C", "LC_ALL=C", "TZ=UTC"}, extra...)
}
