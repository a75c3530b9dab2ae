// Package session is the gate in front of a tenant's records: it establishes who
// makes a request, in which organization, and whether they may come in at all.
//
// It owns the order of the refusals and what each of them reveals. It trusts
// Kratos for whose session it is, the signed route table for which gates are open,
// and the door for membership and for the worker's own session row. It trusts no
// header for identity, and it never tells anybody outside an organization whether
// that organization exists.
package session

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/caresphere/caresphere/dataplane/access"
	"github.com/caresphere/caresphere/internal/identity"
	"github.com/caresphere/caresphere/tenants"
)

// Identity says whose session a credential is. Errors: KindUnauthenticated,
// KindSecondFactor, KindUnavailable.
type Identity interface {
	Whoami(ctx context.Context, c identity.Credential) (identity.Session, error)
}

// Routes is the worker's snapshot of the signed route table. An entry past its
// NotAfter is not returned.
type Routes interface {
	BySlug(slug string) (tenants.Route, bool)
}

// Request is what the gate needs to know of a request.
type Request struct {
	// Slug is the tenant's name in the path.
	Slug string
	// Epoch is the placement epoch that the router sent it with; 0 for none.
	Epoch      int64
	Credential identity.Credential
	// IP, Device and RequestID go down in the trail.
	IP, Device, RequestID string
}

// Visit is a request that was let in.
type Visit struct {
	Actor tenants.Actor
	// Tenant are the organization's settings.
	Tenant access.TenantSettings
	// ReadOnly says that writes are refused for now.
	ReadOnly bool
	// ExpiresAt is when the session ends at the latest.
	ExpiresAt time.Time

	credential identity.Credential
}

// whoamiKeep is how long an answer of Kratos is used again. A session ended at
// Kratos lives on here for as long; one ended here ends at once.
const (
	whoamiKeep  = 3 * time.Second
	whoamiFresh = 2 * time.Second
)

// Gate lets requests in. Safe for concurrent use.
type Gate struct {
	cell     string
	identity Identity
	routes   Routes
	door     *access.Door
	whoami   *otter.Cache[[sha256.Size]byte, identity.Session]
	seen     *otter.Cache[tenants.ID, struct{}]

	extender  Extender
	extending *otter.Cache[tenants.ID, struct{}]
}

// Believe says for how long an answer of Kratos is used: after fresh a session in use is
// asked about again, and after keep a request waits for that.
type Believe struct{ Fresh, Keep time.Duration }

// NewGate returns the gate of a worker of the cell, in front of the door. believe, if
// given, replaces 2 and 3 s.
func NewGate(cell string, who Identity, routes Routes, door *access.Door, believe ...Believe) *Gate {
	b := Believe{whoamiFresh, whoamiKeep}
	if len(believe) > 0 {
		b = believe[0]
	}
	return &Gate{cell: cell, identity: who, routes: routes, door: door,
		whoami: otter.Must(&otter.Options[[sha256.Size]byte, identity.Session]{
			MaximumSize:      100_000,
			ExpiryCalculator: otter.ExpiryWriting[[sha256.Size]byte, identity.Session](b.Keep),
			// A session in use is asked about again before its answer is too old, so that
			// none of its requests waits for Kratos.
			RefreshCalculator: otter.RefreshWriting[[sha256.Size]byte, identity.Session](b.Fresh),
			Logger:            &otter.NoopLogger{}, // what fails is asked again, and fails, once the answer is too old
		}),
		seen: otter.Must(&otter.Options[tenants.ID, struct{}]{
			MaximumSize:      100_000,
			ExpiryCalculator: otter.ExpiryCreating[tenants.ID, struct{}](time.Hour),
		}),
		extending: otter.Must(&otter.Options[tenants.ID, struct{}]{
			MaximumSize:      100_000,
			ExpiryCalculator: otter.ExpiryCreating[tenants.ID, struct{}](extendPause),
		}),
	}
}

