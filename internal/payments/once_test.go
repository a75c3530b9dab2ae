package payments

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/tenants"
)

// ledger stands for Stripe where the real stand-in, which keeps nothing, cannot show it: an
// answer that is kept for its key, and a key that was forgotten.
type ledger struct {
	mu sync.Mutex
	// fail answers so many creations with a server error; lose makes one and does not answer;
	// busy says that another request has the key.
	fail, lose, busy int
	kept             map[string]kept500
	made             map[string][]map[string]any
	asked            []string
}

type kept500 struct {
	status int
	body   any
}

func (l *ledger) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = r.ParseForm()
	kind := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/v1/"), "/search")
	answer := func(status int, body any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body)
	}
	list := func(all []map[string]any) {
		if all == nil {
			all = []map[string]any{}
		}
		answer(http.StatusOK, map[string]any{"object": "list", "data": all, "has_more": false})
	}
	switch {
	case kind == "prices":
		list([]map[string]any{{"id": "price_1", "object": "price"}})
	case r.Method == http.MethodGet:
		// More than was asked for: what is another's must not be taken.
		list(l.made[kind])
	default:
		key := r.Header.Get("Idempotency-Key")
		l.asked = append(l.asked, key)
		if old, ok := l.kept[key]; ok {
			w.Header().Set("Idempotent-Replayed", "true")
			answer(old.status, old.body)
			return
		}
		if l.busy > 0 {
			l.busy--
			answer(http.StatusConflict, map[string]any{"error": map[string]any{"type": "idempotency_error", "code": "idempotency_key_in_use", "message": "in use"}})
			return
		}
		if l.fail > 0 {
			l.fail--
			l.kept[key] = kept500{http.StatusInternalServerError, map[string]any{"error": map[string]any{"type": "api_error", "message": "broken"}}}
			answer(http.StatusInternalServerError, l.kept[key].body)
			return
		}
		one := map[string]any{"id": kind[:3] + "_" + strconv.Itoa(len(l.made[kind])), "object": strings.TrimSuffix(kind, "s"), "status": "active",
			"metadata": map[string]any{metaOrganization: r.PostForm.Get("metadata[organization_id]")}}
		l.made[kind] = append(l.made[kind], one)
		l.kept[key] = kept500{http.StatusOK, one}
		if l.lose > 0 {
			l.lose--
			panic(http.ErrAbortHandler)
		}
		answer(http.StatusOK, one)
	}
}

// forget is what Stripe does with keys after a day.
func (l *ledger) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = map[string]kept500{}
}

func newLedger(t *testing.T) (*ledger, *Stripe) {
	t.Helper()
	l := &ledger{kept: map[string]kept500{}, made: map[string][]map[string]any{}}
	server := httptest.NewServer(l)
	t.Cleanup(server.Close)
	// Over a connection of its own each: on one that was used before, a lost answer is asked
	// for again by the transport, which knows the header.
	p, err := newStripe(Config{StripeKey: "sk_test_123", StripeURL: server.URL}, &http.Transport{DisableKeepAlives: true}, callTimeout)
	require.NoError(t, err)
	return l, p
}

// TestAKeptFailureIsNotForADay: the answer that Stripe repeats for a key is a failure.
func TestAKeptFailureIsNotForADay(t *testing.T) {
	l, p := newLedger(t)
	l.fail = 1
	who := payer()
	_, err := p.Customer(ctx, who)
	require.Equal(t, tenants.KindUnavailable, tenants.KindOf(err))
	require.Len(t, l.asked, 1, "a failure that is new is the caller's to try again")
	id, err := p.Customer(ctx, who)
	require.NoError(t, err)
	l.mu.Lock()
	l.fail = 1
	l.mu.Unlock()
	_, err = p.Subscribe(ctx, who, id)
	require.Equal(t, tenants.KindUnavailable, tenants.KindOf(err))
	_, err = p.Subscribe(ctx, who, id)
	require.NoError(t, err)
	require.Len(t, l.made["customers"], 1)
	require.Len(t, l.made["subscriptions"], 1)
	suffix := "-" + who.OrganizationID.String()
	require.Equal(t, []string{"caresphere-customer" + suffix, "caresphere-customer" + suffix, "caresphere-customer" + suffix + "-1",
		"caresphere-subscription" + suffix, "caresphere-subscription" + suffix, "caresphere-subscription" + suffix + "-1"}, l.asked)
}

// TestAKeyInUseIsNotGivenUp: what the other request makes may not be found yet.
func TestAKeyInUseIsNotGivenUp(t *testing.T) {
	l, p := newLedger(t)
	who := payer()
	l.busy = 1
	_, err := p.Customer(ctx, who)
	require.Equal(t, tenants.KindUnavailable, tenants.KindOf(err))
	_, err = p.Customer(ctx, who)
	require.NoError(t, err)
	key := "caresphere-customer-" + who.OrganizationID.String()
	require.Equal(t, []string{key, key}, l.asked)
}

// TestWhatWasMadeIsFoundAfterItsKey: the answer was lost, and the key is forgotten.
func TestWhatWasMadeIsFoundAfterItsKey(t *testing.T) {
	l, p := newLedger(t)
	who, other := payer(), payer()
	l.lose = 1
	_, err := p.Customer(ctx, who)
	require.Equal(t, tenants.KindUnavailable, tenants.KindOf(err))
	l.forget()
	id, err := p.Customer(ctx, who)
	require.NoError(t, err)
	require.Equal(t, "cus_0", id)
	l.mu.Lock()
	l.lose = 1
	l.mu.Unlock()
	_, err = p.Subscribe(ctx, who, id)
	require.Equal(t, tenants.KindUnavailable, tenants.KindOf(err))
	l.forget()
	sub, err := p.Subscribe(ctx, who, id)
	require.NoError(t, err)
	require.Equal(t, Subscription{ID: "sub_0", Status: "active"}, sub)

	// The twin: what is another's is not taken, though the search returns it.
	id, err = p.Customer(ctx, other)
	require.NoError(t, err)
	assert.Equal(t, "cus_1", id)
	sub, err = p.Subscribe(ctx, other, id)
	require.NoError(t, err)
	assert.Equal(t, "sub_1", sub.ID)
}

// TestFailuresWithoutEndAreAnError: every key has a failure kept for it.
func TestFailuresWithoutEndAreAnError(t *testing.T) {
	l, p := newLedger(t)
	who := payer()
	l.fail = keys
	for range keys {
		_, err := p.Customer(ctx, who)
		require.Equal(t, tenants.KindUnavailable, tenants.KindOf(err))
	}
	_, err := p.Customer(ctx, who)
	require.Equal(t, tenants.KindUnavailable, tenants.KindOf(err))
	require.Empty(t, l.made["customers"])
	l.forget()
	_, err = p.Customer(ctx, who)
	require.NoError(t, err)
}
