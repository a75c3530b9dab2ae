// Package billing keeps an organization's subscription: begun with its agreement,
// made at the payment provider while it is provisioned.
//
// It owns the subscription table. It trusts the provider for ids and status. It
// never stores a card, an amount or anything about patients, and a failure of the
// provider never takes an organization's data away.
package billing

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/caresphere/caresphere/controlplane/acts"
	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/payments"
	"github.com/caresphere/caresphere/tenants"
)

// Service begins and makes subscriptions.
type Service struct {
	pool     *pgxpool.Pool
	provider payments.Provider
}

// New returns a service over the pool.
func New(pool *pgxpool.Pool, provider payments.Provider) *Service {
	return &Service{pool: pool, provider: provider}
}

// StatusPending is a subscription that is not made at the provider yet.
const StatusPending = "pending"

// Start begins an organization's subscription in the caller's transaction. One
// that has begun already stays as it is.
func (s *Service) Start(ctx context.Context, tx pgx.Tx, organization tenants.ID) error {
	err := store.New(tx).SubscriptionStart(ctx, store.SubscriptionStartParams{OrganizationID: organization,
		Plan: s.provider.Plan(), Status: StatusPending})
	if err != nil {
		return fmt.Errorf("beginning a subscription: %w", err)
	}
	return nil
}

// Ensure makes the customer and the subscription at the provider and stores
// their ids, each as soon as it is known. Called again it goes on where it
// stopped; an active subscription is left alone, also if another process made it
// so meanwhile. Errors: KindNotFound if none was
// begun, KindUnavailable (try again), KindConflict (the provider refuses, or the
// plan needs a provider that this process has no key for).
func (s *Service) Ensure(ctx context.Context, organization tenants.ID) error {
	row, err := store.New(s.pool).SubscriptionGet(ctx, organization)
	if errors.Is(err, pgx.ErrNoRows) {
		return tenants.NotFound()
	}
	if err != nil {
		return fmt.Errorf("reading a subscription: %w", err)
	}
	if row.Status != StatusPending {
		return nil
	}
	provider := s.provider
	if row.Plan == payments.PlanManual {
		provider = payments.Manual{}
	}
	if provider.Plan() != row.Plan {
		return tenants.NewError(tenants.KindConflict, "the subscription's plan needs a payment provider's key")
	}
	payer := payments.Payer{OrganizationID: organization, Slug: row.Slug, LegalName: row.LegalName}
	customer := row.StripeCustomer
	if customer == nil {
		id, err := provider.Customer(ctx, payer)
		if err != nil {
			return err
		}
		if customer = optional(id); customer != nil {
			if err := s.set(ctx, organization, row.Plan, customer, nil, StatusPending, "subscription.customer"); err != nil {
				return unlessMade(err)
			}
			// Two processes at once: the customer that was stored first is the payer.
			if row, err = store.New(s.pool).SubscriptionGet(ctx, organization); err != nil {
				return fmt.Errorf("reading a subscription: %w", err)
			}
			customer = row.StripeCustomer
		}
	}
	sub, err := provider.Subscribe(ctx, payer, deref(customer))
	if err != nil {
		return err
	}
	return unlessMade(s.set(ctx, organization, row.Plan, customer, optional(sub.ID), sub.Status, "subscription.activate"))
}

// errMade means that the subscription is no longer pending: it was made meanwhile.
var errMade = errors.New("billing: the subscription is made")

func unlessMade(err error) error {
	if errors.Is(err, errMade) {
		return nil
	}
	return err
}

func (s *Service) set(ctx context.Context, organization tenants.ID, plan string, customer, subscription *string, status, action string) error {
	ev := audit.Event{Action: action, RecordType: "subscription", RecordID: organization.String(), OrganizationID: organization,
		Detail: map[string]string{"plan": plan, "status": status}}
	return acts.Do(ctx, s.pool, acts.System, ev, func(tx pgx.Tx, _ *audit.Event) error {
		n, err := store.New(tx).SubscriptionSet(ctx, store.SubscriptionSetParams{OrganizationID: organization, Plan: plan,
			StripeCustomer: customer, StripeSubscription: subscription, Status: status})
		if err != nil {
			return fmt.Errorf("storing a subscription: %w", err)
		}
		if n != 1 {
			return errMade
		}
		return nil
	})
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
