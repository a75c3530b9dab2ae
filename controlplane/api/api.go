// Package api declares the control plane's JSON operations for huma: what each
// takes and gives, who may call it, which domain call it is.
//
// It owns the shape of the API and no rule of the business. It trusts the session
// gate for who calls, and peers' certificates on the internal operations. It
// decides nothing that a domain package decides, and it never answers an error
// but through internal/httpx.
//
// Adding an operation: write a Register function that takes what the handler
// needs, declare the operation with huma.Register, and give it
// Middlewares: realm.Full() (signed in with second factor), realm.Onboarding()
// (any session) or Security: httpx.Public() (nobody signed in). The handler finds
// the caller with Caller(ctx).
package api

import (
	"context"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"

	"github.com/caresphere/caresphere/controlplane/identitygate"
	"github.com/caresphere/caresphere/controlplane/session"
	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/internal/obs"
)

// Realm is the API of one origin and the gate of its sessions.
type Realm struct {
	API  huma.API
	Gate *session.Gate
}

// Full admits only sessions with a second factor, of accounts whose onboarding is
// done: KindUnauthenticated, KindOnboarding or KindSecondFactor for all others.
func (r Realm) Full() huma.Middlewares {
	return huma.Middlewares{r.middleware(true)}
}

// Onboarding admits any session of an account, also before its onboarding is done.
func (r Realm) Onboarding() huma.Middlewares {
	return huma.Middlewares{r.middleware(false)}
}

func (r Realm) middleware(full bool) func(huma.Context, func(huma.Context)) {
	return func(hc huma.Context, next func(huma.Context)) {
		c := humafiber.Unwrap(hc)
		cred, err := identitygate.Credential(c, r.Gate.Realm())
		if err != nil {
			refuse(hc, err)
			return
		}
		cur, err := r.Gate.Open(hc.Context(), cred, Info(hc.Context()))
		if err == nil && full {
			err = cur.Full()
		}
		if err != nil {
			refuse(hc, err)
			return
		}
		if cur.Account != nil {
			obs.SetTenant(hc.Context(), cur.Account.OrganizationID)
		}
		next(huma.WithContext(hc, session.With(hc.Context(), cur)))
	}
}

// Caller returns the session that the operation's middleware admitted.
func Caller(ctx context.Context) session.Current {
	cur, ok := session.From(ctx)
	if !ok {
		// A declaration without its middleware: a defect that every first call shows.
		panic("api: the operation has no session middleware")
	}
	return cur
}

// Info returns what is known of a request besides its session.
func Info(ctx context.Context) session.Info {
	var i session.Info
	i.IP, i.Device, i.RequestID = httpx.RequestInfo(ctx)
	return i
}

// IdempotencyKey is embedded in the input of operations that create.
type IdempotencyKey struct {
	Key string `header:"Idempotency-Key" maxLength:"128" doc:"Makes a repeat of the request harmless: the first answer is given again for 24 hours."`
}

// refuse answers an operation with a problem before its handler ran.
func refuse(hc huma.Context, err error) { _ = httpx.Problem(humafiber.Unwrap(hc), err) }
