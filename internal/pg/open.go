package pg

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Options shape a pool. The zero value gives safe defaults.
type Options struct {
	// ApplicationName shows in pg_stat_activity and in the server's log.
	ApplicationName string
	// User replaces the connection string's user, and drops its password: it is
	// for roles that log in with Certificate.
	User string
	// Certificate is the client's certificate, for roles that log in by it.
	Certificate *tls.Certificate
	// SearchPath, when not empty, is the session's search_path: one schema name.
	SearchPath string
	// Params are further session settings, sent as startup parameters, which a
	// role's own ALTER ROLE ... SET cannot override.
	Params map[string]string
	// MaxConns and MinConns bound the pool; MaxConns defaults to 8.
	MaxConns, MinConns int32
	// ConnectTimeout ends one attempt to connect; it defaults to 5 s.
	ConnectTimeout time.Duration
	// StatementTimeout ends one statement, on the server; it defaults to 15 s.
	// A negative value means no limit, which only migrations need.
	StatementTimeout time.Duration
	// LockTimeout ends the wait for a lock, on the server; zero means no limit of its own.
	LockTimeout time.Duration
	// IdleInTransaction ends a session that leaves a transaction open; it defaults to 30 s.
	IdleInTransaction time.Duration
	// MaxConnLifetime defaults to 30 min with a jitter of a tenth; MaxConnIdleTime to 5 min.
	MaxConnLifetime, MaxConnIdleTime time.Duration
	// MaxSchemas closes a connection once it has seen about as many tenants' schemas:
	// its server process keeps what it learns of every table that it touches, some
	// 150 KB a schema. A use of the connection counts as one, and Saw adds to that.
	// Zero means no limit.
	MaxSchemas int
	// Tracer sees every query; nil means none.
	Tracer pgx.QueryTracer
	// Dial opens the network connection; nil is a net.Dialer.
	Dial pgconn.DialFunc
	// Distrusting is for connections on which SQL may run that is not ours: it may leave
	// prepared statements behind, under any name, and it can read ours. Nothing that it
	// prepared is run by us, for our statements have no names, unless the caller gives
	// them some: each is sent as text, and planned anew. What a LISTEN of it brings is
	// dropped.
	Distrusting bool
	// Fatal are SQLSTATEs after which a connection is closed, as after a FATAL error.
	Fatal []string
	// OnConnect runs on every new connection before its first use; nil means none.
	OnConnect func(context.Context, *pgx.Conn) error
	// OnAcquire runs on a pool's connection before each use; a connection that it
	// returns an error for is closed, and the error returned. Nil means none.
	OnAcquire func(context.Context, *pgx.Conn) error
}

// ErrInsecure is returned for a connection string that would not verify the
// server's certificate and name.
var ErrInsecure = errors.New("pg: the connection string must say sslmode=verify-full with a root certificate, or name a Unix socket")

// Open returns a pool. It does not connect: the first use does, so that a process
// starts while its database is down. The error is ErrInsecure or says what is
// wrong with the connection string, without repeating it.
func Open(ctx context.Context, dsn string, o Options) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("pg: the connection string cannot be read")
	}
	if err := o.apply(cfg.ConnConfig); err != nil {
		return nil, err
	}
	cfg.MaxConns = positive(o.MaxConns, 8)
	cfg.MinConns = min(o.MinConns, cfg.MaxConns)
	cfg.MaxConnLifetime = positive(o.MaxConnLifetime, 30*time.Minute)
	cfg.MaxConnLifetimeJitter = cfg.MaxConnLifetime / 10
	cfg.MaxConnIdleTime = positive(o.MaxConnIdleTime, 5*time.Minute)
	cfg.AfterConnect = func(ctx context.Context, c *pgx.Conn) error {
		RegisterTypes(c.TypeMap())
		if o.OnConnect != nil {
			return o.OnConnect(ctx, c)
		}
		return nil
	}
	if o.Distrusting {
		cfg.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
		// Without this they are kept for a WaitForNotification that never comes.
		cfg.ConnConfig.OnNotification = func(*pgconn.PgConn, *pgconn.Notification) {}
	}
	if len(o.Fatal) > 0 {
		usual := cfg.ConnConfig.OnPgError
		cfg.ConnConfig.OnPgError = func(c *pgconn.PgConn, err *pgconn.PgError) bool {
			return !slices.Contains(o.Fatal, err.Code) && (usual == nil || usual(c, err))
		}
	}
	if o.OnAcquire != nil {
		cfg.PrepareConn = func(ctx context.Context, c *pgx.Conn) (bool, error) {
			err := o.OnAcquire(ctx, c)
			return err == nil, err
		}
	}
	if o.MaxSchemas > 0 {
		cfg.AfterRelease = func(c *pgx.Conn) bool { return Saw(c, 1) < o.MaxSchemas }
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("pg: making a pool: %w", err)
	}
	return pool, nil
}

