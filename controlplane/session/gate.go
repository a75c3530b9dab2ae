package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/maypok86/otter/v2"

	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/identity"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/tenants"
)

// Identities is what the gate needs of a realm's Kratos.
type Identities interface {
	Whoami(ctx context.Context, cred identity.Credential) (identity.Session, error)
	Factors(ctx context.Context, id tenants.ID) (identity.Factors, error)
	MarkVerified(ctx context.Context, id tenants.ID) error
	EndSession(ctx context.Context, session tenants.ID) error
	ExtendSession(ctx context.Context, session tenants.ID) error
}

// extendBelow is how much of its life in Kratos a session in use has left when it
// is prolonged. Kratos has no idle limit, so its lifespan may be set to one.
const extendBelow = 14 * time.Minute

const (
	// timeout bounds the database's part of opening a session.
	timeout = 4 * time.Second
	// extendWithin bounds one try to prolong a session, and extendPause is until the next.
	extendWithin = time.Second
	extendPause  = 30 * time.Second
)

// Gate opens the sessions of one realm.
type Gate struct {
	realm  Realm
	ids    Identities
	pool   *pgxpool.Pool
	limits Limits
	now    func() time.Time

	extending *otter.Cache[tenants.ID, struct{}]
}

// NewGate returns the gate of a realm.
func NewGate(realm Realm, ids Identities, pool *pgxpool.Pool, limits Limits) *Gate {
	return &Gate{realm: realm, ids: ids, pool: pool, limits: limits, now: time.Now,
		extending: otter.Must(&otter.Options[tenants.ID, struct{}]{
			MaximumSize:      100_000,
			ExpiryCalculator: otter.ExpiryCreating[tenants.ID, struct{}](extendPause),
		}),
	}
}

// Realm returns whose sessions the gate opens.
func (g *Gate) Realm() Realm { return g.realm }

// Open returns the session of a credential at whatever assurance it has; see
// Current.Full for what most handlers demand on top. Errors: KindUnauthenticated
// (none, over, idle for too long, or without an account), KindUnavailable.
func (g *Gate) Open(ctx context.Context, cred identity.Credential, info Info) (Current, error) {
	s, err := g.ids.Whoami(ctx, cred)
	if err != nil {
		return Current{}, err
	}
	now := g.now()
	if now.Sub(s.IssuedAt) > g.limits.Absolute {
		// It is over for good: Kratos would keep it and send the browser in circles.
		if err := g.ids.EndSession(ctx, s.ID); err != nil {
			return Current{}, err
		}
		return Current{}, tenants.NewError(tenants.KindUnauthenticated, "the session is over: sign in again")
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cur := Current{Realm: g.realm, Session: s, Info: info}
	if g.realm == Customer {
		if cur.Account, err = g.account(ctx, s); err != nil {
			return Current{}, err
		}
	}
	if err := g.touch(ctx, s, now); err != nil {
		return Current{}, err
	}
	if err := g.prolong(ctx, s, now); err != nil {
		return Current{}, err
	}
	if err := g.progress(ctx, &cur); err != nil {
		return Current{}, err
	}
	return cur, nil
}

func (g *Gate) account(ctx context.Context, s identity.Session) (*store.Account, error) {
	a, err := store.New(g.pool).AccountByIdentity(ctx, s.IdentityID)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, unavailable("reading an account", err)
	}
	if err != nil || a.DisabledAt != nil || a.OrganizationID != s.OrganizationID {
		return nil, tenants.NewError(tenants.KindUnauthenticated, "this sign-in has no account here")
	}
	return &a, nil
}

// touch records the use and refuses a session that was idle. Entering the
// password again in the same session counts as a use.
func (g *Gate) touch(ctx context.Context, s identity.Session, now time.Time) error {
	n, err := store.New(g.pool).TouchSession(ctx, store.TouchSessionParams{
		Realm: string(g.realm), SessionID: s.ID, IdentityID: s.IdentityID,
		AuthenticatedAt: s.AuthenticatedAt, IdleSince: now.Add(-g.limits.Idle)})
	if err != nil {
		return unavailable("recording a session's use", err)
	}
	if n == 0 {
		return tenants.NewError(tenants.KindUnauthenticated, "the session was idle for too long: sign in again")
	}
	return nil
}

