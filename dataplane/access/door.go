package access

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/caresphere/caresphere/dataplane/store"
	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/tenantdb"
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
}

// refuseTimeout bounds the writing of a refusal's entry, which goes on when the
// client has gone.
const refuseTimeout = 5 * time.Second

// errStale: what the actor may do was read at an older version than the database's.
var errStale = errors.New("access: the authorization is out of date")

// NewDoor returns a door over the pools. Use sets its cipher, which needs the
// door's own KeySource.
func NewDoor(pools *Pools, hints Hints) *Door {
	return &Door{pools: pools, authz: newAuthzCache(), hints: hints}
}

// Use sets the cipher for sealed fields, before the first Do.
func (d *Door) Use(c Cipher) { d.cipher = c }

// Close drops all connections.
func (d *Door) Close() { d.pools.Close() }

// Serving returns the tenants that connections are kept for.
func (d *Door) Serving() []tenants.ID { return slices.Collect(d.pools.cache.Keys()) }

// Do decides whether the actor may do this, runs fn in the tenant's transaction,
// writes the one audit entry and commits. fn may run a second time, from the
// start, when the first found the authorization out of date before fn began; it
// must not call Do. What fn read may be shown only when Do returned nil.
//
// Errors: KindForbidden by the matrix, KindNotFound out of scope, KindUnauthenticated
// when the session is over, KindGateClosed, KindUnavailable, or what fn returned.
// Each leaves an entry of its own; one that cannot be written is KindUnavailable.
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
	err := d.attempt(ctx, actor, perm, &target, fn)
	if errors.Is(err, errStale) {
		if actor, err = d.renew(ctx, actor); err == nil {
			err = d.attempt(ctx, actor, perm, &target, fn)
		}
		if errors.Is(err, errStale) {
			err = d.decide(actor, perm, target, true)
		}
		if err == nil {
			return nil
		}
	}
	if err == nil {
		return nil
	}
	return d.refuse(ctx, actor, target, classify(err))
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

// attempt is one whole try: decide, begin, fn, entry, commit.
func (d *Door) attempt(ctx context.Context, actor tenants.Actor, perm tenants.Permission, target *Target, fn func(context.Context, *Tx) error) error {
	if err := d.decide(actor, perm, *target, false); err != nil {
		return err
	}
	conn, tp, release, err := d.pools.acquire(ctx, actor.TenantID)
	if err != nil {
		return err
	}
	defer release()
	defer rollbackOpen(ctx, conn)
	if err := begin(ctx, conn, tp.login.member(conn, actor), actor.AuthzVersion); err != nil {
		return err
	}
	g := &guard{conn: conn.Conn()}
	defer g.close()
	tx := &Tx{Queries: store.New(g), Actor: actor, target: target, cipher: d.cipher}
	if err := fn(ctx, tx); err != nil {
		return err
	}
	g.close()
	if err := commit(ctx, conn, actor, *target, outcomeOK); err != nil {
		return err
	}
	d.hints.AuditDirty(actor.TenantID)
	if tx.authzChanged {
		d.authz.dropTenant(actor.TenantID)
		d.hints.AuthzChanged(actor.TenantID)
	}
	return nil
}

// refuse writes the entry of a refusal or failure in a transaction of its own,
// which asks nothing of the session, and returns the refusal.
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
	conn, tp, release, err := d.pools.acquire(ctx, actor.TenantID)
	if err != nil {
		return err
	}
	defer release()
	defer rollbackOpen(ctx, conn)
	if err := begin(ctx, conn, tp.login.member(conn, actor), anyVersion); err != nil {
		return classify(err)
	}
	if err := commit(ctx, conn, actor, target, o); err != nil {
		return classify(err)
	}
	d.hints.AuditDirty(actor.TenantID)
	return nil
}

// anyVersion begins a transaction that is no member's request: its session and
// authorization are not asked about.
const anyVersion = -1

// begin sends BEGIN, the signed context and the check of session and
// authorization in one round trip.
func begin(ctx context.Context, conn *pgxpool.Conn, signed string, seen int64) error {
	var b pgx.Batch
	b.Queue("BEGIN")
	b.Queue("SELECT set_config('caresphere.context', $1, true)", signed)
	if seen != anyVersion {
		b.Queue("SELECT begin_request($1)", seen)
	}
	_, err := runBatch(ctx, conn, &b)
	return began(err)
}

// began reads how the beginning of a transaction ended.
func began(err error) error {
	switch {
	case err == nil:
		return nil
	case pg.IsCode(err, tenantdb.CodeSessionOver):
		return tenants.WrapError(tenants.KindUnauthenticated, "sign in again", err)
	case pg.IsCode(err, tenantdb.CodeNotActive):
		return tenants.WrapError(tenants.KindNotFound, "not found", err)
	case pg.IsCode(err, tenantdb.CodeStaleAuthz):
		return errStale
	}
	return fmt.Errorf("beginning a tenant's transaction: %w", err)
}

// commit sends the audit entry and COMMIT in one round trip: when the entry fails
// the server skips the COMMIT.
func commit(ctx context.Context, conn *pgxpool.Conn, actor tenants.Actor, t Target, o outcome) error {
	ev := audit.Event{Action: t.Action, RecordType: t.RecordType, FacilityID: t.FacilityID, Outcome: audit.Outcome(o), Detail: t.Detail}
	if !t.RecordID.IsZero() {
		ev.RecordID = t.RecordID.String()
	}
	var b pgx.Batch
	b.Queue(audit.InsertSQL(false), audit.InsertArgs(false, actor, ev)...)
	b.Queue("COMMIT")
	tag, err := runBatch(ctx, conn, &b)
	if err != nil {
		// Whatever it was, the action did not happen for lack of its entry.
		return unavailable(fmt.Errorf("committing with the audit entry: %w", err))
	}
	if tag != "COMMIT" {
		return unavailable(fmt.Errorf("the commit ended as %s", tag))
	}
	return nil
}

// runBatch runs all statements in one round trip and returns the last one's tag.
func runBatch(ctx context.Context, conn *pgxpool.Conn, b *pgx.Batch) (string, error) {
	res := conn.SendBatch(ctx, b)
	last := ""
	for range b.Len() {
		tag, err := res.Exec()
		if err != nil {
			_ = res.Close()
			return "", err
		}
		last = tag.String()
	}
	return last, res.Close()
}

// rollbackOpen ends a transaction that was not committed, so that the connection
// can serve again. One that cannot be rolled back is closed by its release.
func rollbackOpen(ctx context.Context, conn *pgxpool.Conn) {
	if conn.Conn().IsClosed() || conn.Conn().PgConn().TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	_, _ = conn.Exec(ctx, "ROLLBACK")
}
