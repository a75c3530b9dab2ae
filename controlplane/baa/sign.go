package baa

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/controlplane/acts"
	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/evidence"
	"github.com/caresphere/caresphere/tenants"
)

// Declaration is what a signer types and ticks.
type Declaration struct {
	Name, Title string
	// Authority is the customer's statement; an operator's is the template's.
	Authority       string
	Consent, Intent bool
	// DocumentSHA256 is the hash of the text that the signer read. An operator must
	// give it; a customer may.
	DocumentSHA256 string
}

func (d Declaration) check(withAuthority bool) error {
	if err := checkLine("body.name", d.Name, 2, 200); err != nil {
		return err
	}
	if err := checkLine("body.title", d.Title, 2, 200); err != nil {
		return err
	}
	if withAuthority {
		if err := checkLine("body.authority", d.Authority, 2, 500); err != nil {
			return err
		}
	}
	if !d.Consent {
		return tenants.Invalid("body.consent", "must be true: the agreement is signed electronically")
	}
	if !d.Intent {
		return tenants.Invalid("body.intent", "must be true: nobody signs without meaning to")
	}
	return nil
}

// Sign records the owner's signature of a draft and seals it. Errors: KindInvalid
// naming what the declaration lacks, KindForbidden for a member who is no owner,
// KindSecondFactor, KindNotFound, KindConflict if the agreement is not a draft, is
// of a superseded template, or is not the text that was read.
func (s *Service) Sign(ctx context.Context, p Person, id tenants.ID, d Declaration) (Agreement, error) {
	if err := d.check(true); err != nil {
		return Agreement{}, err
	}
	ev := audit.Event{Action: "baa.sign", RecordType: "baa", RecordID: id.String(), OrganizationID: p.TenantID}
	err := acts.Do(ctx, s.Pool, p.Actor, ev, func(tx pgx.Tx, ev *audit.Event) error {
		q := store.New(tx)
		if err := party(ctx, q, p, p.TenantID); err != nil {
			return err
		}
		org, row, err := lock(ctx, q, id)
		if err != nil {
			return err
		}
		if err := party(ctx, q, p, org.ID); err != nil {
			return err
		}
		if p.Kind != tenants.ActorMember {
			return tenants.NewError(tenants.KindForbidden, "an operator does not sign for the customer")
		}
		if err := s.readyToSign(row, tenants.BAASigned, d, false); err != nil {
			return err
		}
		now, err := s.Clock(ctx, tx)
		if err != nil {
			return err
		}
		now = now.Truncate(time.Microsecond)
		sealed, err := s.seal(p, row, d, evidence.PartyCustomer, s.template.Customer, "", now)
		if err != nil {
			return err
		}
		n, err := q.BAASetSigned(ctx, store.BAASetSignedParams{ID: id, CustomerEvidence: sealed, SignedAt: &now})
		if err := changedOne(n, err, "storing the signature"); err != nil {
			return err
		}
		ev.Detail = map[string]string{"template": row.TemplateVersion, "document_sha256": hex.EncodeToString(row.DocumentSha256)}
		return nil
	})
	if err != nil {
		return Agreement{}, err
	}
	return s.load(ctx, id)
}

// readyToSign checks that the agreement may take this signature: its state, its
// template, and that the signer read this very text.
func (s *Service) readyToSign(row store.BAALockRow, to tenants.BAAState, d Declaration, hashRequired bool) error {
	if err := tenants.CheckBAAMove(tenants.BAAState(row.State), to); err != nil {
		return err
	}
	if row.TemplateVersion != s.template.Version {
		return tenants.NewError(tenants.KindConflict, "the agreement is of a superseded template: make a new draft")
	}
	if d.DocumentSHA256 == "" && !hashRequired {
		return nil
	}
	if d.DocumentSHA256 != hex.EncodeToString(row.DocumentSha256) {
		return tenants.NewError(tenants.KindConflict, "this is not the text that you read: read it again")
	}
	return nil
}

func (s *Service) seal(p Person, row store.BAALockRow, d Declaration, party string, affirmed Statements, countersigns string, now time.Time) ([]byte, error) {
	authority := d.Authority
	if affirmed.Authority != "" {
		authority = affirmed.Authority
	}
	sealed, err := evidence.Seal(evidence.Signature{
		Party: party, AgreementID: row.ID, OrganizationID: row.OrganizationID, TemplateVersion: row.TemplateVersion,
		DocumentSHA256: hex.EncodeToString(row.DocumentSha256), CountersignsSHA256: countersigns,
		Signer:  evidence.Signer{IdentityID: p.ID, Email: p.Email, Name: d.Name, Title: d.Title, Authority: authority},
		Consent: evidence.Statement{Affirmed: d.Consent, Text: affirmed.Consent},
		Intent:  evidence.Statement{Affirmed: d.Intent, Text: affirmed.Intent},
		Authentication: evidence.Authentication{SessionID: p.SessionID, Methods: p.Methods,
			SessionIssuedAt: p.SessionIssuedAt, AuthenticatedAt: p.SignedInAt, SecondFactorAt: p.SecondFactorAt},
		IP: audit.Clean(p.IP, 64), UserAgent: audit.Clean(p.Device, 200), RequestID: audit.Clean(p.RequestID, 128), SignedAt: now,
	}, s.Signer)
	if err != nil {
		return nil, fmt.Errorf("sealing the %s's signature: %w", party, err)
	}
	return sealed, nil
}

// changedOne turns an update that met no row into an error: under the locks that
// are held it cannot happen, and if it does nothing may be committed.
func changedOne(n int64, err error, doing string) error {
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if n != 1 {
		return tenants.NewError(tenants.KindConflict, "somebody else was first")
	}
	return nil
}
