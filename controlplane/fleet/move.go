package fleet

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/controlplane/acts"
	"github.com/caresphere/caresphere/controlplane/jobs"
	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/tenants"
)

// Suspend closes an organization's gate. Operators only; the reason is shown to
// the organization. Errors: KindInvalid, KindForbidden, KindSecondFactor,
// KindNotFound, KindConflict if the lifecycle does not allow it.
func (s *Service) Suspend(ctx context.Context, a tenants.Actor, id tenants.ID, reason string) error {
	return s.move(ctx, a, id, "organization.suspend", tenants.StateSuspended, reason)
}

// ReadOnly refuses an organization's writes; see Suspend.
func (s *Service) ReadOnly(ctx context.Context, a tenants.Actor, id tenants.ID, reason string) error {
	return s.move(ctx, a, id, "organization.read_only", tenants.StateReadOnly, reason)
}

// Resume makes a suspended, read-only or quarantined organization live again; see
// Suspend. KindConflict as long as its newest isolation proof is not green: a
// quarantined one needs a proof made since.
func (s *Service) Resume(ctx context.Context, a tenants.Actor, id tenants.ID, reason string) error {
	return s.move(ctx, a, id, "organization.resume", tenants.StateLive, reason)
}

func (s *Service) move(ctx context.Context, a tenants.Actor, id tenants.ID, action string, to tenants.State, reason string) error {
	reason = strings.TrimSpace(reason)
	if err := checkReason(reason); err != nil {
		return err
	}
	ev := audit.Event{Action: action, RecordType: "organization", RecordID: id.String(), OrganizationID: id}
	return acts.Do(ctx, s.pool, a, ev, func(tx pgx.Tx, ev *audit.Event) error {
		if err := operator(a); err != nil {
			return err
		}
		org, err := locked(ctx, tx, id)
		if err != nil {
			return err
		}
		from := tenants.State(org.State)
		if to == tenants.StateLive && from != tenants.StateSuspended && from != tenants.StateReadOnly && from != tenants.StateQuarantined {
			return tenants.NewError(tenants.KindConflict, "only an organization that is suspended, read-only or quarantined can be resumed")
		}
		if to != tenants.StateSuspended {
			if err := proven(ctx, tx, id, from); err != nil {
				return err
			}
		}
		kept := reason
		if to == tenants.StateLive {
			kept = ""
		}
		ev.Detail = map[string]string{"from": org.State, "to": string(to), "reason": reason}
		if err := s.set(ctx, tx, org, to, kept); err != nil {
			return err
		}
		if from == tenants.StateQuarantined && to == tenants.StateLive {
			return s.proveAgain(ctx, tx, org)
		}
		return nil
	})
}

// proveAgain asks for a proof of an organization that is released: behind its
// closed gate only the refusals could be tried.
func (s *Service) proveAgain(ctx context.Context, tx pgx.Tx, org store.FleetLockRow) error {
	if org.CellID == nil {
		return nil
	}
	run := store.IsolationAskParams{ID: tenants.NewID(), Kind: "proof", CellID: *org.CellID, OrganizationID: &org.ID, AskedBy: "release"}
	if err := store.New(tx).IsolationAsk(ctx, run); err != nil {
		return fmt.Errorf("asking for a proof: %w", err)
	}
	if _, err := s.jobs.InsertTx(ctx, tx, jobs.Isolation{RunID: run.ID, Cell: run.CellID}, nil); err != nil {
		return fmt.Errorf("asking for a proof: %w", err)
	}
	return nil
}

// proven refuses to open the gate of an organization whose newest isolation proof
// failed: not by way of being suspended in between either.
func proven(ctx context.Context, tx pgx.Tx, id tenants.ID, from tenants.State) error {
	q := store.New(tx)
	sound, err := q.IsolationClear(ctx, id)
	if err != nil {
		return fmt.Errorf("reading the isolation proofs: %w", err)
	}
	newest, err := q.IsolationNewest(ctx, id)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("reading the isolation proof: %w", err)
	}
	if sound && (newest.Verdict == "proven" || from != tenants.StateQuarantined) {
		return nil
	}
	return tenants.NewError(tenants.KindConflict, "its isolation is not proven: repair it and prove it again first")
}

// Retry sends an organization whose provisioning failed on its way again: by an
// operator, or by an owner of the organization. Errors: KindForbidden,
// KindSecondFactor, KindNotFound, KindConflict if it did not fail.
func (s *Service) Retry(ctx context.Context, a tenants.Actor, id tenants.ID) error {
	ev := audit.Event{Action: "provisioning.retry", RecordType: "organization", RecordID: id.String(), OrganizationID: id}
	return acts.Do(ctx, s.pool, a, ev, func(tx pgx.Tx, _ *audit.Event) error {
		allowed := operator(a)
		if a.Kind != tenants.ActorOperator {
			allowed = member(ctx, store.New(tx), a, id, true)
		}
		if allowed != nil {
			return allowed
		}
		org, err := locked(ctx, tx, id)
		if err != nil {
			return err
		}
		if tenants.State(org.State) != tenants.StateProvisioningFailed {
			return tenants.NewError(tenants.KindConflict, "provisioning has not failed: there is nothing to retry")
		}
		if err := s.set(ctx, tx, org, tenants.StateProvisioning, ""); err != nil {
			return err
		}
		if _, err := s.jobs.InsertTx(ctx, tx, jobs.Provision{OrganizationID: id}, nil); err != nil {
			return fmt.Errorf("asking for provisioning: %w", err)
		}
		return nil
	})
}

func locked(ctx context.Context, tx pgx.Tx, id tenants.ID) (store.FleetLockRow, error) {
	org, err := store.New(tx).FleetLock(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return org, tenants.NotFound()
	}
	if err != nil {
		return org, fmt.Errorf("locking the organization: %w", err)
	}
	return org, nil
}

// set moves the locked organization by the one table of legal moves and has the
// gate decided anew.
func (s *Service) set(ctx context.Context, tx pgx.Tx, org store.FleetLockRow, to tenants.State, reason string) error {
	if err := tenants.CheckMove(tenants.State(org.State), to); err != nil {
		return err
	}
	n, err := store.New(tx).FleetMove(ctx, store.FleetMoveParams{ID: org.ID, OldState: org.State, NewState: string(to), Reason: reason})
	if err != nil {
		return fmt.Errorf("moving the organization: %w", err)
	}
	if n != 1 {
		return tenants.NewError(tenants.KindConflict, "somebody else was first")
	}
	return s.gate.Decide(ctx, tx, org.ID)
}

func checkReason(s string) error {
	n := utf8.RuneCountInString(s)
	if !utf8.ValidString(s) || n < 3 || n > 500 {
		return tenants.Invalid("body.reason", "must be 3 to 500 characters")
	}
	for _, r := range s {
		if r != ' ' && !unicode.IsPrint(r) {
			return tenants.Invalid("body.reason", "must be one line of printable characters")
		}
	}
	return nil
}
