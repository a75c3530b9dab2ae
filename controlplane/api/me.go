package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/caresphere/caresphere/controlplane/members"
	"github.com/caresphere/caresphere/controlplane/session"
	"github.com/caresphere/caresphere/tenants"
)

// Progresses is what GET /me asks; see members.Service.
type Progresses interface {
	Progress(ctx context.Context, cur session.Current) (members.Progress, error)
}

// Me is who is signed in and what is next for them.
type Me struct {
	Account      MyAccount      `json:"account"`
	Organization MyOrganization `json:"organization"`
	Next         session.Step   `json:"next" enum:"verify_email,set_password,enroll_totp,sign_baa,await_countersignature,provisioning,ready" doc:"The next step on the way to going live."`
}

// MyAccount is the signed-in account.
type MyAccount struct {
	ID            tenants.ID `json:"id"`
	Email         string     `json:"email"`
	Name          string     `json:"name"`
	Owner         bool       `json:"owner" doc:"May sign for the organization."`
	EmailVerified bool       `json:"email_verified"`
	SecondFactor  bool       `json:"second_factor" doc:"Whether this session has given its second factor."`
	ExpiresAt     time.Time  `json:"session_expires_at"`
}

// MyOrganization is the organization that the account belongs to.
type MyOrganization struct {
	ID          tenants.ID `json:"id"`
	Slug        string     `json:"slug"`
	LegalName   string     `json:"legal_name"`
	CareSetting string     `json:"care_setting" enum:"residential,clinic"`
	State       string     `json:"state"`
}

type meOutput struct{ Body Me }

// RegisterMe declares GET /me for customers.
func RegisterMe(r Realm, p Progresses) {
	huma.Register(r.API, huma.Operation{
		OperationID: "get-me", Method: http.MethodGet, Path: "/api/v1/me", Tags: []string{"Onboarding"},
		Summary: "Who is signed in, and what is next", Middlewares: r.Onboarding(),
		Description: "Answers also while the account is being set up. An account that has a second factor must have given it in this session.",
	}, func(ctx context.Context, _ *struct{}) (*meOutput, error) {
		cur := Caller(ctx)
		if cur.Step == "" {
			if err := cur.Full(); err != nil {
				return nil, err
			}
		}
		got, err := p.Progress(ctx, cur)
		if err != nil {
			return nil, err
		}
		o := got.Organization
		return &meOutput{Body: Me{
			Account: MyAccount{ID: cur.IdentityID, Email: cur.Account.Email, Name: cur.Account.Name, Owner: cur.Account.Owner,
				EmailVerified: cur.EmailVerified, SecondFactor: cur.SecondFactor, ExpiresAt: cur.ExpiresAt},
			Organization: MyOrganization{ID: o.ID, Slug: o.Slug, LegalName: o.LegalName, CareSetting: o.CareSetting, State: o.State},
			Next:         got.Next,
		}}, nil
	})
}

// Operator is the signed-in operator.
type Operator struct {
	ID           tenants.ID   `json:"id"`
	Email        string       `json:"email"`
	Name         string       `json:"name"`
	SecondFactor bool         `json:"second_factor"`
	Next         session.Step `json:"next" enum:"verify_email,set_password,enroll_totp,ready"`
}

type operatorOutput struct{ Body Operator }

// RegisterOperatorMe declares GET /me for operators.
func RegisterOperatorMe(r Realm) {
	huma.Register(r.API, huma.Operation{
		OperationID: "get-me", Method: http.MethodGet, Path: "/api/v1/me", Tags: []string{"Account"},
		Summary: "Who is signed in", Middlewares: r.Onboarding(),
	}, func(ctx context.Context, _ *struct{}) (*operatorOutput, error) {
		cur := Caller(ctx)
		if cur.Step == "" {
			if err := cur.Full(); err != nil {
				return nil, err
			}
		}
		next := cur.Step
		if next == "" {
			next = session.Ready
		}
		return &operatorOutput{Body: Operator{ID: cur.IdentityID, Email: cur.Email, Name: cur.Name, SecondFactor: cur.SecondFactor, Next: next}}, nil
	})
}
