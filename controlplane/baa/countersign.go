package baa

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/controlplane/acts"
	"github.com/caresphere/caresphere/controlplane/jobs"
	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/evidence"
	"github.com/caresphere/caresphere/tenants"
)

// Countersign records an operator's signature and puts the agreement in force. In
// one transaction: both signatures, PDF and bundle, the agreement before it
// superseded, the organization on its way to provisioning, its subscription, the
// gate decided anew, the job, and the audit row. Errors: KindInvalid,
// KindForbidden, KindSecondFactor, KindNotFound, KindConflict (not signed, another
// text than the one read, a superseded template, a closed organization),
// KindIntegrity if the stored signature of the customer does not verify.
func (s *Service) Countersign(ctx context.Context, p Person, id tenants.ID, d Declaration) (Agreement, error) {
	if err := d.check(false); err != nil {
		return Agreement{}, err
	}
	if d.DocumentSHA256 == "" {
		return Agreement{}, tenants.Invalid("body.document_sha256", "must be the hash of the text that was read")
	}
	ev := audit.Event{Action: "baa.countersign", RecordType: "baa", RecordID: id.String()}
	err := acts.Do(ctx, s.Pool, p.Actor, ev, func(tx pgx.Tx, ev *audit.Event) error {
		if err := p.operator(); err != nil {
			return err
		}
		q := store.New(tx)
		org, row, err := lock(ctx, q, id)
		if err != nil {
			return err
		}
		ev.OrganizationID = org.ID
		if tenants.State(org.State) == tenants.StateClosed {
			return tenants.NewError(tenants.KindConflict, "the organization is closed")
		}
		if err := s.readyToSign(row, tenants.BAAExecuted, d, true); err != nil {
			return err
		}
		now, err := s.Clock(ctx, tx)
		if err != nil {
			return err
		}
		if err := s.execute(ctx, q, p, org, row, d, now.Truncate(time.Microsecond)); err != nil {
			return err
		}
		ev.Detail = map[string]string{"template": row.TemplateVersion, "document_sha256": d.DocumentSHA256}
		return s.follow(ctx, tx, org)
	})
	if err != nil {
		return Agreement{}, err
	}
	return s.load(ctx, id)
}

// execute makes the proofs and stores them with the new state.
func (s *Service) execute(ctx context.Context, q *store.Queries, p Person, org store.BAALockOrganizationRow, row store.BAALockRow, d Declaration, now time.Time) error {
	customer, err := evidence.Unseal(row.CustomerEvidence, s.verifier)
	if err != nil {
		return tenants.WrapError(tenants.KindIntegrity, "the customer's stored signature does not verify", err)
	}
	expires := now.AddDate(0, int(row.TermMonths), 0)
	sealed, err := s.seal(p, row, d, evidence.PartyOperator, s.template.Operator, evidence.Hash(row.CustomerEvidence), now)
	if err != nil {
		return err
	}
	operator, err := evidence.Unseal(sealed, s.verifier)
	if err != nil {
		return fmt.Errorf("reading the operator's signature again: %w", err)
	}
	pdf, err := renderPDF(row.Document, customer, operator, expires)
	if err != nil {
		return err
	}
	bundle, err := evidence.Build(evidence.Agreement{AgreementID: row.ID, OrganizationID: org.ID, LegalName: org.LegalName,
		TemplateVersion: row.TemplateVersion, ExecutedAt: now, ExpiresAt: expires,
		Document: row.Document, PDF: pdf, Customer: row.CustomerEvidence, Operator: sealed}, s.Signer, s.Verifier)
	if err != nil {
		return tenants.WrapError(tenants.KindIntegrity, "the stored agreement does not verify", err)
	}
	older, err := q.BAALockExecuted(ctx, store.BAALockExecutedParams{OrganizationID: org.ID, ExceptID: row.ID})
	if err != nil {
		return fmt.Errorf("finding the agreement before: %w", err)
	}
	for _, o := range older {
		if err := end(ctx, q, o.ID, tenants.BAAExecuted, tenants.BAASuperseded, "replaced by agreement "+row.ID.String(), now); err != nil {
			return err
		}
	}
	n, err := q.BAASetExecuted(ctx, store.BAASetExecutedParams{ID: row.ID, OperatorEvidence: sealed, Pdf: pdf, Bundle: bundle,
		ExecutedAt: &now, ExpiresAt: &expires})
	return changedOne(n, err, "storing the executed agreement")
}

// follow does what an agreement in force brings with it. An organization that has
// no place yet is sent to be provisioned; one that has its place only gets its
// gate decided anew.
func (s *Service) follow(ctx context.Context, tx pgx.Tx, org store.BAALockOrganizationRow) error {
	state := tenants.State(org.State)
	switch state {
	case tenants.StatePending, tenants.StateProvisioningFailed:
		if err := tenants.CheckMove(state, tenants.StateProvisioning); err != nil {
			return err
		}
		n, err := store.New(tx).BAAMoveOrganization(ctx, store.BAAMoveOrganizationParams{ID: org.ID,
			OldState: org.State, NewState: string(tenants.StateProvisioning)})
		if err := changedOne(n, err, "moving the organization"); err != nil {
			return err
		}
		fallthrough
	case tenants.StateProvisioning:
		// A job that gave up when an earlier agreement ended does not come back by itself.
		if _, err := s.Jobs.InsertTx(ctx, tx, jobs.Provision{OrganizationID: org.ID}, nil); err != nil {
			return fmt.Errorf("asking for provisioning: %w", err)
		}
	}
	if err := s.Subscriptions.Start(ctx, tx, org.ID); err != nil {
		return fmt.Errorf("starting the subscription: %w", err)
	}
	if err := s.Gate.Decide(ctx, tx, org.ID); err != nil {
		return fmt.Errorf("deciding the gate: %w", err)
	}
	return nil
}