// Enter establishes the actor of a request. The refusals, in order:
// KindUnauthenticated without a valid session; KindNotFound for an organization
// that is not the session's, known or not; KindGateClosed for the session's own
// when it cannot be served; KindMisdirected when the router's table is not ours;
// KindOnboarding for an unverified address; KindNotFound for somebody who is no
// active member; KindSecondFactor; KindUnauthenticated past the absolute age.
// KindUnavailable when Kratos, the database or the KMS is down.
func (g *Gate) Enter(ctx context.Context, r Request) (Visit, error) {
	s, err := g.who(ctx, r.Credential)
	if err != nil {
		return Visit{}, err
	}
	route, open := g.routes.BySlug(r.Slug)
	open = open && (route.Mode == tenants.GateOpen || route.Mode == tenants.GateReadOnly)
	own := s.Slug == r.Slug
	if open {
		own = route.TenantID == s.OrganizationID
	}
	switch {
	case s.OrganizationID.IsZero():
		return Visit{}, tenants.NotFound()
	case !own:
		return Visit{}, g.stranger(ctx, s, r)
	case !open:
		return Visit{}, tenants.NewError(tenants.KindGateClosed, "this organization cannot be served now")
	case r.Epoch != route.Epoch || route.CellID != g.cell:
		return Visit{}, tenants.NewError(tenants.KindMisdirected, "the organization is not served here at this placement")
	case !s.EmailVerified:
		return Visit{}, g.refuse(ctx, nobody(s, r), tenants.NewError(tenants.KindOnboarding, "verify your e-mail address first"))
	}
	v, err := g.member(ctx, s, r)
	if err != nil {
		return Visit{}, err
	}
	v.ReadOnly = route.Mode == tenants.GateReadOnly
	return v, nil
}

// member establishes the actor in the session's own, open organization.
func (g *Gate) member(ctx context.Context, s identity.Session, r Request) (Visit, error) {
	a, err := g.door.Authorize(ctx, s.OrganizationID, s.IdentityID, s.ID)
	if tenants.IsKind(err, tenants.KindNotFound) {
		return Visit{}, g.refuse(ctx, nobody(s, r), err)
	}
	if err != nil {
		return Visit{}, err
	}
	v := Visit{Tenant: a.Tenant, ExpiresAt: s.ExpiresAt, credential: r.Credential, Actor: tenants.Actor{
		Kind: tenants.ActorMember, ID: s.IdentityID, TenantID: s.OrganizationID, SessionID: s.ID,
		Role: a.Role, Facilities: a.Facilities, AuthzVersion: a.Version,
		AuthenticatedAt: s.SecondFactorAt, IP: r.IP, Device: r.Device, RequestID: r.RequestID,
	}}
	if !s.SecondFactor {
		return Visit{}, g.refuse(ctx, v.Actor, tenants.NewError(tenants.KindSecondFactor, "sign in with your second factor"))
	}
	if time.Since(s.IssuedAt) > a.Tenant.MaxAge {
		return Visit{}, g.refuse(ctx, v.Actor, tenants.NewError(tenants.KindUnauthenticated, "sign in again"))
	}
	if _, ok := g.seen.GetIfPresent(s.ID); !ok {
		if err := g.door.SignIn(ctx, v.Actor); err != nil {
			return Visit{}, err
		}
		g.seen.Set(s.ID, struct{}{})
	}
	return v, nil
}

// stranger refuses a session of another organization, or of none that is open
// here, as absent, and leaves word in the trail of the session's own.
func (g *Gate) stranger(ctx context.Context, s identity.Session, r Request) error {
	refusal := tenants.NotFound()
	if route, ok := g.routes.BySlug(s.Slug); !ok || route.TenantID != s.OrganizationID || route.Mode == tenants.GateProbe {
		return refusal
	}
	a, err := g.door.Authorize(ctx, s.OrganizationID, s.IdentityID, s.ID)
	if err != nil {
		if tenants.IsKind(err, tenants.KindUnavailable) {
			return err
		}
		return refusal
	}
	actor := nobody(s, r)
	actor.Role, actor.Facilities = a.Role, a.Facilities
	return g.door.Refuse(ctx, actor, access.Target{Action: "session.stray", RecordType: "session", RecordID: s.ID}, refusal)
}

