package access

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/maypok86/otter/v2"

	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/tenants"
)

// PoolConfig shapes the tenants' pools of one worker.
type PoolConfig struct {
	// DSN names the cell's host, port, database and root certificate; user and
	// password in it are not used for tenants.
	DSN string
	// Tenants is how many tenants' pools are kept, with their credentials and few or
	// no connections; the longest unused go first. Making one asks the key service.
	Tenants int
	// Connections is how many are open at once over all tenants. With none left, the
	// idle ones of the tenant that was longest unused are closed; opening one costs
	// about 20 ms. All workers' together must leave room below the server's limit.
	Connections int
	// Requests is how many transactions of one tenant run at once; one connection
	// more is kept for loading its data keys, and one for its audit entries. A request
	// over it waits up to Wait.
	Requests int
	Wait     time.Duration
	// Opening is how many connections are opened at once, over all tenants.
	Opening int
	// Idle closes the pool of a tenant that nobody asked for.
	Idle time.Duration
	// Tracer sees every statement's name and time; nil means none.
	Tracer pgx.QueryTracer
}

// DefaultConnections is how many connections a worker has open at once.
const DefaultConnections = 120

func (c PoolConfig) withDefaults() PoolConfig {
	if c.Tenants <= 0 {
		c.Tenants = 2000
	}
	if c.Connections <= 0 {
		c.Connections = DefaultConnections
	}
	if c.Requests <= 0 {
		c.Requests = 4
	}
	if c.Wait <= 0 {
		c.Wait = 5 * time.Second
	}
	if c.Opening <= 0 {
		c.Opening = 8
	}
	if c.Idle <= 0 {
		c.Idle = 10 * time.Minute
	}
	return c
}

// Pools holds a small pool of connections for each tenant, each logged in as that
// tenant's own role. Safe for concurrent use.
type Pools struct {
	cfg         PoolConfig
	credentials Credentials
	cache       *otter.Cache[tenants.ID, *tenantPool]
	budget      *budget
	sparing     sync.Mutex
	// served knows every tenant that was asked for by the tags that hints name it by.
	served tagged
	opened func(tenants.ID) // see Door.OnOpen
}

// tenantPool is the pool of one tenant with the credential it was opened with.
type tenantPool struct {
	pool    *pgxpool.Pool
	login   Login
	request chan struct{}
	entries *entryWriter
	// used is when a request last took a connection, in Unix nanoseconds.
	used atomic.Int64
}

func (tp *tenantPool) close() {
	tp.pool.Close()
	tp.entries.close()
}

// NewPools returns empty pools; the first request of a tenant opens its own.
func NewPools(cfg PoolConfig, credentials Credentials) *Pools {
	cfg = cfg.withDefaults()
	p := &Pools{cfg: cfg, credentials: credentials}
	p.budget = newBudget(cfg.Connections, cfg.Opening, p.spare)
	p.cache = otter.Must(&otter.Options[tenants.ID, *tenantPool]{
		MaximumSize:      cfg.Tenants,
		ExpiryCalculator: otter.ExpiryAccessing[tenants.ID, *tenantPool](cfg.Idle),
		// Close waits for connections in use: their requests end as they would.
		OnDeletion: func(e otter.DeletionEvent[tenants.ID, *tenantPool]) {
			go e.Value.close()
		},
	})
	return p
}

// Drop closes the tenant's pool and forgets its credential.
func (p *Pools) Drop(tenant tenants.ID) { p.cache.Invalidate(tenant) }

// Close closes every pool.
func (p *Pools) Close() { p.cache.InvalidateAll() }

func (p *Pools) get(ctx context.Context, tenant tenants.ID) (*tenantPool, error) {
	if tenant.IsZero() {
		return nil, tenants.NewError(tenants.KindInternal, "no tenant")
	}
	p.served.add(tenant)
	tp, err := p.kept(ctx, tenant)
	if err != nil {
		return nil, err
	}
	if time.Now().After(tp.login.NotAfter) {
		// The certificate is renewed in the database before it ends; fetch the new one.
		p.Drop(tenant)
		return p.kept(ctx, tenant)
	}
	return tp, nil
}

// kept returns the tenant's pool from the cache, and loads it if it is not there. What
// was loaded while a hint dropped the tenant is not kept by the cache, which loads again
// and tells nobody: it is closed here.
func (p *Pools) kept(ctx context.Context, tenant tenants.ID) (*tenantPool, error) {
	var loaded []*tenantPool
	tp, err := p.cache.Get(ctx, tenant, otter.LoaderFunc[tenants.ID, *tenantPool](func(ctx context.Context, tenant tenants.ID) (*tenantPool, error) {
		tp, err := p.load(ctx, tenant)
		if err == nil {
			loaded = append(loaded, tp)
		}
		return tp, err
	}))
	for _, l := range loaded {
		if err != nil || l != tp {
			l.close()
		}
	}
	return tp, err
}

// pinned are the settings that a session begins with, and comes back to before each
// transaction, whatever the tenant's role was given as its own: a login may ALTER its
// own role.
var pinned = map[string]string{
	"synchronous_commit":            "on",
	"default_transaction_read_only": "off",
	"default_transaction_isolation": "read committed",
	"standard_conforming_strings":   "on",
	"row_security":                  "on",
}

