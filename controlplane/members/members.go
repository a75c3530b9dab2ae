// Package members enrols people: an account here, an identity in Kratos and the
// letter that invites them. It keeps what the data plane says of them since.
//
// It owns the account table's rows and the rule that an e-mail address has one
// account. It trusts its callers for who may invite, and the data plane for who is an
// owner or disabled. It never sets a password or
// a second factor for anybody, and a mailed code never leaves it but in a letter.
package members

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/caresphere/caresphere/controlplane/input"
	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/identity"
	"github.com/caresphere/caresphere/internal/mail"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/tenants"
)

// InvitationLifetime is how long an invitation's link and code are good. Later,
// the account's holder asks for a new code on the recovery page.
const InvitationLifetime = 48 * time.Hour

// timeout bounds an enrolment: the database and up to four calls of Kratos.
const timeout = 10 * time.Second

// Identities is what enrolment needs of Kratos.
type Identities interface {
	CreateIdentity(ctx context.Context, n identity.NewIdentity) (id tenants.ID, created bool, err error)
	Adopt(ctx context.Context, id tenants.ID, n identity.NewIdentity) error
	RecoveryCode(ctx context.Context, id tenants.ID, lifetime time.Duration) (code, flowID string, err error)
	Find(ctx context.Context, email string) (tenants.ID, error)
	Remove(ctx context.Context, id tenants.ID) error
	EndSessions(ctx context.Context, id tenants.ID) error
}

// Service enrols people. It is safe for concurrent use.
type Service struct {
	pool   *pgxpool.Pool
	ids    Identities
	origin string
}

// New returns a Service whose letters link to the public origin.
func New(pool *pgxpool.Pool, ids Identities, origin string) *Service {
	return &Service{pool: pool, ids: ids, origin: origin}
}

// Enrol makes the account of a person in the caller's transaction, with the
// identity and the letter, and sets a.IdentityID. registered is true, and nothing
// was made, when the address has an account already. An account of a sign-up that
// nobody confirmed is none: anybody can sign up with anybody's address, so it gives
// way, by whose request the actor tells.
//
// Kratos is not part of the transaction: when that fails afterwards, the identity
// stays without an account, and the next enrolment of the address adopts it. The
// lock on the address keeps two enrolments from adopting the same one.
func (s *Service) Enrol(ctx context.Context, tx pgx.Tx, by tenants.Actor, a *store.CreateAccountParams, slug, organization string, letter mail.Template) (registered bool, err error) {
	q := store.New(tx)
	if err := q.LockEmail(ctx, a.Email); err != nil {
		return false, fmt.Errorf("locking an address: %w", err)
	}
	switch have, err := q.LockAccountByEmail(ctx, a.Email); {
	case errors.Is(err, pgx.ErrNoRows):
	case err != nil:
		return false, fmt.Errorf("looking for an account: %w", err)
	case !have.GivesWay || have.OrganizationID == a.OrganizationID:
		return true, nil
	default:
		if err := s.giveWay(ctx, tx, by, have); err != nil {
			return false, err
		}
	}
	n := identity.NewIdentity{Email: a.Email, Name: a.Name, OrganizationID: a.OrganizationID, Slug: slug}
	id, created, err := s.ids.CreateIdentity(ctx, n)
	if err != nil {
		return false, err
	}
	if !created {
		if err := s.ids.Adopt(ctx, id, n); err != nil {
			return false, err
		}
	}
	a.IdentityID = id
	if err := q.CreateAccount(ctx, *a); err != nil {
		return false, fmt.Errorf("making an account: %w", err)
	}
	return false, s.invite(ctx, tx, *a, organization, letter)
}

func (s *Service) invite(ctx context.Context, tx pgx.Tx, a store.CreateAccountParams, organization string, letter mail.Template) error {
	code, flow, err := s.ids.RecoveryCode(ctx, a.IdentityID, InvitationLifetime)
	if err != nil {
		return err
	}
	m, err := mail.Write(letter, a.Email, mail.Data{Name: a.Name, Organization: organization,
		Link: s.origin + "/welcome?flow=" + flow, Code: code, Hours: int(InvitationLifetime.Hours())})
	if err != nil {
		return err
	}
	return insertMail(ctx, tx, m)
}

func insertMail(ctx context.Context, tx pgx.Tx, m mail.Message) error {
	err := store.New(tx).InsertMail(ctx, store.InsertMailParams{ID: m.ID, Recipient: m.To, Template: m.Template, Subject: m.Subject, Body: m.Body})
	if err != nil {
		return fmt.Errorf("putting a letter into the outbox: %w", err)
	}
	return nil
}

// Invite enrols a member of an organization for its data plane and returns the
// identity. Inviting the same address again returns the same identity, with a new
// letter if the first one was never used. Errors: KindInvalid names the field;
// KindNotFound for an organization that is not there or closed; KindConflict for
// an address that has an account elsewhere.
func (s *Service) Invite(ctx context.Context, organization tenants.ID, email, name, requestID string) (tenants.ID, error) {
	email, err := input.ParseEmail("body.email", email)
	if err != nil {
		return tenants.NilID, err
	}
	if name, err = input.ParseName("body.name", name, 100); err != nil {
		return tenants.NilID, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var id tenants.ID
	err = pg.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		q := store.New(tx)
		org, err := q.OnboardingOrganization(ctx, organization)
		if errors.Is(err, pgx.ErrNoRows) || err == nil && org.State == string(tenants.StateClosed) {
			return tenants.NotFound()
		}
		if err != nil {
			return fmt.Errorf("reading the organization: %w", err)
		}
		a := store.CreateAccountParams{OrganizationID: organization, Email: email, Name: name}
		by := tenants.Actor{Kind: tenants.ActorSystem, RequestID: requestID}
		registered, err := s.Enrol(ctx, tx, by, &a, org.Slug, org.LegalName, mail.MemberInvitation)
		if err != nil {
			return err
		}
		if registered {
			return s.inviteAgain(ctx, tx, organization, email, org.LegalName, &id)
		}
		id = a.IdentityID
		return audit.Insert(ctx, tx, by, audit.Event{
			Action: "account.invited", RecordType: "account", RecordID: id.String(), OrganizationID: organization})
	})
	return id, err
}

func (s *Service) inviteAgain(ctx context.Context, tx pgx.Tx, organization tenants.ID, email, legalName string, id *tenants.ID) error {
	have, err := store.New(tx).AccountByEmail(ctx, email)
	if err != nil {
		return fmt.Errorf("reading an account: %w", err)
	}
	if have.OrganizationID != organization || have.DisabledAt != nil {
		e := tenants.NewError(tenants.KindConflict, "this address cannot be invited")
		e.Fields = []tenants.FieldError{{Field: "body.email", Message: "cannot be invited: it has an account already"}}
		return e
	}
	*id = have.IdentityID
	if have.EmailVerifiedAt != nil {
		return nil
	}
	return s.invite(ctx, tx, store.CreateAccountParams{IdentityID: have.IdentityID, Email: have.Email, Name: have.Name}, legalName, mail.MemberInvitation)
}
