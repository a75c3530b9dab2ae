// Package session is the control plane's gate: it turns what a client shows into
// who acts, or refuses.
//
// It owns the idle and absolute limits of console sessions and the order of
// onboarding (mailed code, password, authenticator). It trusts Kratos for whose
// session it is and the account table for where its holder belongs; it trusts no
// header for identity. It fails closed: when Kratos or the database does not
// answer, the answer is KindUnavailable and nobody acts.
package session

import (
	"context"
	"time"

	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/identity"
	"github.com/caresphere/caresphere/tenants"
)

// Realm tells the customers' accounts and the operators' apart; each has a Kratos
// and an origin of its own.
type Realm string

// The realms.
const (
	Customer Realm = "customer"
	Operator Realm = "operator"
)

// CookieName is the name of the realm's session cookie, as its Kratos is configured.
func (r Realm) CookieName() string {
	if r == Operator {
		return "caresphere_operator"
	}
	return "caresphere_session"
}

// Step is the next thing that an account or its organization has to do.
type Step string

// The steps, in their order. The first three are the account's own and are
// enforced here; the others are where its organization stands.
const (
	VerifyEmail           Step = "verify_email"
	SetPassword           Step = "set_password"
	EnrollTOTP            Step = "enroll_totp"
	SignBAA               Step = "sign_baa"
	AwaitCountersignature Step = "await_countersignature"
	Provisioning          Step = "provisioning"
	Ready                 Step = "ready"
)

// Limits are how long a session lives (45 CFR 164.312(a)(2)(iii), automatic logoff).
type Limits struct {
	// Idle is the longest pause between two requests; Absolute the longest life since sign-in.
	Idle, Absolute time.Duration
}

// DefaultLimits are 15 minutes idle and 12 hours in all.
var DefaultLimits = Limits{Idle: 15 * time.Minute, Absolute: 12 * time.Hour}

// Info is what is known of a request besides its session.
type Info struct {
	IP, Device, RequestID string
}

// Current is the session of a request.
type Current struct {
	Realm Realm
	identity.Session
	// Account is the customer's account; nil for operators.
	Account *store.Account
	// Step is the account's open onboarding step, empty once password and
	// authenticator are set up.
	Step Step
	Info Info
}

// Full returns nil for a session that may do whatever its account may: onboarding
// done, second factor given in this session. Else KindOnboarding with the open
// step in Fields under "next", or KindSecondFactor.
func (c Current) Full() error {
	if c.SecondFactor {
		return nil
	}
	if c.Step != "" {
		e := tenants.NewError(tenants.KindOnboarding, "finish setting up the account first")
		e.Fields = []tenants.FieldError{{Field: "next", Message: string(c.Step)}}
		return e
	}
	return tenants.NewError(tenants.KindSecondFactor, "sign in with your second factor")
}

// Actor returns who acts, for the audit trail.
func (c Current) Actor() tenants.Actor {
	a := tenants.Actor{Kind: tenants.ActorMember, ID: c.IdentityID, SessionID: c.ID, AuthenticatedAt: c.SecondFactorAt,
		IP: c.Info.IP, Device: c.Info.Device, RequestID: c.Info.RequestID}
	if c.Realm == Operator {
		a.Kind = tenants.ActorOperator
		return a
	}
	a.TenantID = c.Account.OrganizationID
	if c.Account.Owner {
		a.Role = tenants.RoleOwner
	}
	return a
}

// Anonymous is the actor of a request without a session.
func Anonymous(i Info) tenants.Actor {
	return tenants.Actor{Kind: tenants.ActorAnonymous, IP: i.IP, Device: i.Device, RequestID: i.RequestID}
}

type contextKey struct{}

// With returns a context that carries the session.
func With(ctx context.Context, c Current) context.Context {
	return context.WithValue(ctx, contextKey{}, c)
}

// From returns the session that With put there. Handlers behind the gate's
// middleware always find one; elsewhere ok is false.
func From(ctx context.Context) (c Current, ok bool) {
	c, ok = ctx.Value(contextKey{}).(Current)
	return c, ok
}
