package access

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/maypok86/otter/v2"

	"github.com/caresphere/caresphere/dataplane/store"
	"github.com/caresphere/caresphere/tenants"
)

// Authorization is what a member may reach, as of Version.
type Authorization struct {
	Role       tenants.Role
	Facilities []tenants.ID
	Version    int64
	Tenant     TenantSettings
	// until is when the earliest of the member's grants ends, or the cache forgets.
	until time.Time
	// drops is how often the tenant's authorizations had been dropped before this was read.
	drops int64
}

// TenantSettings are the tenant's own limits.
type TenantSettings struct {
	LegalName   string
	Slug        string
	CareSetting tenants.CareSetting
	// Idle and MaxAge bound a session; the database holds to them too.
	Idle, MaxAge time.Duration
}

// authzKeep is how long an authorization may be used without reading it again.
// Each request's transaction compares its version, so age is no risk, but
// tenant-wide roles learn of new facilities by it when a hint is lost.
const authzKeep = 30 * time.Second

type authzKey struct{ tenant, identity tenants.ID }

type authzCache struct {
	cache *otter.Cache[authzKey, Authorization]
	// drops counts by tenant: to look through all members of all tenants takes long, and
	// hints may come at any rate.
	drops sync.Map
}

func newAuthzCache() *authzCache {
	return &authzCache{cache: otter.Must(&otter.Options[authzKey, Authorization]{
		MaximumSize: 50_000,
		ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[authzKey, Authorization]) time.Duration {
			return max(time.Until(e.Value.until), time.Nanosecond)
		}),
	})}
}

// get returns what is kept of the member, unless it ran out or was dropped.
func (c *authzCache) get(key authzKey) (Authorization, bool) {
	a, ok := c.cache.GetIfPresent(key)
	return a, ok && time.Now().Before(a.until) && a.drops == c.dropped(key.tenant).Load()
}

// dropTenant forgets every member of the tenant, those too that are being read now.
func (c *authzCache) dropTenant(tenant tenants.ID) { c.dropped(tenant).Add(1) }

func (c *authzCache) dropped(tenant tenants.ID) *atomic.Int64 {
	n, ok := c.drops.Load(tenant)
	if !ok {
		n, _ = c.drops.LoadOrStore(tenant, new(atomic.Int64))
	}
	return n.(*atomic.Int64) //nolint:forcetypeassert // nothing else is stored
}

// Authorize returns what the identity may reach in the tenant, from the cache if
// it is there. Errors: KindNotFound if it is no active member, KindGateClosed,
// KindUnavailable.
func (d *Door) Authorize(ctx context.Context, tenant, identity, session tenants.ID) (Authorization, error) {
	key := authzKey{tenant, identity}
	if a, ok := d.authz.get(key); ok {
		return a, nil
	}
	return d.loadAuthorization(ctx, key, session)
}

// renew reads the actor's authorization again, past the cache.
func (d *Door) renew(ctx context.Context, actor tenants.Actor) (tenants.Actor, error) {
	a, err := d.loadAuthorization(ctx, authzKey{actor.TenantID, actor.ID}, actor.SessionID)
	if err != nil {
		return actor, err
	}
	actor.Role, actor.Facilities, actor.AuthzVersion = a.Role, a.Facilities, a.Version
	return actor, nil
}

func (d *Door) loadAuthorization(ctx context.Context, key authzKey, session tenants.ID) (Authorization, error) {
	var a Authorization
	drops := d.authz.dropped(key.tenant).Load()
	err := d.lookup(ctx, key.tenant, key.identity, session, func(q *store.Queries) error {
		m, err := q.LoadMember(ctx, key.identity)
		if errors.Is(err, pgx.ErrNoRows) || err == nil && m.Status != "active" {
			return tenants.NotFound()
		}
		if err != nil {
			return err
		}
		role := tenants.Role(m.Role)
		scope, err := q.LoadScope(ctx, store.LoadScopeParams{TenantWide: role.TenantWide(), IdentityID: key.identity})
		if err != nil {
			return err
		}
		s, err := q.LoadSettings(ctx)
		if err != nil {
			return err
		}
		a = Authorization{
			Role: role, Facilities: scope.Facilities, Version: m.AuthzVersion,
			Tenant: TenantSettings{
				LegalName: s.LegalName, Slug: s.Slug, CareSetting: tenants.CareSetting(s.CareSetting),
				Idle:   time.Duration(s.IdleTimeoutSeconds) * time.Second,
				MaxAge: time.Duration(s.SessionMaxSeconds) * time.Second,
			},
			until: scope.ExpiresAt, drops: drops,
		}
		return nil
	})
	if err != nil {
		d.authz.cache.Invalidate(key)
		return Authorization{}, classify(err)
	}
	if limit := time.Now().Add(authzKeep); a.until.After(limit) {
		a.until = limit
	}
	d.authz.cache.Set(key, a)
	return a, nil
}

// lookup runs fn for a person about to be established: it sees that person's own
// membership and sessions, and nothing else. It leaves no entry: what comes of it does.
func (d *Door) lookup(ctx context.Context, tenant, identity, session tenants.ID, fn func(*store.Queries) error) error {
	return elsewhere(func() error { return d.lookUp(ctx, tenant, identity, session, fn) })
}

func (d *Door) lookUp(ctx context.Context, tenant, identity, session tenants.ID, fn func(*store.Queries) error) error {
	conn, tp, release, err := d.pools.acquire(ctx, tenant)
	if err != nil {
		return err
	}
	defer release()
	defer rollbackOpen(ctx, conn)
	g := &guard{conn: conn.Conn(), opening: opening{signed: tp.login.lookup(conn, tenant, identity, session), seen: anyVersion}}
	defer g.close()
	err = fn(store.New(g))
	if g.refused != nil {
		return g.refused
	}
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "COMMIT")
	return err
}
