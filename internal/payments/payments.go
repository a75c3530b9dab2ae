// Package payments is the adapter to the payment provider: it makes a customer and
// a subscription for an organization, and nothing twice.
//
// It owns the provider's protocol, its deadlines and what is sent. It trusts the
// answer of the provider for ids and status only. It sends the organization's id,
// short name and legal name, and never anything about patients, members or use;
// a HIPAA business associate agreement with the provider is not needed for that.
// Without a key the manual plan serves: invoices are written by people.
package payments

import (
	"context"
	"crypto/tls"

	"github.com/caresphere/caresphere/tenants"
)

// The plans.
const (
	PlanManual = "manual"
	PlanStripe = "stripe"
)

// Payer is the organization that pays.
type Payer struct {
	OrganizationID tenants.ID
	Slug           string
	LegalName      string
}

// Subscription is what the provider has for a payer. The ids are empty for the
// manual plan.
type Subscription struct {
	ID     string
	Status string
}

// Provider makes customers and subscriptions. Both calls are idempotent by
// organization: called again after a crash they return what the first call made.
// Errors are KindUnavailable (try again) or KindConflict (the provider refuses, or
// is not set up; trying again does not help).
type Provider interface {
	// Plan is what the subscription row says: PlanManual or PlanStripe.
	Plan() string
	// Customer returns the payer's customer id.
	Customer(ctx context.Context, p Payer) (string, error)
	// Subscribe returns the payer's subscription.
	Subscribe(ctx context.Context, p Payer, customer string) (Subscription, error)
}

// Config selects the provider.
type Config struct {
	// StripeKey is the secret key; empty selects the manual plan.
	StripeKey string
	// StripeURL replaces https://api.stripe.com, for tests and mocks.
	StripeURL string
	// TLS verifies a StripeURL with a certificate of its own authority; nil uses the
	// system's roots.
	TLS *tls.Config
}

// Open returns Stripe if there is a key, else the manual plan.
func Open(c Config) (Provider, error) {
	if c.StripeKey == "" {
		return Manual{}, nil
	}
	return NewStripe(c)
}

// Manual is the plan without a provider.
type Manual struct{}

var _ Provider = Manual{}

// Plan implements Provider.
func (Manual) Plan() string { return PlanManual }

// Customer implements Provider: there is none to make.
func (Manual) Customer(context.Context, Payer) (string, error) { return "", nil }

// Subscribe implements Provider.
func (Manual) Subscribe(context.Context, Payer, string) (Subscription, error) {
	return Subscription{Status: "active"}, nil
}
