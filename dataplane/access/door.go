package access

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/caresphere/caresphere/dataplane/store"
	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/tenants"
)

// Hints tells others of what was committed. They are hints only: nothing rests on
// their arrival.
type Hints interface {
	// AuditDirty: the tenant's trail has entries to seal.
	AuditDirty(tenant tenants.ID)
	// AuthzChanged: what members of the tenant may reach has changed.
	AuthzChanged(tenant tenants.ID)
}

// Door is the one way to a tenant's data. Safe for concurrent use.
type Door struct {
	pools  *Pools
	authz  *authzCache
	hints  Hints
	cipher Cipher
	flush  *flusher
	// active counts the transactions under way, for deciding how to commit.
	active atomic.Int64
}

// refuseTimeout bounds the writing of a refusal's entry, which goes on when the
// client has gone.
const refuseTimeout = 4 * time.Second

// renewals is how often a request reads its authorization again: an owner who assigns
// a nurse to five facilities changes hers five times within a second.
const renewals = 3

// errStale: what the actor may do was read at an older version than the database's.
var errStale = errors.New("access: the authorization is out of date")

// NewDoor returns a door over the pools. Use sets its cipher, which needs the
// door's own KeySource.
func NewDoor(pools *Pools, hints Hints) *Door {
	return &Door{pools: pools, authz: newAuthzCache(), hints: hints, flush: newFlusher(pools.cfg.DSN)}
}

// Use sets the cipher for sealed fields, before the first Do.
func (d *Door) Use(c Cipher) { d.cipher = c }

// Close drops all connections.
func (d *Door) Close() { d.pools.Close(); d.flush.close() }

// Serves tells whether the tenant's login and connections are kept at the moment.
func (d *Door) Serves(tenant tenants.ID) bool {
	_, kept := d.pools.cache.GetEntryQuietly(tenant)
	return kept
}

// Do decides whether the actor may do this, runs fn in the tenant's transaction,
// writes the one audit entry and commits. fn may run again, from the start, each time
// that the authorization was found out of date: before fn began, or, with Target.Early,
// at its first statement. fn must not call Do, and what it read may be shown only when
// Do returned nil: by then the entry is durable.
//
// Errors: KindForbidden by the matrix, KindNotFound out of scope, KindUnauthenticated
// when the session is over, KindGateClosed, KindUnavailable, also when the authorization
// changes faster than it is read, or what fn returned. Each leaves an entry of its own;
// one that cannot be written is KindUnavailable.
func (d *Door) Do(ctx context.Context, actor tenants.Actor, perm tenants.Permission, target Target, fn func(context.Context, *Tx) error) error {
	return d.do(ctx, actor, perm, target, fn)
}

// DoOwn is Do for what every member may do with their own session, whatever the
// role: look at it and end it.
func (d *Door) DoOwn(ctx context.Context, actor tenants.Actor, target Target, fn func(context.Context, *Tx) error) error {
	return d.do(ctx, actor, own, target, fn)
}

// own stands for the actor's own session, which is in no row of the matrix.
const own tenants.Permission = ""

func (d *Door) do(ctx context.Context, actor tenants.Actor, perm tenants.Permission, target Target, fn func(context.Context, *Tx) error) error {
	if actor.Kind != tenants.ActorMember || actor.ID.IsZero() || actor.TenantID.IsZero() || actor.SessionID.IsZero() {
		return tenants.NewError(tenants.KindInternal, "an action without an actor")
	}
	about := target
	err := d.attempt(ctx, actor, perm, &about, false, fn)
	for range renewals {
		if !errors.Is(err, errStale) {
			break
		}
		about = target
		if actor, err = d.renew(ctx, actor); err == nil {
			err = d.attempt(ctx, actor, perm, &about, true, fn)
		}
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errStale):
		// Nothing of it was done, whatever the role would allow.
		err = unavailable(err)
	}
	return d.refuse(ctx, actor, about, classify(err))
}

// Refuse writes the entry of something that was refused before it came to Do, as
// by the session gate, and returns the refusal; KindUnavailable if it cannot be written.
func (d *Door) Refuse(ctx context.Context, actor tenants.Actor, target Target, refusal error) error {
	return d.refuse(ctx, actor, target, refusal)
}

// decide holds the matrix and the scope against the actor. final is false while
// the authorization may yet be read again: a tenant-wide role reaches a facility
// that was opened since.
func (d *Door) decide(actor tenants.Actor, perm tenants.Permission, target Target, final bool) error {
	switch {
	case perm == own && target.RecordID == actor.SessionID && target.RecordType == "session":
		return nil
	case !tenants.Allowed(actor.Role, perm):
		return tenants.NewError(tenants.KindForbidden, "your role does not allow this")
	case target.FacilityID.IsZero() || actor.MaySee(target.FacilityID):
		return nil
	case actor.Role.TenantWide() && !final:
		return errStale
	}
	return tenants.NotFound()
}

