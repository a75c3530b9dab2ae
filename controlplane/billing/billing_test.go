package billing_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/billing"
	"github.com/caresphere/caresphere/controlplane/cptest"
	"github.com/caresphere/caresphere/internal/payments"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/tenants"
)

var ctx = context.Background()

func stripe(t *testing.T, base string) payments.Provider {
	t.Helper()
	pem, err := os.ReadFile(testkit.StripeMock(t).CA)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(pem))
	p, err := payments.Open(payments.Config{StripeKey: "sk_test_123", StripeURL: base, TLS: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}})
	require.NoError(t, err)
	return p
}

func row(t *testing.T, w *cptest.World, o cptest.Organization) string {
	t.Helper()
	return w.Value(t, "SELECT concat_ws(' ', plan, status, CASE WHEN stripe_customer <> '' THEN 'customer' END, CASE WHEN stripe_subscription <> '' THEN 'subscription' END) FROM subscription WHERE organization_id = $1", o.ID)
}

func TestManualPlan(t *testing.T) {
	t.Parallel()
	w := cptest.New(t)
	o := w.Organization(t, "haven")
	assert.Equal(t, tenants.KindNotFound, tenants.KindOf(w.Billing.Ensure(ctx, o.ID)), "before an agreement there is none")
	w.Execute(t, o)
	assert.Equal(t, "manual pending", row(t, w, o))
	// The provisioner makes it, as its own role.
	service := billing.New(cptest.Open(t, w.DB.DSN("provisioner")), payments.Manual{})
	require.NoError(t, service.Ensure(ctx, o.ID))
	assert.Equal(t, "manual active", row(t, w, o))
	before := w.Snapshot(t)
	require.NoError(t, service.Ensure(ctx, o.ID))
	assert.Equal(t, before, w.Snapshot(t), "made once")
}

func TestStripePlanGoesOnWhereItStopped(t *testing.T) {
	t.Parallel()
	w := cptest.New(t)
	o := w.Organization(t, "haven")
	w.Execute(t, o)
	w.Super(t, "UPDATE subscription SET plan = 'stripe' WHERE organization_id = $1", o.ID)
	pool := cptest.Open(t, w.DB.DSN("provisioner"))

	assert.Equal(t, tenants.KindConflict, tenants.KindOf(billing.New(pool, payments.Manual{}).Ensure(ctx, o.ID)), "no key, no Stripe plan")
	assert.Equal(t, "stripe pending", row(t, w, o))

	proxy := testkit.Toxiproxy(t, testkit.StripeMock(t).URL)
	service := billing.New(pool, stripe(t, "https://"+proxy.Addr))
	proxy.Down()
	assert.Equal(t, tenants.KindUnavailable, tenants.KindOf(service.Ensure(ctx, o.ID)))
	proxy.Up()

	w.BreakAudit(t, "subscription.activate")
	require.ErrorContains(t, service.Ensure(ctx, o.ID), "planted")
	assert.Equal(t, "stripe pending customer", row(t, w, o), "the customer is kept as soon as it is known")
	customer := w.Value(t, "SELECT stripe_customer FROM subscription WHERE organization_id = $1", o.ID)
	w.RepairAudit(t)

	require.NoError(t, service.Ensure(ctx, o.ID))
	assert.NotContains(t, row(t, w, o), "pending")
	assert.Contains(t, row(t, w, o), "customer subscription")
	assert.Equal(t, customer, w.Value(t, "SELECT stripe_customer FROM subscription WHERE organization_id = $1", o.ID), "not made twice")
}

// overtaken is a provider during whose answer another process makes the subscription.
type overtaken struct {
	payments.Manual
	at        string
	meanwhile func()
}

func (overtaken) Plan() string { return payments.PlanStripe }

func (o overtaken) Customer(context.Context, payments.Payer) (string, error) {
	if o.at == "customer" {
		o.meanwhile()
	}
	return "cus_late", nil
}

func (o overtaken) Subscribe(_ context.Context, _ payments.Payer, customer string) (payments.Subscription, error) {
	if o.at == "subscription" {
		o.meanwhile()
	}
	return payments.Subscription{ID: "sub_of_" + customer, Status: "trialing"}, nil
}

// Whoever comes late takes nothing back of what another process has made.
func TestALateAnswerChangesNothing(t *testing.T) {
	t.Parallel()
	w := cptest.New(t)
	pool := cptest.Open(t, w.DB.DSN("provisioner"))
	made := "SELECT concat_ws(' ', status, stripe_customer, stripe_subscription) FROM subscription WHERE organization_id = $1"
	const complete = "UPDATE subscription SET status = 'active', stripe_customer = 'cus_first', stripe_subscription = 'sub_first' WHERE organization_id = $1"
	for slug, c := range map[string]struct{ at, meanwhile, want string }{
		"late-one":   {"customer", complete, "active cus_first sub_first"},
		"late-two":   {"subscription", complete, "active cus_first sub_first"},
		"late-three": {"customer", "UPDATE subscription SET stripe_customer = 'cus_first' WHERE organization_id = $1", "trialing cus_first sub_of_cus_first"},
		"in-time":    {"nowhere", "", "trialing cus_late sub_of_cus_late"},
	} {
		o := w.Organization(t, slug)
		w.Execute(t, o)
		w.Super(t, "UPDATE subscription SET plan = 'stripe' WHERE organization_id = $1", o.ID)
		service := billing.New(pool, overtaken{at: c.at, meanwhile: func() { w.Super(t, c.meanwhile, o.ID) }})
		require.NoError(t, service.Ensure(ctx, o.ID), slug)
		assert.Equal(t, c.want, w.Value(t, made, o.ID), slug)
	}
}