// prolong lengthens the life of a session in use. That Kratos cannot do so now is no
// reason to refuse it: minutes of its life are left, and it is tried again long before.
func (g *Gate) prolong(ctx context.Context, s identity.Session, now time.Time) error {
	if s.ExpiresAt.Sub(now) >= extendBelow {
		return nil
	}
	if _, fresh := g.extending.SetIfAbsent(s.ID, struct{}{}); !fresh {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, extendWithin)
	defer cancel()
	err := g.ids.ExtendSession(ctx, s.ID)
	if tenants.IsKind(err, tenants.KindUnavailable) {
		slog.WarnContext(ctx, "a session in use could not be prolonged", "realm", string(g.realm), "error", err)
		return nil
	}
	return err
}

// progress finds the account's open step and records what was reached for the
// first time: the proven address, the finished set-up.
func (g *Gate) progress(ctx context.Context, cur *Current) error {
	if err := g.prove(ctx, cur); err != nil {
		return err
	}
	if cur.SecondFactor {
		// Reached only past a password and an enrolled second factor.
		if cur.Account != nil && cur.Account.ReadyAt == nil {
			return g.record(ctx, cur, "account.ready", (*store.Queries).MarkAccountReady)
		}
		return nil
	}
	f, err := g.ids.Factors(ctx, cur.IdentityID)
	switch {
	case err != nil:
		return err
	case f.Password && f.SecondFactor():
		// Nothing is open but to sign in with it.
	case !cur.EmailVerified:
		cur.Step = VerifyEmail
	case !f.Password:
		cur.Step = SetPassword
	default:
		cur.Step = EnrollTOTP
	}
	return nil
}

// Recovered records that the session's holder has used a code mailed to the
// account's address. The session comes from Kratos at this moment.
func (g *Gate) Recovered(ctx context.Context, s identity.Session, info Info) error {
	cur := Current{Realm: g.realm, Session: s, Info: info}
	if g.realm == Customer {
		var err error
		if cur.Account, err = g.account(ctx, s); err != nil {
			return err
		}
	}
	return g.prove(ctx, &cur)
}

// prove records the first proof that the account's address is its holder's: a
// session begun with a mailed code, or Kratos' own word.
func (g *Gate) prove(ctx context.Context, cur *Current) error {
	if !cur.EmailVerified && !cur.Session.Recovered() {
		return nil
	}
	if !cur.EmailVerified {
		if err := g.ids.MarkVerified(ctx, cur.IdentityID); err != nil {
			return err
		}
		cur.EmailVerified = true
	}
	if cur.Account == nil || cur.Account.EmailVerifiedAt != nil {
		return nil
	}
	return g.record(ctx, cur, "account.email_verified", (*store.Queries).MarkAccountVerified)
}

func (g *Gate) record(ctx context.Context, cur *Current, action string, mark func(*store.Queries, context.Context, tenants.ID) (int64, error)) error {
	err := pg.InTx(ctx, g.pool, func(tx pgx.Tx) error {
		n, err := mark(store.New(tx), ctx, cur.IdentityID)
		if err != nil || n == 0 {
			return err
		}
		return audit.Insert(ctx, tx, cur.Actor(), audit.Event{Action: action, RecordType: "account",
			RecordID: cur.IdentityID.String(), OrganizationID: cur.Account.OrganizationID})
	})
	if err != nil {
		return unavailable("recording "+action, err)
	}
	return nil
}

func unavailable(doing string, err error) error {
	return tenants.WrapError(tenants.KindUnavailable, "not available at the moment", fmt.Errorf("%s: %w", doing, err))
}

// Purge forgets sessions that no limit could still allow.
func (g *Gate) Purge(ctx context.Context) error {
	if err := store.New(g.pool).PurgeSessions(ctx, g.now().Add(-2*g.limits.Absolute)); err != nil {
		return fmt.Errorf("purging sessions: %w", err)
	}
	return nil
}
