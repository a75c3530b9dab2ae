package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/caresphere/caresphere/controlplane/members"
	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/tenants"
)

// Standings takes over what the data plane decided about people; see members.Service.
type Standings interface {
	Stand(ctx context.Context, in members.Standing, requestID string) error
}

// Ender ends a session, whether or not it is over already.
type Ender interface {
	EndSession(ctx context.Context, session tenants.ID) error
}

type standingInput struct {
	ID   tenants.ID `path:"id"`
	Body struct {
		OrganizationID tenants.ID `json:"organization_id"`
		Role           string     `json:"role" enum:"owner,nurse,med_tech,prescriber,staff,auditor,front_desk,medical_assistant,provider,ownership"`
		Status         string     `json:"status" enum:"active,disabled"`
		Version        int64      `json:"version" minimum:"1"`
	}
}

// RegisterStandings declares how a data-plane worker says what was decided about
// people. api is that of the internal operations, which no public document describes.
func RegisterStandings(api huma.API, s Standings, e Ender) {
	huma.Register(api, huma.Operation{
		OperationID: "set-standing", Method: http.MethodPut, Path: "/internal/v1/accounts/{id}/standing", Tags: []string{"Members"},
		Summary: "Say what a person is in the organization", Security: httpx.Public(), Middlewares: huma.Middlewares{peer("dataplane")},
		MaxBodyBytes: 16 << 10, DefaultStatus: http.StatusNoContent,
		Description: "A version that is older than the one known changes nothing and is no error.",
	}, func(ctx context.Context, in *standingInput) (*struct{}, error) {
		return nil, s.Stand(ctx, members.Standing{Organization: in.Body.OrganizationID, Identity: in.ID, Role: tenants.Role(in.Body.Role),
			Active: in.Body.Status == "active", Version: in.Body.Version}, Info(ctx).RequestID)
	})
	huma.Register(api, huma.Operation{
		OperationID: "end-session", Method: http.MethodDelete, Path: "/internal/v1/sessions/{id}", Tags: []string{"Sessions"},
		Summary: "End a session", Security: httpx.Public(), Middlewares: huma.Middlewares{peer("dataplane")},
		DefaultStatus: http.StatusNoContent,
		Description:   "The worker calls this when the session was ended there. One that is over already is no error.",
	}, func(ctx context.Context, in *struct {
		ID tenants.ID `path:"id"`
	}) (*struct{}, error) {
		return nil, e.EndSession(ctx, in.ID)
	})
}
