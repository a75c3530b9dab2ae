package provisioning

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/caresphere/caresphere/controlplane/jobs"
	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/tenants"

	"github.com/jackc/pgx/v5"
)

// step is one thing that must be there.
type step struct {
	name string
	// there looks whether the step's work is done, in the world and not in a record
	// of it, as far as it can be looked at.
	there func(context.Context, *run) (bool, error)
	// act does the work, or what is missing of it.
	act func(context.Context, *run) error
}

// run is one taking of the steps for one organization.
type run struct {
	*lease
	tenant store.ProvisionSubjectRow
	schema string
	role   string
	// acted is the step whose work was done in this run and cannot be looked at.
	acted string
	// login is a connection as the tenant's role, for the length of a step.
	login *tenantLogin
}

// stepWaiting is the recorded state of a step that nobody has begun.
const stepWaiting = "waiting"

// stepTime bounds one step.
const stepTime = 45 * time.Second

// Provision takes every step for the organization that is not done. It returns nil
// when the organization is live, when there is nothing to do for one in another state,
// and when its place is in another cell, whose provisioner was asked then. ErrBusy: another process is at it. ErrFenced: another process
// took over. A *Failure says why a step did not succeed; the same is recorded with
// the step. With last the organization is moved to provisioning_failed then.
func (p *Provisioner) Provision(ctx context.Context, organization tenants.ID, last bool) error {
	subject, err := p.q.ProvisionSubject(ctx, organization)
	if errors.Is(err, pgx.ErrNoRows) {
		return final("there is no such organization")
	}
	if err != nil {
		return fmt.Errorf("reading the organization: %w", err)
	}
	if tenants.State(subject.State) != tenants.StateProvisioning {
		return nil
	}
	if cell, other := p.elsewhere(subject.CellID); other {
		return p.handOver(ctx, jobs.Provision{OrganizationID: organization}, jobs.QueueProvision(cell))
	}
	ctx, l, drop, err := p.take(ctx, organization)
	if err != nil {
		return err
	}
	defer drop()
	r := &run{lease: l, tenant: subject, schema: tenants.SchemaName(organization), role: tenants.RoleName(organization)}
	if err := l.control(ctx, func(_ pgx.Tx, q *store.Queries) error {
		for i, s := range p.steps {
			if err := q.StepAdd(ctx, store.StepAddParams{OrganizationID: organization, Step: s.name, Position: int32(i)}); err != nil {
				return fmt.Errorf("recording the steps: %w", err)
			}
		}
		return nil
	}); err != nil {
		return err
	}
	for _, s := range p.steps {
		err := r.take(ctx, s)
		if errors.Is(err, errElsewhere) {
			return nil
		}
		if err != nil {
			return r.failed(ctx, s, err, last)
		}
	}
	return nil
}

// take looks, acts and looks again, and records how it went.
func (r *run) take(ctx context.Context, s step) error {
	ctx, cancel := context.WithTimeout(ctx, stepTime)
	defer cancel()
	defer r.logOut(ctx)
	if err := r.agreementInForce(ctx); err != nil {
		return err
	}
	recorded, err := r.p.q.StepState(ctx, store.StepStateParams{OrganizationID: r.organization, Step: s.name})
	if err != nil {
		return fmt.Errorf("reading the step: %w", err)
	}
	done := false
	if recorded != stepWaiting {
		// What nobody has begun is not there, and what acts does nothing twice: a first look
		// at a new organization would cost as much as the work.
		if done, err = s.there(ctx, r); err != nil {
			return err
		}
	}
	if done && recorded == "done" {
		return nil
	}
	if err := kept(r.p.q.StepBegin(ctx, store.StepBeginParams{OrganizationID: r.organization, Fence: r.fence, Step: s.name})); err != nil {
		return err
	}
	if !done {
		if err := s.act(ctx, r); err != nil {
			return err
		}
		if done, err = s.there(ctx, r); err != nil {
			return err
		}
		if !done {
			return because("the step ran and its result is not there", nil)
		}
	}
	return kept(r.p.q.StepEnd(ctx, store.StepEndParams{OrganizationID: r.organization, Fence: r.fence, Step: s.name, State: "done"}))
}

// kept reads how the record of a step went.
func kept(n int64, err error) error {
	if err != nil {
		return fmt.Errorf("recording the step: %w", err)
	}
	if n != 1 {
		return ErrFenced
	}
	return nil
}

var errNoAgreement = final("there is no business associate agreement in force")

// agreementInForce asks the control database, before every step, whether there is
// still an agreement: one may end while the steps run.
func (r *run) agreementInForce(ctx context.Context) error {
	there, err := r.p.q.AgreementInForce(ctx, r.organization)
	if err != nil {
		return fmt.Errorf("reading the agreement: %w", err)
	}
	if !there {
		return errNoAgreement
	}
	return nil
}

// failed records why a step did not succeed; with last, or when trying again is
// pointless, the organization stays failed until somebody asks for a retry.
func (r *run) failed(ctx context.Context, s step, cause error, last bool) error {
	if errors.Is(context.Cause(ctx), ErrFenced) || errors.Is(cause, ErrFenced) {
		return ErrFenced
	}
	reason := readable(cause)
	f := &Failure{Reason: s.name + ": " + reason, cause: cause}
	var known *Failure
	if errors.As(cause, &known) {
		f.Final = known.Final
	}
	// The record must be made even if what failed is the context's end.
	rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := r.control(rctx, func(tx pgx.Tx, q *store.Queries) error {
		// Whoever countersigns waits here, or is seen below.
		if _, err := q.FleetLock(rctx, r.organization); err != nil {
			return err
		}
		subject, err := q.ProvisionSubject(rctx, r.organization)
		if err != nil {
			return err
		}
		if tenants.State(subject.State) != tenants.StateProvisioning {
			// It went live, or elsewhere, before what failed: the gate's own job goes on
			// with what is left.
			return nil
		}
		if err := kept(q.StepEnd(rctx, store.StepEndParams{OrganizationID: r.organization, Fence: r.fence, Step: s.name, State: "failed", Reason: reason})); err != nil {
			return err
		}
		if errors.Is(cause, errNoAgreement) {
			// One that was countersigned meanwhile is not lost: the steps are taken again.
			there, err := q.AgreementInForce(rctx, r.organization)
			if err != nil {
				return err
			}
			if there {
				f.Final, last = false, false
			}
		}
		if !last && !f.Final {
			return nil
		}
		n, err := q.FleetMove(rctx, store.FleetMoveParams{ID: r.organization, Reason: f.Reason,
			OldState: string(tenants.StateProvisioning), NewState: string(tenants.StateProvisioningFailed)})
		if err != nil || n == 0 {
			return err
		}
		if err := r.p.Gatekeeper.Decide(rctx, tx, r.organization); err != nil {
			return err
		}
		if err := audit.Insert(rctx, tx, system(), audit.Event{Action: "organization.provisioning_failed", RecordType: "organization",
			RecordID: r.organization.String(), OrganizationID: r.organization, Outcome: audit.OutcomeFailed,
			Detail: map[string]string{"step": s.name, "reason": reason}}); err != nil {
			return err
		}
		return audit.Notify(rctx, tx, audit.ControlLog())
	})
	if err != nil {
		return errors.Join(f, fmt.Errorf("recording the failure: %w", err))
	}
	return f
}
