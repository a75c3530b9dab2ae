package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/caresphere/caresphere/controlplane/session"
	"github.com/caresphere/caresphere/controlplane/signup"
	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/tenants"
)

// SignUps is what the sign-up operation calls; see signup.Service.
type SignUps interface {
	SignUp(ctx context.Context, r signup.Request, idempotencyKey string, info session.Info) (signup.Result, error)
}

// NewSignUp is the body of a sign-up.
type NewSignUp struct {
	Organization struct {
		LegalName   string `json:"legal_name" minLength:"2" maxLength:"200" doc:"The covered entity's legal name, as it will stand in the business associate agreement." example:"Maple Grove Residential Care LLC"`
		Slug        string `json:"slug,omitempty" maxLength:"39" doc:"The short name in the organization's URLs: lower case letters, digits and single dashes. One is proposed when it is left out." example:"maple-grove"`
		CareSetting string `json:"care_setting" enum:"residential,clinic" doc:"Decides which roles exist." example:"residential"`
	} `json:"organization"`
	Owner struct {
		Name  string `json:"name" minLength:"2" maxLength:"100" doc:"The first owner's full name." example:"Dana Whitfield"`
		Email string `json:"email" maxLength:"254" doc:"Where the invitation goes." example:"dana@example.org"`
	} `json:"owner"`
}

type signUpInput struct {
	IdempotencyKey
	Body NewSignUp
}

type signUpOutput struct{ Body signup.Result }

// RegisterSignUp declares the one operation that needs no session.
func RegisterSignUp(r Realm, s SignUps) {
	huma.Register(r.API, huma.Operation{
		OperationID: "sign-up", Method: http.MethodPost, Path: "/api/v1/signups", DefaultStatus: http.StatusAccepted,
		Tags: []string{"Onboarding"}, Summary: "Sign up an organization", Security: httpx.Public(),
		Description:  "Makes a pending organization and mails its first owner a link and a code. The answer is the same whether or not the address has an account already; if it has, its owner is told by mail and the organization stays closed.",
		MaxBodyBytes: 16 << 10,
	}, func(ctx context.Context, in *signUpInput) (*signUpOutput, error) {
		got, err := s.SignUp(ctx, signup.Request{
			LegalName: in.Body.Organization.LegalName, Slug: in.Body.Organization.Slug,
			CareSetting: tenants.CareSetting(in.Body.Organization.CareSetting),
			OwnerName:   in.Body.Owner.Name, Email: in.Body.Owner.Email,
		}, in.Key, Info(ctx))
		if err != nil {
			return nil, err
		}
		return &signUpOutput{Body: got}, nil
	})
}