func (p *Pools) load(ctx context.Context, tenant tenants.ID) (*tenantPool, error) {
	// Several requests share this load: it must not end with the first one's.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	login, err := p.credentials.Login(ctx, tenant)
	if err != nil {
		return nil, err
	}
	o := pg.Options{
		ApplicationName:   "caresphere-dataplane",
		User:              tenants.RoleName(tenant),
		Certificate:       &login.Certificate,
		SearchPath:        tenants.SchemaName(tenant),
		MaxConns:          int32(p.cfg.Requests) + 1,
		ConnectTimeout:    8 * time.Second, // the wait for a place among them
		StatementTimeout:  5 * time.Second,
		LockTimeout:       2 * time.Second,
		IdleInTransaction: 10 * time.Second,
		MaxConnIdleTime:   p.cfg.Idle / 2,
		Tracer:            p.cfg.Tracer,
		Dial:              p.budget.dial,
		OnConnect:         p.budget.opened,
		Distrusting:       true,
		Fatal:             closing,
		Params:            pinned,
	}
	pool, err := pg.Open(context.WithoutCancel(ctx), p.cfg.DSN, o)
	if err != nil {
		return nil, fmt.Errorf("opening a tenant's pool: %w", err)
	}
	o.ApplicationName, o.MaxConns = "caresphere-dataplane-entries", 1
	o.Distrusting, o.Fatal = false, nil
	writing, err := pg.Open(context.WithoutCancel(ctx), p.cfg.DSN, o)
	if err != nil {
		pool.Close()
		return nil, fmt.Errorf("opening the connection of a tenant's entries: %w", err)
	}
	p.tellOpened(tenant)
	return &tenantPool{pool: pool, login: login, request: make(chan struct{}, p.cfg.Requests),
		entries: newEntryWriter(tenant, login, writing, p)}, nil
}

// acquire returns a connection of the tenant for one transaction, and how to give
// it back. Errors: KindGateClosed if the login is refused, KindUnavailable if the
// database is down or the tenant's own requests take too long.
func (p *Pools) acquire(ctx context.Context, tenant tenants.ID) (*pgxpool.Conn, *tenantPool, func(), error) {
	tp, err := p.get(ctx, tenant)
	if err != nil {
		return nil, nil, nil, classify(err)
	}
	wait := time.NewTimer(p.cfg.Wait)
	defer wait.Stop()
	select {
	case tp.request <- struct{}{}:
	case <-wait.C:
		return nil, nil, nil, unavailable(errors.New("the tenant's connections are all in use"))
	case <-ctx.Done():
		return nil, nil, nil, unavailable(ctx.Err())
	}
	permits := tp.request
	tp.used.Store(time.Now().UnixNano())
	conn, tp, err := p.connect(ctx, tenant, tp)
	if err != nil {
		<-permits
		return nil, nil, nil, err
	}
	return conn, tp, func() { p.budget.release(conn); <-permits }, nil
}

// connect takes a connection without a request's permit: for acquire, and for the
// data keys that a request in flight needs. A pool that a hint dropped meanwhile,
// as when a gate has just opened, is replaced by the tenant's present one.
func (p *Pools) connect(ctx context.Context, tenant tenants.ID, tp *tenantPool) (*pgxpool.Conn, *tenantPool, error) {
	conn, err := p.takeFrom(ctx, tp.pool)
	if err != nil && !isLoginRefused(err) && ctx.Err() == nil && !p.holds(tenant, tp) {
		if tp, err = p.get(ctx, tenant); err != nil {
			return nil, nil, classify(err)
		}
		conn, err = p.takeFrom(ctx, tp.pool)
	}
	if err == nil {
		return conn, tp, nil
	}
	if isLoginRefused(err) {
		p.Drop(tenant)
	}
	return nil, nil, classify(err)
}

// holds tells whether the pool is still the tenant's.
func (p *Pools) holds(tenant tenants.ID, tp *tenantPool) bool {
	now, ok := p.cache.GetIfPresent(tenant)
	return ok && now == tp
}

func (p *Pools) takeFrom(ctx context.Context, pool *pgxpool.Pool) (*pgxpool.Conn, error) {
	return pool.Acquire(asFirst(ctx))
}

// sparedAtOnce is how many tenants lose their idle connections at a time at most.
const sparedAtOnce = 4

// spare closes the idle connections of the tenants that were longest unused, and only
// where there are none, those that a busy tenant has beside the ones in use: it made
// them when several of its requests came at once, and may never use them again. Pools
// and credentials stay.
func (p *Pools) spare() {
	if !p.sparing.TryLock() {
		return // somebody is at it
	}
	defer p.sparing.Unlock()
	var idle, hoarding []*tenantPool
	for tp := range p.cache.Values() {
		switch {
		case !tp.idle():
		case len(tp.request) == 0:
			idle = append(idle, tp)
		default:
			hoarding = append(hoarding, tp)
		}
	}
	if len(idle) == 0 {
		idle = hoarding
	}
	slices.SortFunc(idle, func(a, b *tenantPool) int { return cmp.Compare(a.used.Load(), b.used.Load()) })
	// As many as there are requests that wait: each that loses one has to open it again.
	for _, tp := range idle[:min(int(p.budget.waiting.Load()), sparedAtOnce, len(idle))] {
		tp.pool.Reset()
		tp.entries.pool.Reset()
	}
}

// idle tells whether the tenant has connections that nobody uses.
func (tp *tenantPool) idle() bool {
	return tp.pool.Stat().IdleConns() > 0 || tp.entries.pool.Stat().IdleConns() > 0
}
