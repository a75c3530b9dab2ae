package provisioning

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/pause"
	"github.com/caresphere/caresphere/internal/probe"
	"github.com/caresphere/caresphere/tenants"

	"github.com/jackc/pgx/v5"
)

func (r *run) firstOwner(ctx context.Context) (store.ProvisionOwnerRow, error) {
	owner, err := r.p.q.ProvisionOwner(ctx, r.organization)
	if errors.Is(err, pgx.ErrNoRows) {
		return owner, final("the organization has no first owner")
	}
	return owner, wrap(err, "reading the first owner")
}

func routed(ctx context.Context, r *run) (bool, error) {
	if err := r.reload(ctx); err != nil {
		return false, err
	}
	return r.tenant.PlacementEpoch > 0, nil
}

// route publishes where the organization is. Its gate is open for the probe only.
func route(ctx context.Context, r *run) error {
	return r.control(ctx, func(tx pgx.Tx, q *store.Queries) error {
		if _, err := q.ProvisionEpoch(ctx, r.organization); err != nil {
			return fmt.Errorf("placing the route: %w", err)
		}
		return r.p.Gatekeeper.Decide(ctx, tx, r.organization)
	})
}

// probeTime is how long the route may take to reach routers and workers.
const (
	probeTime    = 30 * time.Second
	probePause   = 25 * time.Millisecond
	probeLongest = 250 * time.Millisecond
)

// sendProbe goes in by the front door, as any request of the tenant would, and is
// content only when the worker wrote, read back and removed a sealed row.
func sendProbe(ctx context.Context, r *run) error {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	// A route is everywhere within some 50 ms; a part that is away for longer is not
	// asked without end.
	wait := probePause
	var (
		answer int
		cause  error
	)
	for {
		status, err := r.p.probe(ctx, r.tenant.Slug, r.organization)
		switch {
		case err == nil && status/100 == 2:
			r.acted = StepProbe
			return nil
		case err == nil:
			answer = status
		default:
			cause = err
		}
		if pause.For(ctx, wait) != nil {
			if answer == 0 {
				return because("the public address does not answer; it is tried again", cause)
			}
			return because(fmt.Sprintf("the public address answers %d to the probe; it is tried again", answer), cause)
		}
		wait = min(2*wait, probeLongest)
	}
}

// probe sends one probe and returns the status of the answer.
func (p *Provisioner) probe(ctx context.Context, slug string, tenant tenants.ID) (int, error) {
	token, err := probe.Mint(p.ProbeSigner, tenant, p.Now())
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.PublicOrigin+"/t/"+slug+"/v1/probe", http.NoBody)
	if err != nil {
		return 0, fmt.Errorf("making the probe: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := p.client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("sending the probe: %w", err)
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<16))
	return res.StatusCode, nil
}

func live(ctx context.Context, r *run) (bool, error) {
	if err := r.reload(ctx); err != nil {
		return false, err
	}
	return r.tenant.State == string(tenants.StateLive), nil
}

// goLive is the last step: state, gate, route and audit entry in one transaction.
func goLive(ctx context.Context, r *run) error {
	if err := tenants.CheckMove(tenants.StateProvisioning, tenants.StateLive); err != nil {
		return err
	}
	if err := r.control(ctx, func(tx pgx.Tx, q *store.Queries) error {
		n, err := q.FleetMove(ctx, store.FleetMoveParams{ID: r.organization,
			OldState: string(tenants.StateProvisioning), NewState: string(tenants.StateLive)})
		if err != nil {
			return fmt.Errorf("moving the organization: %w", err)
		}
		if n == 0 {
			return because("the organization is no longer being provisioned", nil)
		}
		if err := r.p.Gatekeeper.Decide(ctx, tx, r.organization); err != nil {
			return err
		}
		if err := audit.Insert(ctx, tx, system(), audit.Event{Action: "organization.live", RecordType: "organization",
			RecordID: r.organization.String(), OrganizationID: r.organization}); err != nil {
			return err
		}
		// With the move: once the organization is live nobody takes its steps again.
		if err := kept(q.StepEnd(ctx, store.StepEndParams{OrganizationID: r.organization, Fence: r.fence, Step: StepLive, State: "done"})); err != nil {
			return err
		}
		return audit.Notify(ctx, tx, audit.ControlLog())
	}); err != nil {
		return err
	}
	return r.p.ApplyGate(ctx, r.organization)
}