// seenKey is where a connection keeps how many schemas it has seen.
const seenKey = "caresphere.schemas"

// Saw says that a connection's statements touched so many more schemas than the one
// that its use counts as, and returns how many it has seen by now.
func Saw(c *pgx.Conn, more int) int {
	data := c.PgConn().CustomData()
	seen, _ := data[seenKey].(int)
	data[seenKey] = seen + more
	return seen + more
}

// Connect opens one connection outside any pool, for LISTEN and for short work as
// another role. The caller closes it.
func Connect(ctx context.Context, dsn string, o Options) (*pgx.Conn, error) {
	cfg, err := connConfig(dsn, o)
	if err != nil {
		return nil, err
	}
	c, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("pg: connecting: %w", err)
	}
	RegisterTypes(c.TypeMap())
	return c, nil
}

// connConfig reads a connection string and applies the options to it.
func connConfig(dsn string, o Options) (*pgx.ConnConfig, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("pg: the connection string cannot be read")
	}
	if err := o.apply(cfg); err != nil {
		return nil, err
	}
	return cfg, nil
}

// apply sets what every connection of ours has in common.
func (o Options) apply(cfg *pgx.ConnConfig) error {
	cfg.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
	cfg.ConnectTimeout = positive(o.ConnectTimeout, 5*time.Second)
	cfg.Tracer = o.Tracer
	if o.Dial != nil {
		cfg.DialFunc = o.Dial
	}
	if o.User != "" {
		cfg.User, cfg.Password = o.User, ""
	}
	set := func(name, value string) { cfg.RuntimeParams[name] = value }
	if o.ApplicationName != "" {
		set("application_name", o.ApplicationName)
	}
	if o.SearchPath != "" {
		set("search_path", o.SearchPath)
	}
	if t := o.StatementTimeout; t >= 0 {
		set("statement_timeout", millis(positive(t, 15*time.Second)))
	}
	if o.LockTimeout > 0 {
		set("lock_timeout", millis(o.LockTimeout))
	}
	set("idle_in_transaction_session_timeout", millis(positive(o.IdleInTransaction, 30*time.Second)))
	set("timezone", "UTC")
	// Compiling pays for statements that run for minutes; of ours, whose cost is of many
	// small tables, it takes longer than they do.
	set("jit", "off")
	for k, v := range o.Params {
		set(k, v)
	}
	return secure(&cfg.Config, o.Certificate)
}

// secure refuses every way to the server that does not verify its certificate and
// name, and adds the client's certificate to those that do.
func secure(cfg *pgconn.Config, cert *tls.Certificate) error {
	harden := func(host string, t *tls.Config) error {
		if strings.HasPrefix(host, "/") {
			return nil
		}
		if t == nil || t.InsecureSkipVerify || t.ServerName == "" || t.RootCAs == nil {
			return ErrInsecure
		}
		t.MinVersion = tls.VersionTLS12
		if cert != nil {
			t.Certificates = []tls.Certificate{*cert}
		}
		return nil
	}
	if err := harden(cfg.Host, cfg.TLSConfig); err != nil {
		return err
	}
	for _, f := range cfg.Fallbacks {
		if err := harden(f.Host, f.TLSConfig); err != nil {
			return err
		}
	}
	return nil
}

func millis(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

func positive[T int32 | time.Duration](v, otherwise T) T {
	if v > 0 {
		return v
	}
	return otherwise
}
