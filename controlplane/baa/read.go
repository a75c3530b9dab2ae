package baa

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/controlplane/acts"
	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/evidence"
	"github.com/caresphere/caresphere/tenants"
)

// Get returns an agreement to an owner of its organization or to an operator, and
// records that it was read. Errors: KindForbidden, KindSecondFactor, KindNotFound.
func (s *Service) Get(ctx context.Context, p Person, id tenants.ID) (Agreement, error) {
	_, err := s.opened(ctx, p, id, "baa.read")
	if err != nil {
		return Agreement{}, err
	}
	return s.load(ctx, id)
}

// Current returns the organization's agreement that matters: the one that waits
// for a signature, else the one in force, else the newest. Errors as for Get,
// KindNotFound if there is none yet.
func (s *Service) Current(ctx context.Context, p Person) (Agreement, error) {
	list, err := s.List(ctx, p, p.TenantID)
	if err != nil {
		return Agreement{}, err
	}
	for _, want := range [][]tenants.BAAState{{tenants.BAADraft, tenants.BAASigned}, {tenants.BAAExecuted}, tenants.BAAStates()} {
		for _, a := range list {
			for _, state := range want {
				if a.State == state {
					return s.Get(ctx, p, a.ID)
				}
			}
		}
	}
	return Agreement{}, tenants.NotFound()
}

// List returns an organization's agreements, newest first, without their texts
// and signatures. Errors as for Get.
func (s *Service) List(ctx context.Context, p Person, organization tenants.ID) ([]Agreement, error) {
	q := store.New(s.Pool)
	if err := party(ctx, q, p, organization); err != nil {
		return nil, err
	}
	rows, err := q.BAAListByOrganization(ctx, organization)
	if err != nil {
		return nil, fmt.Errorf("listing agreements: %w", err)
	}
	out := make([]Agreement, 0, len(rows))
	for _, r := range rows {
		out = append(out, Agreement{ID: r.ID, OrganizationID: r.OrganizationID, State: tenants.BAAState(r.State),
			TemplateVersion: r.TemplateVersion, Current: r.TemplateVersion == s.template.Version,
			DocumentSHA256: hex.EncodeToString(r.DocumentSha256), TermMonths: int(r.TermMonths), CreatedAt: r.CreatedAt,
			SignedAt: r.SignedAt, ExecutedAt: r.ExecutedAt, ExpiresAt: r.ExpiresAt, EndedAt: r.EndedAt, EndedReason: r.EndedReason})
	}
	return out, nil
}

// PDF returns the executed agreement as PDF; Bundle its evidence bundle. Both are
// recorded as a download. KindNotFound also if the agreement was never executed.
func (s *Service) PDF(ctx context.Context, p Person, id tenants.ID) ([]byte, error) {
	row, err := s.opened(ctx, p, id, "baa.pdf")
	return row.Pdf, err
}

// Bundle returns the evidence bundle; see PDF.
func (s *Service) Bundle(ctx context.Context, p Person, id tenants.ID) ([]byte, error) {
	row, err := s.opened(ctx, p, id, "baa.bundle")
	return row.Bundle, err
}

// opened authorizes and records the reading of an agreement, or of its files.
func (s *Service) opened(ctx context.Context, p Person, id tenants.ID, action string) (store.BAAFileRow, error) {
	var row store.BAAFileRow
	ev := audit.Event{Action: action, RecordType: "baa", RecordID: id.String(), OrganizationID: p.TenantID}
	err := acts.Do(ctx, s.Pool, p.Actor, ev, func(tx pgx.Tx, ev *audit.Event) error {
		q := store.New(tx)
		// First whether this person acts on agreements at all, then whether on this one.
		if err := party(ctx, q, p, p.TenantID); err != nil {
			return err
		}
		var err error
		row, err = q.BAAFile(ctx, id)
		if errors.Is(err, pgx.ErrNoRows) {
			return tenants.NotFound()
		}
		if err != nil {
			return fmt.Errorf("reading the agreement: %w", err)
		}
		if err := party(ctx, q, p, row.OrganizationID); err != nil {
			return err
		}
		if action != "baa.read" && row.Bundle == nil {
			return tenants.NotFound()
		}
		ev.OrganizationID = row.OrganizationID
		return nil
	})
	if err != nil {
		return store.BAAFileRow{}, err
	}
	return row, nil
}

// load reads an agreement whole; the caller has authorized it.
func (s *Service) load(ctx context.Context, id tenants.ID) (Agreement, error) {
	r, err := store.New(s.Pool).BAAGet(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return Agreement{}, tenants.NotFound()
	}
	if err != nil {
		return Agreement{}, fmt.Errorf("reading the agreement: %w", err)
	}
	a := Agreement{ID: r.ID, OrganizationID: r.OrganizationID, State: tenants.BAAState(r.State),
		TemplateVersion: r.TemplateVersion, Current: r.TemplateVersion == s.template.Version, Document: r.Document,
		DocumentSHA256: hex.EncodeToString(r.DocumentSha256), TermMonths: int(r.TermMonths), CreatedAt: r.CreatedAt,
		SignedAt: r.SignedAt, ExecutedAt: r.ExecutedAt, ExpiresAt: r.ExpiresAt, EndedAt: r.EndedAt, EndedReason: r.EndedReason}
	for _, e := range []struct {
		sealed []byte
		to     **evidence.Signature
	}{{r.CustomerEvidence, &a.Customer}, {r.OperatorEvidence, &a.Operator}} {
		if e.sealed == nil {
			continue
		}
		sig, err := evidence.Unseal(e.sealed, s.verifier)
		if err != nil {
			return Agreement{}, tenants.WrapError(tenants.KindIntegrity, "a stored signature does not verify", err)
		}
		*e.to = &sig
	}
	return a, nil
}
