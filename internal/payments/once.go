package payments

import (
	"context"
	"errors"
	"strconv"

	"github.com/stripe/stripe-go/v76"

	"github.com/caresphere/caresphere/tenants"
)

// keys is how many idempotency keys one thing may use up: each is spent on a failure that
// Stripe keeps for a day.
const keys = 5

// The only metadata that is ever sent.
const (
	metaOrganization = "organization_id"
	metaSlug         = "slug"
)

// once returns what find finds, or what create makes. Stripe repeats its answer to an
// idempotency key for a day, failures too, and forgets the key after it. So whatever
// was made before is looked for first; and a key whose kept answer is a failure is left
// for the next one. A failure that is new is returned: the caller's job tries again.
// (https://docs.stripe.com/api/idempotent_requests)
func once[T any](what string, payer Payer, find func() (T, bool, error), create func(key string) (T, error)) (made T, err error) {
	key := "caresphere-" + what + "-" + payer.OrganizationID.String()
	for spent := range keys {
		made, there, err := find()
		if err != nil || there {
			return made, err
		}
		next := key
		if spent > 0 {
			next += "-" + strconv.Itoa(spent)
		}
		if made, err = create(next); err == nil || !kept(err) {
			return made, err
		}
	}
	return made, tenants.NewError(tenants.KindUnavailable, "the payment provider repeats its failures")
}

// kept tells whether an error is Stripe's answer to an earlier request of the key. One that
// says that the key is in use, or was used for something else, is not: what that request
// makes may not be found yet.
func kept(err error) bool {
	var se *stripe.Error
	return errors.As(err, &se) && se.LastResponse != nil && se.LastResponse.Header.Get("Idempotent-Replayed") == "true"
}

// stamp gives a request its deadline, its idempotency key and its metadata.
func stamp(ctx context.Context, p *stripe.Params, key string, payer Payer) {
	p.Context = ctx
	p.SetIdempotencyKey(key)
	p.AddMetadata(metaOrganization, payer.OrganizationID.String())
	p.AddMetadata(metaSlug, payer.Slug)
}

// theirs tells whether something at Stripe was made for the payer's organization.
func theirs(metadata map[string]string, payer Payer) bool {
	return metadata[metaOrganization] == payer.OrganizationID.String()
}

// findCustomer looks for the organization's customer. What was made within the last minute
// may not be found yet: the idempotency key stands for that time.
func (s *Stripe) findCustomer(ctx context.Context, payer Payer) (string, bool, error) {
	params := &stripe.CustomerSearchParams{}
	params.Context, params.Single = ctx, true
	params.Query = "metadata['" + metaOrganization + "']:'" + payer.OrganizationID.String() + "'"
	found := s.api.Customers.Search(params)
	for found.Next() {
		if c := found.Customer(); theirs(c.Metadata, payer) && !c.Deleted {
			return c.ID, true, nil
		}
	}
	if err := found.Err(); err != nil {
		return "", false, translate("looking for the customer", err)
	}
	return "", false, nil
}

// findSubscription looks for a subscription of the customer's that was made for the
// organization and has not ended.
func (s *Stripe) findSubscription(ctx context.Context, payer Payer, customer string) (Subscription, bool, error) {
	params := &stripe.SubscriptionListParams{Customer: stripe.String(customer)}
	params.Context = ctx
	found := s.api.Subscriptions.List(params)
	for found.Next() {
		if sub := found.Subscription(); theirs(sub.Metadata, payer) {
			return Subscription{ID: sub.ID, Status: string(sub.Status)}, true, nil
		}
	}
	if err := found.Err(); err != nil {
		return Subscription{}, false, translate("looking for the subscription", err)
	}
	return Subscription{}, false, nil
}
