package provisioning

import (
	"context"
	"errors"
	"fmt"

	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/blob"
	"github.com/caresphere/caresphere/internal/kms/driver"
	"github.com/caresphere/caresphere/tenants"

	"github.com/jackc/pgx/v5"
)

// The names of the steps, as customers and operators see them.
const (
	StepPlacement  = "placement"
	StepSchema     = "schema"
	StepRole       = "role"
	StepTables     = "tables"
	StepIsolation  = "isolation"
	StepKey        = "key"
	StepCredential = "credential"
	StepOwner      = "owner"
	StepStorage    = "storage"
	StepBilling    = "billing"
	StepRoute      = "route"
	StepProbe      = "probe"
	StepLive       = "live"
)

// declare returns the steps in their order. What a step needs, an earlier one made.
func (p *Provisioner) declare() []step {
	return []step{
		{StepPlacement, placed, place},
		{StepSchema, schemaThere, makeSchema},
		{StepRole, roleThere, makeRole},
		{StepTables, tablesThere, makeTables},
		{StepIsolation, isolationHolds, isolationBroken},
		{StepKey, keyAlive, makeKey},
		{StepCredential, credentialHolds, makeCredential},
		{StepOwner, ownerThere, makeOwner},
		{StepStorage, prefixThere, makePrefix},
		{StepBilling, recorded(StepBilling), startBilling},
		{StepRoute, routed, route},
		{StepProbe, recorded(StepProbe), sendProbe},
		{StepLive, live, goLive},
	}
}

// Steps returns the names of the steps in their order.
func Steps() []string {
	var p *Provisioner
	names := make([]string, 0, 16)
	for _, s := range p.declare() {
		names = append(names, s.name)
	}
	return names
}

// recorded is the look of a step whose work cannot be looked at from here except
// by doing it again: within one run, having done it is all that is known.
func recorded(name string) func(context.Context, *run) (bool, error) {
	return func(ctx context.Context, r *run) (bool, error) {
		if r.acted == name {
			return true, nil
		}
		state, err := r.p.q.StepState(ctx, store.StepStateParams{OrganizationID: r.organization, Step: name})
		if err != nil {
			return false, fmt.Errorf("reading the step: %w", err)
		}
		return state == "done", nil
	}
}

func (r *run) reload(ctx context.Context) error {
	t, err := r.p.q.ProvisionSubject(ctx, r.organization)
	if err != nil {
		return fmt.Errorf("reading the organization: %w", err)
	}
	r.tenant = t
	return nil
}

func placed(ctx context.Context, r *run) (bool, error) {
	if err := r.reload(ctx); err != nil {
		return false, err
	}
	return r.tenant.CellID != nil && *r.tenant.CellID == r.p.CellID, nil
}

// place puts the organization where the fewest are. Each cell has a provisioner of
// its own: one that finds itself not chosen leaves the rest to the other.
func place(ctx context.Context, r *run) error {
	if err := r.settle(ctx); err != nil {
		return err
	}
	if err := r.reload(ctx); err != nil {
		return err
	}
	if _, other := r.p.elsewhere(r.tenant.CellID); other {
		return errElsewhere
	}
	return nil
}

func keyAlive(ctx context.Context, r *run) (bool, error) {
	if err := r.reload(ctx); err != nil {
		return false, err
	}
	if !r.tenant.KeyAlive || r.tenant.GateMode == string(tenants.GateClosed) || r.tenant.GateApplied < r.tenant.GateVersion {
		return false, nil
	}
	s, err := r.p.Keys.Status(ctx, driver.KeyName(r.organization))
	if err != nil {
		return false, fmt.Errorf("looking at the key: %w", err)
	}
	return s.State == driver.StateAlive, nil
}

// makeKey makes the tenant's key and opens the gate for the probe alone: from here
// on the tenant's role may log in, and no public request is served.
func makeKey(ctx context.Context, r *run) error {
	if err := r.p.Keys.Ensure(ctx, driver.KeyName(r.organization)); err != nil {
		return fmt.Errorf("making the key: %w", err)
	}
	if err := r.control(ctx, func(tx pgx.Tx, q *store.Queries) error {
		if err := q.ProvisionKeyAlive(ctx, store.ProvisionKeyAliveParams{ID: r.organization, KeyAlive: true}); err != nil {
			return fmt.Errorf("recording the key: %w", err)
		}
		return r.p.Gatekeeper.Decide(ctx, tx, r.organization)
	}); err != nil {
		return err
	}
	return r.p.ApplyGate(ctx, r.organization)
}

// Prefix is where a tenant's objects lie in the object store.
func Prefix(tenant tenants.ID) string { return "t/" + tenant.Hex() + "/" }

func prefixThere(ctx context.Context, r *run) (bool, error) {
	marker, err := r.p.Objects.Get(ctx, Prefix(r.organization)+blob.Marker)
	if errors.Is(err, blob.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, because("the object store does not answer; it is tried again", err)
	}
	_ = marker.Close()
	return true, nil
}

func makePrefix(ctx context.Context, r *run) error {
	if err := r.p.Objects.EnsurePrefix(ctx, Prefix(r.organization)); err != nil {
		return because("the object store does not take the organization's prefix; it is tried again", err)
	}
	return nil
}

func startBilling(ctx context.Context, r *run) error {
	if r.p.Billing != nil {
		if err := r.p.Billing.Ensure(ctx, r.organization); err != nil {
			return because("the billing service does not take the organization; it is tried again", err)
		}
	}
	r.acted = StepBilling
	return nil
}
