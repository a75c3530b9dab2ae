package payments

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/client"

	"github.com/caresphere/caresphere/tenants"
)

const (
	callTimeout = 10 * time.Second
	// priceKey is the lookup key of the price that a subscription begins with. The
	// price itself is made in Stripe, by people: amounts are no business of code.
	priceKey = "caresphere_facility_month"
)

// Stripe is the provider behind https://stripe.com.
type Stripe struct {
	api     *client.API
	timeout time.Duration
}

var _ Provider = (*Stripe)(nil)

// NewStripe returns the provider for a secret key. It does not connect.
func NewStripe(c Config) (*Stripe, error) {
	tlsConfig := c.TLS
	if tlsConfig == nil {
		tlsConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return newStripe(c, &http.Transport{TLSClientConfig: tlsConfig, Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}, callTimeout)
}

func newStripe(c Config, transport http.RoundTripper, timeout time.Duration) (*Stripe, error) {
	base := c.StripeURL
	if base == "" {
		base = stripe.APIURL
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || (u.Scheme != "https" && !loopback(u)) {
		return nil, errors.New("payments: Stripe's URL must be https; http only to this machine")
	}
	backend := stripe.GetBackendWithConfig(stripe.APIBackend, &stripe.BackendConfig{
		URL:        stripe.String(base),
		HTTPClient: &http.Client{Timeout: timeout, Transport: transport},
		// The job that calls retries by itself, with the same idempotency key.
		MaxNetworkRetries: stripe.Int64(0),
		LeveledLogger:     &stripe.LeveledLogger{Level: stripe.LevelNull},
		EnableTelemetry:   stripe.Bool(false),
	})
	api := client.New(c.StripeKey, &stripe.Backends{API: backend, Connect: backend, Uploads: backend})
	return &Stripe{api: api, timeout: timeout}, nil
}

func loopback(u *url.URL) bool {
	switch u.Hostname() {
	case "localhost", "127.0.0.1", "::1":
		return u.Scheme == "http"
	}
	return false
}

// Plan implements Provider.
func (*Stripe) Plan() string { return PlanStripe }

// Customer implements Provider.
func (s *Stripe) Customer(ctx context.Context, p Payer) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return once("customer", p, func() (string, bool, error) { return s.findCustomer(ctx, p) }, func(key string) (string, error) {
		params := &stripe.CustomerParams{Name: stripe.String(p.LegalName)}
		stamp(ctx, &params.Params, key, p)
		c, err := s.api.Customers.New(params)
		if err != nil {
			return "", translate("making a customer", err)
		}
		return c.ID, nil
	})
}

// Subscribe implements Provider. Nobody has a card on file at sign-up: the
// subscription is paid by invoice until one is.
func (s *Stripe) Subscribe(ctx context.Context, p Payer, customer string) (Subscription, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	price, err := s.price(ctx)
	if err != nil {
		return Subscription{}, err
	}
	return once("subscription", p, func() (Subscription, bool, error) { return s.findSubscription(ctx, p, customer) }, func(key string) (Subscription, error) {
		params := &stripe.SubscriptionParams{
			Customer:         stripe.String(customer),
			CollectionMethod: stripe.String(string(stripe.SubscriptionCollectionMethodSendInvoice)),
			DaysUntilDue:     stripe.Int64(30),
			Items:            []*stripe.SubscriptionItemsParams{{Price: stripe.String(price), Quantity: stripe.Int64(1)}},
		}
		stamp(ctx, &params.Params, key, p)
		sub, err := s.api.Subscriptions.New(params)
		if err != nil {
			return Subscription{}, translate("making a subscription", err)
		}
		return Subscription{ID: sub.ID, Status: string(sub.Status)}, nil
	})
}

func (s *Stripe) price(ctx context.Context) (string, error) {
	params := &stripe.PriceListParams{Active: stripe.Bool(true), LookupKeys: []*string{stripe.String(priceKey)}}
	params.Context = ctx
	params.Limit = stripe.Int64(1)
	params.Single = true
	list := s.api.Prices.List(params)
	if list.Next() {
		return list.Price().ID, nil
	}
	if err := list.Err(); err != nil {
		return "", translate("looking for the price", err)
	}
	return "", tenants.NewError(tenants.KindConflict, "the payment provider has no active price with the lookup key "+priceKey)
}

// translate keeps Stripe's words for logs: they can repeat what was sent.
func translate(doing string, err error) error {
	err = fmt.Errorf("%s: %w", doing, err)
	var se *stripe.Error
	if errors.As(err, &se) && se.HTTPStatusCode >= 400 && se.HTTPStatusCode < 500 &&
		se.HTTPStatusCode != http.StatusTooManyRequests && se.HTTPStatusCode != http.StatusConflict {
		return tenants.WrapError(tenants.KindConflict, "the payment provider refuses", err)
	}
	return tenants.WrapError(tenants.KindUnavailable, "the payment provider does not answer", err)
}
