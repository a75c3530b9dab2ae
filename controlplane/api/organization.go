package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/caresphere/caresphere/controlplane/fleet"
	"github.com/caresphere/caresphere/tenants"
)

// Fleet is what the organizations' operations call; see fleet.Service.
type Fleet interface {
	List(ctx context.Context, a tenants.Actor, f fleet.Filter) ([]fleet.Organization, error)
	Export(ctx context.Context, a tenants.Actor, f fleet.Filter) ([]fleet.Organization, error)
	Get(ctx context.Context, a tenants.Actor, id tenants.ID) (fleet.Organization, error)
	Steps(ctx context.Context, a tenants.Actor, id tenants.ID) ([]fleet.Step, error)
	Suspend(ctx context.Context, a tenants.Actor, id tenants.ID, reason string) error
	Resume(ctx context.Context, a tenants.Actor, id tenants.ID, reason string) error
	ReadOnly(ctx context.Context, a tenants.Actor, id tenants.ID, reason string) error
	Retry(ctx context.Context, a tenants.Actor, id tenants.ID) error
}

// Organization is one organization and where it stands.
type Organization struct {
	ID           tenants.ID          `json:"id"`
	Slug         string              `json:"slug"`
	LegalName    string              `json:"legal_name"`
	CareSetting  tenants.CareSetting `json:"care_setting" enum:"residential,clinic"`
	State        tenants.State       `json:"state" enum:"pending,provisioning,provisioning_failed,live,read_only,suspended,quarantined,closed"`
	StateReason  string              `json:"state_reason,omitempty"`
	Gate         Gate                `json:"gate"`
	BAA          *OrganizationBAA    `json:"baa,omitempty" doc:"The agreement in force, else the newest."`
	Subscription *Subscription       `json:"subscription,omitempty"`
	CreatedAt    time.Time           `json:"created_at"`
}

// Gate says whether the organization's requests are served.
type Gate struct {
	Mode   tenants.GateMode   `json:"mode" enum:"closed,probe,read_only,open"`
	Reason tenants.GateReason `json:"reason,omitempty" doc:"Why it is closed."`
	Until  *time.Time         `json:"until,omitempty" doc:"When it closes by itself: the agreement's expiry."`
}

// OrganizationBAA is where the organization's agreement stands.
type OrganizationBAA struct {
	ID        tenants.ID       `json:"id"`
	State     tenants.BAAState `json:"state"`
	ExpiresAt *time.Time       `json:"expires_at,omitempty"`
}

// Subscription is how the organization pays.
type Subscription struct {
	Plan   string `json:"plan" enum:"manual,stripe"`
	Status string `json:"status"`
}

func showOrganization(o fleet.Organization) Organization {
	out := Organization{ID: o.ID, Slug: o.Slug, LegalName: o.LegalName, CareSetting: o.CareSetting, State: o.State,
		StateReason: o.StateReason, Gate: Gate{o.Gate.Mode, o.Gate.Reason, o.GateUntil}, CreatedAt: o.CreatedAt}
	if !o.BAA.ID.IsZero() {
		out.BAA = &OrganizationBAA{o.BAA.ID, o.BAA.State, o.BAAExpiresAt}
	}
	if o.Plan != "" {
		out.Subscription = &Subscription{o.Plan, o.SubscriptionStatus}
	}
	return out
}

// Provisioning is how far an organization's provisioning is.
type Provisioning struct {
	State  tenants.State      `json:"state"`
	Reason string             `json:"reason,omitempty" doc:"Why it failed, if it did."`
	Steps  []ProvisioningStep `json:"steps"`
}

// ProvisioningStep is one durable step.
type ProvisioningStep struct {
	Step       string     `json:"step"`
	State      string     `json:"state" enum:"waiting,running,done,failed"`
	Attempt    int        `json:"attempt"`
	Reason     string     `json:"reason,omitempty"`
	StartedAt  *time.Time `json:"started_at,omitempty"`
	FinishedAt *time.Time `json:"finished_at,omitempty"`
}

func provisioning(ctx context.Context, s Fleet, a tenants.Actor, id tenants.ID) (*provisioningOutput, error) {
	o, err := s.Get(ctx, a, id)
	if err != nil {
		return nil, err
	}
	steps, err := s.Steps(ctx, a, id)
	if err != nil {
		return nil, err
	}
	out := &provisioningOutput{Body: Provisioning{State: o.State, Steps: make([]ProvisioningStep, 0, len(steps))}}
	if o.State == tenants.StateProvisioningFailed {
		out.Body.Reason = o.StateReason
	}
	for _, st := range steps {
		out.Body.Steps = append(out.Body.Steps, ProvisioningStep{st.Name, st.State, st.Attempt, st.Reason, st.StartedAt, st.FinishedAt})
	}
	return out, nil
}

type organizationOutput struct{ Body Organization }

type provisioningOutput struct{ Body Provisioning }

// RegisterOrganization declares what members ask about their own organization.
func RegisterOrganization(r Realm, s Fleet) {
	full, tags := r.Full(), []string{"Organization"}
	huma.Register(r.API, huma.Operation{OperationID: "get-organization", Method: http.MethodGet, Path: "/api/v1/organization",
		Tags: tags, Summary: "The caller's organization", Middlewares: full,
	}, func(ctx context.Context, _ *struct{}) (*organizationOutput, error) {
		a := Caller(ctx).Actor()
		o, err := s.Get(ctx, a, a.TenantID)
		if err != nil {
			return nil, err
		}
		return &organizationOutput{Body: showOrganization(o)}, nil
	})
	huma.Register(r.API, huma.Operation{OperationID: "get-provisioning", Method: http.MethodGet, Path: "/api/v1/organization/provisioning",
		Tags: tags, Summary: "How far provisioning is", Description: "The steps as they are at this moment, in their order.", Middlewares: full,
	}, func(ctx context.Context, _ *struct{}) (*provisioningOutput, error) {
		a := Caller(ctx).Actor()
		return provisioning(ctx, s, a, a.TenantID)
	})
	huma.Register(r.API, huma.Operation{OperationID: "retry-provisioning", Method: http.MethodPost, Path: "/api/v1/organization/provisioning/retry",
		Tags: tags, Summary: "Try a failed provisioning again", Description: "Owners only. 409 unless it failed.", Middlewares: full,
		DefaultStatus: http.StatusAccepted,
	}, func(ctx context.Context, _ *struct{}) (*provisioningOutput, error) {
		a := Caller(ctx).Actor()
		if err := s.Retry(ctx, a, a.TenantID); err != nil {
			return nil, err
		}
		return provisioning(ctx, s, a, a.TenantID)
	})
}
