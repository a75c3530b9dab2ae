package fleet

import (
	"context"
	"fmt"
	"time"

	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/tenants"
)

// Organization is one organization with all that its console pages show.
type Organization struct {
	tenants.Organization
	UpdatedAt      time.Time
	PlacementEpoch int64
	KeyAlive       bool
	Gate           tenants.Gate
	// GateUntil is when the gate closes by itself; nil while it is closed.
	GateUntil *time.Time
	// GateVersion counts decisions, GateApplied is the last one that holds in the cell.
	GateVersion, GateApplied int64
	// BAA is the agreement in force, else the newest; its ID is NilID if there is none.
	BAA          tenants.BAA
	BAAExpiresAt *time.Time
	OwnerEmail   string
	// Plan and SubscriptionStatus are empty before an agreement is executed.
	Plan, SubscriptionStatus string
}

// Step is one step of provisioning.
type Step struct {
	Name       string
	State      string
	Attempt    int
	Reason     string
	StartedAt  *time.Time
	FinishedAt *time.Time
}

// maxPage is how many organizations a list has at most.
const maxPage = 500

// Filter selects organizations; its zero value selects all.
type Filter struct {
	// Search matches a part of the short or the legal name.
	Search string
	State  tenants.State
	// Before continues a list after the organization with this id.
	Before tenants.ID
	// Limit is 1 to 500; 0 means 100.
	Limit int
}

// List returns organizations, newest first. Operators only.
func (s *Service) List(ctx context.Context, a tenants.Actor, f Filter) ([]Organization, error) {
	if err := operator(a); err != nil {
		return nil, err
	}
	if f.Limit == 0 {
		f.Limit = 100
	}
	if f.Limit < 1 || f.Limit > maxPage {
		return nil, tenants.Invalid("query.limit", "must be 1 to 500")
	}
	return s.query(ctx, s.pool, f.params())
}

func (f Filter) params() store.FleetListParams {
	p := store.FleetListParams{Search: f.Search, State: string(f.State), Page: int32(f.Limit)}
	if !f.Before.IsZero() {
		p.BeforeID = &f.Before
	}
	return p
}

// Get returns one organization: to an operator any, to a member their own.
// Errors: KindForbidden, KindSecondFactor, KindNotFound.
func (s *Service) Get(ctx context.Context, a tenants.Actor, id tenants.ID) (Organization, error) {
	if err := s.see(ctx, a, id); err != nil {
		return Organization{}, err
	}
	list, err := s.query(ctx, s.pool, store.FleetListParams{OnlyID: &id, Page: 1})
	if err != nil {
		return Organization{}, err
	}
	if len(list) == 0 {
		return Organization{}, tenants.NotFound()
	}
	return list[0], nil
}

// Steps returns an organization's provisioning steps in their order; see Get.
func (s *Service) Steps(ctx context.Context, a tenants.Actor, id tenants.ID) ([]Step, error) {
	if err := s.see(ctx, a, id); err != nil {
		return nil, err
	}
	rows, err := store.New(s.pool).FleetSteps(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("reading provisioning steps: %w", err)
	}
	out := make([]Step, 0, len(rows))
	for _, r := range rows {
		out = append(out, Step{Name: r.Step, State: r.State, Attempt: int(r.Attempt), Reason: r.Reason,
			StartedAt: r.StartedAt, FinishedAt: r.FinishedAt})
	}
	return out, nil
}

func (s *Service) see(ctx context.Context, a tenants.Actor, id tenants.ID) error {
	if a.Kind == tenants.ActorOperator {
		return operator(a)
	}
	return member(ctx, store.New(s.pool), a, id, false)
}

func (s *Service) query(ctx context.Context, db store.DBTX, p store.FleetListParams) ([]Organization, error) {
	rows, err := store.New(db).FleetList(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("listing organizations: %w", err)
	}
	out := make([]Organization, 0, len(rows))
	for _, r := range rows {
		o := Organization{
			Organization: tenants.Organization{ID: r.ID, Slug: r.Slug, LegalName: r.LegalName,
				CareSetting: tenants.CareSetting(r.CareSetting), State: tenants.State(r.State), StateReason: r.StateReason,
				CreatedAt: r.CreatedAt},
			UpdatedAt: r.UpdatedAt, PlacementEpoch: r.PlacementEpoch, KeyAlive: r.KeyAlive,
			Gate:      tenants.Gate{Mode: tenants.GateMode(r.GateMode), Reason: tenants.GateReason(r.GateReason)},
			GateUntil: r.GateUntil, GateVersion: r.GateVersion, GateApplied: r.GateApplied,
			BAA:          tenants.BAA{ID: r.BaaID, OrganizationID: r.ID, State: tenants.BAAState(r.BaaState)},
			BAAExpiresAt: r.BaaExpiresAt, OwnerEmail: r.OwnerEmail, Plan: r.Plan, SubscriptionStatus: r.SubscriptionStatus,
		}
		if r.CellID != nil {
			o.CellID = *r.CellID
		}
		out = append(out, o)
	}
	return out, nil
}
