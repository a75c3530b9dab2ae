package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/caresphere/caresphere/controlplane/baa"
	"github.com/caresphere/caresphere/controlplane/fleet"
	"github.com/caresphere/caresphere/tenants"
)

// FleetOrganization is an organization with what only operators see.
type FleetOrganization struct {
	Organization
	OwnerEmail     string    `json:"owner_email"`
	CellID         string    `json:"cell_id,omitempty"`
	PlacementEpoch int64     `json:"placement_epoch"`
	KeyAlive       bool      `json:"key_alive"`
	GateVersion    int64     `json:"gate_version" doc:"Counts the decisions about the gate."`
	GateApplied    int64     `json:"gate_applied" doc:"The last decision that holds in the cell."`
	UpdatedAt      time.Time `json:"updated_at"`
}

// FleetDetail is one organization with its steps and agreements.
type FleetDetail struct {
	FleetOrganization
	Steps      []ProvisioningStep `json:"steps"`
	Agreements []BAA              `json:"agreements"`
}

func showFleet(o fleet.Organization) FleetOrganization {
	return FleetOrganization{Organization: showOrganization(o), OwnerEmail: o.OwnerEmail, CellID: o.CellID,
		PlacementEpoch: o.PlacementEpoch, KeyAlive: o.KeyAlive, GateVersion: o.GateVersion, GateApplied: o.GateApplied, UpdatedAt: o.UpdatedAt}
}

type fleetQuery struct {
	Search string `query:"search" maxLength:"100" doc:"A part of the short or the legal name."`
	State  string `query:"state" enum:"pending,provisioning,provisioning_failed,live,read_only,suspended,quarantined,closed"`
	Before string `query:"before" maxLength:"36" doc:"The id after which the list goes on: next of the page before."`
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"100"`
}

type fleetOutput struct {
	Body struct {
		Items []FleetOrganization `json:"items"`
		Next  string              `json:"next,omitempty" doc:"Give it as before to get the next page."`
	}
}

type fleetDetailOutput struct{ Body FleetDetail }

// OrganizationPath names an organization.
type OrganizationPath struct {
	ID tenants.ID `path:"id" doc:"The organization's id."`
}

type moveInput struct {
	OrganizationPath
	ReasonBody
}

// OperatorDeps is what the operators' operations need.
type OperatorDeps struct {
	Fleet      Fleet
	Agreements Agreements
}

// RegisterOperator declares the fleet's operations. They belong on the operators'
// origin only; the domain refuses everybody else as well.
func RegisterOperator(r Realm, d OperatorDeps) {
	full, tags := r.Full(), []string{"Fleet"}
	huma.Register(r.API, huma.Operation{OperationID: "list-organizations", Method: http.MethodGet, Path: "/api/v1/organizations",
		Tags: tags, Summary: "Organizations, newest first", Middlewares: full,
	}, func(ctx context.Context, in *fleetQuery) (*fleetOutput, error) {
		f := fleet.Filter{Search: in.Search, State: tenants.State(in.State), Limit: in.Limit}
		if in.Before != "" {
			id, err := tenants.ParseID(in.Before)
			if err != nil {
				return nil, tenants.Invalid("query.before", "must be an organization's id")
			}
			f.Before = id
		}
		list, err := d.Fleet.List(ctx, Caller(ctx).Actor(), f)
		if err != nil {
			return nil, err
		}
		out := &fleetOutput{}
		out.Body.Items = make([]FleetOrganization, 0, len(list))
		for _, o := range list {
			out.Body.Items = append(out.Body.Items, showFleet(o))
		}
		if len(list) == in.Limit {
			out.Body.Next = list[len(list)-1].ID.String()
		}
		return out, nil
	})
	detail := func(ctx context.Context, id tenants.ID) (*fleetDetailOutput, error) { return fleetDetail(ctx, d, id) }
	huma.Register(r.API, huma.Operation{OperationID: "get-organization", Method: http.MethodGet, Path: "/api/v1/organizations/{id}",
		Tags: tags, Summary: "One organization with its steps and agreements", Middlewares: full,
	}, func(ctx context.Context, in *OrganizationPath) (*fleetDetailOutput, error) { return detail(ctx, in.ID) })
	for _, m := range []struct {
		id, path, summary string
		do                func(context.Context, tenants.Actor, tenants.ID, string) error
	}{
		{"suspend-organization", "suspend", "Close an organization's gate", d.Fleet.Suspend},
		{"resume-organization", "resume", "Make an organization live again", d.Fleet.Resume},
		{"make-organization-read-only", "read-only", "Refuse an organization's writes", d.Fleet.ReadOnly},
	} {
		huma.Register(r.API, huma.Operation{OperationID: m.id, Method: http.MethodPost, Path: "/api/v1/organizations/{id}/" + m.path,
			Tags: tags, Summary: m.summary, Middlewares: full, MaxBodyBytes: 8 << 10,
		}, func(ctx context.Context, in *moveInput) (*fleetDetailOutput, error) {
			if err := m.do(ctx, Caller(ctx).Actor(), in.ID, in.Body.Reason); err != nil {
				return nil, err
			}
			return detail(ctx, in.ID)
		})
	}
	huma.Register(r.API, huma.Operation{OperationID: "retry-organization-provisioning", Method: http.MethodPost,
		Path: "/api/v1/organizations/{id}/provisioning/retry", Tags: tags, Summary: "Try a failed provisioning again",
		Middlewares: full, DefaultStatus: http.StatusAccepted,
	}, func(ctx context.Context, in *OrganizationPath) (*fleetDetailOutput, error) {
		if err := d.Fleet.Retry(ctx, Caller(ctx).Actor(), in.ID); err != nil {
			return nil, err
		}
		return detail(ctx, in.ID)
	})
}

func fleetDetail(ctx context.Context, d OperatorDeps, id tenants.ID) (*fleetDetailOutput, error) {
	cur := Caller(ctx)
	o, err := d.Fleet.Get(ctx, cur.Actor(), id)
	if err != nil {
		return nil, err
	}
	p, err := provisioning(ctx, d.Fleet, cur.Actor(), id)
	if err != nil {
		return nil, err
	}
	list, err := d.Agreements.List(ctx, Person(cur), id)
	if err != nil {
		return nil, err
	}
	out := &fleetDetailOutput{Body: FleetDetail{FleetOrganization: showFleet(o), Steps: p.Body.Steps, Agreements: agreements(list)}}
	return out, nil
}

func agreements(list []baa.Agreement) []BAA {
	out := make([]BAA, 0, len(list))
	for _, a := range list {
		out = append(out, showBAA(a))
	}
	return out
}
