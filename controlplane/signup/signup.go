// Package signup takes a new organization in: its name, its care setting, its
// first owner.
//
// It owns the rules of the sign-up form. Everything is made in one transaction
// with its audit entry and its letter, and nothing of it can act before its owner
// has used the mailed code; until then it gives way to another enrolment of the
// address, and it lapses. It never tells a stranger whether an address has an
// account: the answer, the slug it reserves and the time it takes are the same,
// and only the address' owner learns it, by letter.
package signup

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/caresphere/caresphere/controlplane/attempts"
	"github.com/caresphere/caresphere/controlplane/idempotency"
	"github.com/caresphere/caresphere/controlplane/session"
	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/mail"
	"github.com/caresphere/caresphere/internal/pause"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/tenants"
)

const (
	timeout = 10 * time.Second
	// floor is the least time that an answer takes, a refusal too; it covers the
	// difference between an address with an account and one without.
	floor = 400 * time.Millisecond
)

// Accounts enrols the first owner; see members.Service.
type Accounts interface {
	Release(ctx context.Context, tx pgx.Tx, by tenants.Actor, email, fingerprint string) error
	Enrol(ctx context.Context, tx pgx.Tx, by tenants.Actor, a *store.CreateAccountParams, slug, organization string, letter mail.Template) (registered bool, err error)
	Resemble(ctx context.Context, email string) error
}

// Limiter counts tries; see attempts.Counter.
type Limiter interface {
	Take(ctx context.Context, r attempts.Rule, subject string) error
	Fingerprint(value string) string
}

// Service takes sign-ups. It is safe for concurrent use.
type Service struct {
	pool     *pgxpool.Pool
	accounts Accounts
	limiter  Limiter
	rules    attempts.Rules
	lifetime time.Duration
	origin   string
}

// New returns a Service whose letters link to the public origin. A sign-up that nobody
// confirms lapses after the lifetime; see members.Lapse.
func New(pool *pgxpool.Pool, accounts Accounts, limiter Limiter, rules attempts.Rules, lifetime time.Duration, origin string) *Service {
	return &Service{pool: pool, accounts: accounts, limiter: limiter, rules: rules, lifetime: lifetime, origin: origin}
}

// Result is the answer to every sign-up that was taken, whether or not the
// address had an account.
type Result struct {
	OrganizationID tenants.ID `json:"organization_id"`
	Slug           string     `json:"slug"`
	Status         string     `json:"status"`
}

// StatusInvited is the one status of a sign-up: the rest is in the mailbox.
const StatusInvited = "invited"

// SignUp makes the pending organization and invites its first owner. Errors:
// KindInvalid names every wrong field; KindConflict names the slug when it is
// taken; KindRateLimited; KindIdempotencyMismatch; KindUnavailable.
func (s *Service) SignUp(ctx context.Context, r Request, idempotencyKey string, info session.Info) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r, err := r.Parse()
	if err != nil {
		return Result{}, err
	}
	repeat := idempotency.Request{Actor: "anonymous", Key: idempotencyKey, Operation: "sign-up", Body: r}
	if answer, found, err := idempotency.Earlier[Result](ctx, s.pool, repeat); err != nil || found {
		return answer, err
	}
	if err := s.limiter.Take(ctx, s.rules.SignUpIP, info.IP); err != nil {
		return Result{}, err
	}
	if err := s.limiter.Take(ctx, s.rules.SignUpEmail, r.Email); err != nil {
		return Result{}, err
	}
	began := time.Now()
	answer, err := s.take(ctx, r, repeat, info)
	_ = pause.For(ctx, floor-time.Since(began))
	return answer, err
}

// take tries further slugs when the proposed one is taken and was not asked for.
func (s *Service) take(ctx context.Context, r Request, repeat idempotency.Request, info session.Info) (Result, error) {
	const tries = 5
	slug := r.Slug
	if slug == "" {
		slug = tenants.SlugFrom(r.LegalName)
		if _, err := tenants.ParseSlug(slug); err != nil {
			slug = withSuffix(slug)
		}
	}
	for i := 0; ; i++ {
		answer, err := idempotency.Do(ctx, s.pool, repeat, func(tx pgx.Tx) (Result, error) { return s.make(ctx, tx, r, slug, info) })
		if !pg.IsUnique(err, "organization_slug") {
			return answer, err
		}
		if r.Slug != "" || i == tries {
			e := tenants.NewError(tenants.KindConflict, "the short name is taken")
			e.Fields = []tenants.FieldError{{Field: FieldSlug, Message: "is taken"}}
			return Result{}, e
		}
		slug = withSuffix(tenants.SlugFrom(r.LegalName))
	}
}

func (s *Service) make(ctx context.Context, tx pgx.Tx, r Request, slug string, info session.Info) (Result, error) {
	q := store.New(tx)
	org, by, address := tenants.NewID(), session.Anonymous(info), s.limiter.Fingerprint(r.Email)
	if err := s.accounts.Release(ctx, tx, by, r.Email, address); err != nil {
		return Result{}, err
	}
	// The slug first: whether it is taken must not depend on the address.
	err := q.CreateOrganization(ctx, store.CreateOrganizationParams{ID: org, Slug: slug, LegalName: r.LegalName,
		CareSetting: string(r.CareSetting), State: string(tenants.StatePending), LifetimeSeconds: s.lifetime.Seconds(), SignUpAddress: &address})
	if err != nil {
		return Result{}, fmt.Errorf("making an organization: %w", err)
	}
	a := store.CreateAccountParams{OrganizationID: org, Email: r.Email, Name: r.OwnerName, FirstOwner: true}
	registered, err := s.accounts.Enrol(ctx, tx, by, &a, slug, r.LegalName, mail.Invitation)
	if err != nil {
		return Result{}, err
	}
	ev := audit.Event{Action: "organization.sign_up", RecordType: "organization", RecordID: org.String(), OrganizationID: org,
		Detail: map[string]string{"care_setting": string(r.CareSetting), "slug": slug}}
	if registered {
		ev.Outcome = audit.OutcomeDenied
		ev.Detail["reason"] = "address_has_account"
		ev.Detail["address"] = address
		if err := s.accounts.Resemble(ctx, r.Email); err != nil {
			return Result{}, err
		}
		if err := s.refuseQuietly(ctx, tx, org, r.Email); err != nil {
			return Result{}, err
		}
	}
	if err := audit.Insert(ctx, tx, by, ev); err != nil {
		return Result{}, err
	}
	return Result{OrganizationID: org, Slug: slug, Status: StatusInvited}, nil
}

// refuseQuietly closes the organization that nobody will own. Its slug stays taken
// until it lapses, as it would have: a second sign-up with it must not tell the two apart.
func (s *Service) refuseQuietly(ctx context.Context, tx pgx.Tx, org tenants.ID, email string) error {
	q := store.New(tx)
	if err := q.CloseSignUp(ctx, store.CloseSignUpParams{ID: org, State: string(tenants.StateClosed), StateReason: "the address has an account"}); err != nil {
		return fmt.Errorf("closing an organization: %w", err)
	}
	m, err := mail.Write(mail.AlreadyRegistered, email, mail.Data{Link: s.origin + "/signin"})
	if err != nil {
		return err
	}
	err = q.InsertMail(ctx, store.InsertMailParams{ID: m.ID, Recipient: m.To, Template: m.Template, Subject: m.Subject, Body: m.Body})
	if err != nil {
		return fmt.Errorf("putting a letter into the outbox: %w", err)
	}
	return nil
}
