package baa

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/controlplane/acts"
	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/tenants"
)

const (
	// DefaultTermMonths is how long an agreement lasts unless another term is agreed.
	DefaultTermMonths = 36
	maxTermMonths     = 120
)

// Draft renders a new agreement of the owner's organization from the current
// template; termMonths 0 means the default. A draft of the same template and term
// is returned as it is; one of another is superseded, and so is a signed one of an
// old template, which nobody may countersign any more. Errors: KindForbidden,
// KindSecondFactor, KindInvalid (term), KindConflict if one that is signed waits
// for the countersignature, or the organization is closed.
func (s *Service) Draft(ctx context.Context, p Person, termMonths int) (Agreement, error) {
	if termMonths == 0 {
		termMonths = DefaultTermMonths
	}
	if termMonths < 1 || termMonths > maxTermMonths {
		return Agreement{}, tenants.Invalid("body.term_months", "must be 1 to "+strconv.Itoa(maxTermMonths))
	}
	var id tenants.ID
	ev := audit.Event{Action: "baa.draft", RecordType: "baa", OrganizationID: p.TenantID}
	err := acts.Do(ctx, s.Pool, p.Actor, ev, func(tx pgx.Tx, ev *audit.Event) error {
		q := store.New(tx)
		if _, err := owner(ctx, q, p); err != nil {
			return err
		}
		org, err := q.BAALockOrganization(ctx, p.TenantID)
		if errors.Is(err, pgx.ErrNoRows) {
			return tenants.NotFound()
		}
		if err != nil {
			return fmt.Errorf("locking the organization: %w", err)
		}
		if tenants.State(org.State) == tenants.StateClosed {
			return tenants.NewError(tenants.KindConflict, "the organization is closed")
		}
		now, err := s.Clock(ctx, tx)
		if err != nil {
			return err
		}
		if id, err = s.reuse(ctx, q, org.ID, termMonths, now); err != nil {
			return err
		}
		if id.IsZero() {
			if id, err = s.insertDraft(ctx, q, org, termMonths, now); err != nil {
				return err
			}
		}
		ev.RecordID = id.String()
		ev.Detail = map[string]string{"template": s.template.Version, "term_months": strconv.Itoa(termMonths)}
		return nil
	})
	if err != nil {
		return Agreement{}, err
	}
	return s.load(ctx, id)
}

// reuse returns the draft that already is what was asked for, and supersedes what
// waits on another template or with another term.
func (s *Service) reuse(ctx context.Context, q *store.Queries, organization tenants.ID, termMonths int, now time.Time) (tenants.ID, error) {
	waiting, err := q.BAALockUnfinished(ctx, organization)
	if err != nil {
		return tenants.NilID, fmt.Errorf("listing unfinished agreements: %w", err)
	}
	var same tenants.ID
	for _, w := range waiting {
		current := w.TemplateVersion == s.template.Version
		switch {
		case tenants.BAAState(w.State) == tenants.BAASigned && current:
			return tenants.NilID, tenants.NewError(tenants.KindConflict, "an agreement that you signed waits for the countersignature")
		case current && int(w.TermMonths) == termMonths && same.IsZero():
			same = w.ID
		default:
			reason := "replaced by a new draft"
			if err := end(ctx, q, w.ID, tenants.BAAState(w.State), tenants.BAASuperseded, reason, now); err != nil {
				return tenants.NilID, err
			}
		}
	}
	return same, nil
}

func (s *Service) insertDraft(ctx context.Context, q *store.Queries, org store.BAALockOrganizationRow, termMonths int, now time.Time) (tenants.ID, error) {
	id := tenants.NewID()
	document, err := s.template.Render(Terms{AgreementID: id, Customer: org.LegalName, Platform: s.Platform, TermMonths: termMonths})
	if err != nil {
		return id, err
	}
	hash := sha256.Sum256(document)
	err = q.BAAInsertDraft(ctx, store.BAAInsertDraftParams{ID: id, OrganizationID: org.ID, TemplateVersion: s.template.Version,
		Document: document, DocumentSha256: hash[:], TermMonths: int32(termMonths), CreatedAt: now})
	if err != nil {
		return id, fmt.Errorf("storing the draft: %w", err)
	}
	return id, nil
}