// attempt is one whole try: decide, begin, fn, entry, commit. final is decide's.
func (d *Door) attempt(ctx context.Context, actor tenants.Actor, perm tenants.Permission, target *Target, final bool, fn func(context.Context, *Tx) error) error {
	if err := d.decide(actor, perm, *target, final); err != nil {
		return d.sessionFirst(ctx, actor, err)
	}
	if target.OneRead {
		among, left, err := d.pools.join(ctx, actor.TenantID)
		if err != nil {
			return err
		}
		defer left()
		if among > 1 && !d.pools.budget.short() {
			return d.read(ctx, actor, target, fn)
		}
		// Alone, an entry in the read's own transaction is there sooner; and where places
		// are short, it needs no second connection.
	}
	d.active.Add(1)
	defer d.active.Add(-1)
	grouped, authzChanged, err := d.transact(ctx, actor, target, fn)
	if err != nil {
		return err
	}
	if grouped {
		// The connection serves others by now; the answer waits for the disk.
		if err := d.flush.wait(ctx); err != nil {
			return unavailable(fmt.Errorf("waiting until the audit entry is durable: %w", err))
		}
	}
	d.hints.AuditDirty(actor.TenantID)
	if authzChanged {
		d.authz.dropTenant(actor.TenantID)
		d.hints.AuthzChanged(actor.TenantID)
	}
	return nil
}

// sessionFirst returns why the session is over, if it is, in place of a refusal that
// was decided without a look at it: who was signed out learns nothing more of what
// the role may do, and an authorization that changed is read again before it refuses.
func (d *Door) sessionFirst(ctx context.Context, actor tenants.Actor, refusal error) error {
	if errors.Is(refusal, errStale) {
		return refusal
	}
	conn, tp, release, err := d.pools.acquire(ctx, actor.TenantID)
	if err != nil {
		return err
	}
	defer release()
	defer rollbackOpen(ctx, conn)
	if over := begin(ctx, conn, opening{signed: tp.login.member(conn, actor), seen: actor.AuthzVersion}); over != nil {
		return over
	}
	return refusal
}

// transact runs the transaction up to its commit. grouped says that it was
// committed without waiting for the disk, which the caller does.
func (d *Door) transact(ctx context.Context, actor tenants.Actor, target *Target, fn func(context.Context, *Tx) error) (grouped, authzChanged bool, err error) {
	conn, tp, release, err := d.pools.acquire(ctx, actor.TenantID)
	if err != nil {
		return false, false, err
	}
	defer release()
	defer rollbackOpen(ctx, conn)
	g := &guard{conn: conn.Conn(), opening: opening{signed: tp.login.member(conn, actor), seen: actor.AuthzVersion}, single: target.OneRead}
	defer g.close()
	if !target.Early && !target.OneRead {
		g.begun = true
		if err := begin(ctx, conn, g.opening); err != nil {
			return false, false, err
		}
	}
	tx := &Tx{Queries: store.New(g), Actor: actor, target: target, cipher: d.cipher}
	err = fn(ctx, tx)
	g.close()
	switch {
	case g.refused != nil:
		// Whatever fn made of it.
		return false, false, g.refused
	case err != nil && !g.begun:
		// It failed before the session was asked about, and that comes first.
		if over := begin(ctx, conn, g.opening); over != nil {
			return false, false, over
		}
		return false, false, err
	case err != nil:
		return false, false, err
	}
	end := ending{signed: g.opening.signed, target: *target, outcome: outcomeOK, grouped: g.reads && d.active.Load() > 1}
	if !g.begun {
		end.opening = &g.opening
	}
	return end.grouped, tx.authzChanged, end.commit(ctx, conn, actor)
}

// refuse writes the entry of a refusal or failure, after and apart from what was
// refused, which asks nothing of the session, and returns the refusal.
func (d *Door) refuse(ctx context.Context, actor tenants.Actor, target Target, refusal error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refuseTimeout)
	defer cancel()
	err := d.record(ctx, actor, target.withReason(refusal), outcomeOf(refusal))
	switch {
	case err == nil:
		return refusal
	case tenants.IsKind(err, tenants.KindGateClosed):
		// The tenant's login is shut: nothing was done and nothing was seen.
		return err
	}
	return unavailable(errors.Join(refusal, fmt.Errorf("writing the entry of a refusal: %w", err)))
}

func (d *Door) record(ctx context.Context, actor tenants.Actor, target Target, o outcome) error {
	entry, err := audit.GroupEntry(actor, target.event(o))
	if err != nil {
		return err
	}
	if err := d.pools.write(ctx, actor.TenantID, entry); err != nil {
		return classify(err)
	}
	d.hints.AuditDirty(actor.TenantID)
	return nil
}