// nobody is who has a session of this organization and no role in it, or none yet.
func nobody(s identity.Session, r Request) tenants.Actor {
	return tenants.Actor{Kind: tenants.ActorMember, ID: s.IdentityID, TenantID: s.OrganizationID, SessionID: s.ID,
		IP: r.IP, Device: r.Device, RequestID: r.RequestID}
}

func (g *Gate) refuse(ctx context.Context, actor tenants.Actor, refusal error) error {
	return g.door.Refuse(ctx, actor, access.Target{Action: "session.refuse", RecordType: "session", RecordID: actor.SessionID}, refusal)
}

// Confirm asks Kratos again, past the cache, for an action that must not be done
// on a session that ended seconds ago. The session must still be the visit's.
func (g *Gate) Confirm(ctx context.Context, v Visit) error {
	g.whoami.Invalidate(fingerprint(v.credential))
	s, err := g.who(ctx, v.credential)
	if err == nil && (s.ID != v.Actor.SessionID || s.IdentityID != v.Actor.ID || s.OrganizationID != v.Actor.TenantID) {
		err = tenants.NewError(tenants.KindUnauthenticated, "sign in again")
	}
	if err == nil && !s.SecondFactor {
		err = tenants.NewError(tenants.KindSecondFactor, "sign in with your second factor")
	}
	if err != nil && !tenants.IsKind(err, tenants.KindUnavailable) {
		return g.refuse(ctx, v.Actor, err)
	}
	return err
}

// Writable refuses a write while the organization is read-only.
func (g *Gate) Writable(ctx context.Context, v Visit) error {
	if !v.ReadOnly {
		return nil
	}
	return g.refuse(ctx, v.Actor, tenants.NewError(tenants.KindForbidden, "this organization is read-only for now"))
}

func (g *Gate) who(ctx context.Context, c identity.Credential) (identity.Session, error) {
	if c.IsZero() {
		return identity.Session{}, tenants.NewError(tenants.KindUnauthenticated, "sign in first")
	}
	s, err := g.whoami.Get(ctx, fingerprint(c), asker{g.identity, c})
	if err == nil && !s.SecondFactor {
		// The second factor may come at any moment: a refusal for its lack is not kept.
		g.whoami.Invalidate(fingerprint(c))
	}
	if err == nil && !time.Now().Before(s.ExpiresAt) {
		err = tenants.NewError(tenants.KindUnauthenticated, "sign in again")
	}
	return s, err
}

// asker asks Kratos whose session a credential is.
type asker struct {
	identity   Identity
	credential identity.Credential
}

// Load implements otter.Loader. Others wait for the answer too: it must not end with
// the first one's request.
func (a asker) Load(ctx context.Context, _ [sha256.Size]byte) (identity.Session, error) {
	return a.identity.Whoami(context.WithoutCancel(ctx), a.credential)
}

// Reload implements otter.Loader: while it asks, requests are judged by the answer at
// hand. One that is over by now, or that lacks its second factor, is forgotten.
func (a asker) Reload(ctx context.Context, key [sha256.Size]byte, _ identity.Session) (identity.Session, error) {
	s, err := a.Load(ctx, key)
	if tenants.IsKind(err, tenants.KindUnauthenticated) || tenants.IsKind(err, tenants.KindSecondFactor) || err == nil && !s.SecondFactor {
		return s, otter.ErrNotFound
	}
	return s, err
}

// fingerprint names a credential in the cache: the cache must not hold what would
// let its reader in.
func fingerprint(c identity.Credential) [sha256.Size]byte {
	if c.Token != "" {
		return sha256.Sum256([]byte("token\n" + c.Token))
	}
	return sha256.Sum256([]byte("cookie\n" + c.Cookie))
}
