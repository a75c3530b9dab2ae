package identity_test

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/identity"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/tenants"
)

func open(t *testing.T) *identity.Client {
	t.Helper()
	k := testkit.Kratos(t)
	c, err := identity.Open(identity.Config{PublicURL: k.PublicURL, AdminURL: k.AdminURL, TLS: k.TLS(t)})
	require.NoError(t, err)
	return c
}

func address() string { return strings.ToLower(rand.Text()) + "@example.org" }

func TestIdentityIsMadeOnce(t *testing.T) {
	c, ctx := open(t), context.Background()
	n := identity.NewIdentity{Email: address(), Name: "Dana", OrganizationID: tenants.NewID(), Slug: "maple"}
	id, created, err := c.CreateIdentity(ctx, n)
	require.NoError(t, err)
	assert.True(t, created)
	again, created, err := c.CreateIdentity(ctx, n)
	require.NoError(t, err)
	assert.False(t, created)
	assert.Equal(t, id, again)
	found, err := c.Find(ctx, n.Email)
	require.NoError(t, err)
	assert.Equal(t, id, found)
	_, err = c.Find(ctx, address())
	assert.True(t, tenants.IsKind(err, tenants.KindNotFound), "%v", err)

	f, err := c.Factors(ctx, id)
	require.NoError(t, err)
	assert.Equal(t, identity.Factors{}, f, "invited, nothing set up")
	require.NoError(t, c.MarkVerified(ctx, id))
	code, flow, err := c.RecoveryCode(ctx, id, time.Hour)
	require.NoError(t, err)
	assert.Len(t, code, 6)
	_, err = tenants.ParseID(flow)
	require.NoError(t, err)
	require.NoError(t, c.EndSessions(ctx, id), "none to end")
	require.NoError(t, c.EndSession(ctx, tenants.NewID()), "none to end")
	require.NoError(t, c.Disable(ctx, id))
	require.NoError(t, c.Remove(ctx, id))
	_, err = c.Find(ctx, n.Email)
	assert.True(t, tenants.IsKind(err, tenants.KindNotFound), "%v", err)
	require.NoError(t, c.Remove(ctx, id), "none to remove")
}

func TestEveryIdentityIsListedOnce(t *testing.T) {
	c, ctx := open(t), context.Background()
	defer identity.ListBy(2)()
	want := map[tenants.ID]bool{}
	for range 5 {
		id, _, err := c.CreateIdentity(ctx, identity.NewIdentity{Email: address(), Name: "Dana"})
		require.NoError(t, err)
		want[id] = true
	}
	listed := map[tenants.ID]int{}
	for i, err := range c.List(ctx) {
		require.NoError(t, err)
		require.WithinDuration(t, time.Now(), i.CreatedAt, time.Hour)
		listed[i.ID]++
	}
	for id := range want {
		require.Equal(t, 1, listed[id])
	}

	k := testkit.Kratos(t)
	stranger, err := identity.Open(identity.Config{PublicURL: k.PublicURL, TLS: k.TLS(t)})
	require.NoError(t, err)
	for _, err := range stranger.List(ctx) {
		require.True(t, tenants.IsKind(err, tenants.KindInternal), "not without an admin address")
	}
}

func TestErrorsHaveKindsAndSayNothing(t *testing.T) {
	c, ctx := open(t), context.Background()
	for name, cred := range map[string]identity.Credential{
		"none": {}, "a cookie of nobody": {Cookie: "caresphere_session=x"}, "a token of nobody": {Token: "ory_st_" + rand.Text()}, "a token with a line break": {Token: "x\r\nX-Session-Token: y"},
	} {
		_, err := c.Whoami(ctx, cred)
		assert.False(t, err == nil, name)
		if name != "a token with a line break" {
			assert.True(t, tenants.IsKind(err, tenants.KindUnauthenticated), "%s: %v", name, err)
		}
	}
	_, err := c.Factors(ctx, tenants.NewID())
	assert.True(t, tenants.IsKind(err, tenants.KindNotFound), "%v", err)
	_, err = c.Flow(ctx, identity.FlowLogin, tenants.NewID().String(), "")
	assert.True(t, tenants.IsKind(err, tenants.KindNotFound), "%v", err)
	require.NoError(t, c.Health(ctx))
}

func TestKratosAwayIsUnavailable(t *testing.T) {
	k := testkit.Kratos(t)
	c, err := identity.Open(identity.Config{PublicURL: "https://localhost:1", AdminURL: "https://localhost:1", TLS: k.TLS(t)})
	require.NoError(t, err)
	ctx := context.Background()
	_, err = c.Whoami(ctx, identity.Credential{Token: "ory_st_secret"})
	assert.True(t, tenants.IsKind(err, tenants.KindUnavailable), "%v", err)
	assert.NotContains(t, err.Error(), "ory_st_secret")
	assert.True(t, tenants.IsKind(c.Health(ctx), tenants.KindUnavailable))
	_, _, err = c.CreateIdentity(ctx, identity.NewIdentity{Email: address(), Name: "Dana"})
	assert.True(t, tenants.IsKind(err, tenants.KindUnavailable), "%v", err)

	_, err = identity.Open(identity.Config{PublicURL: "http://localhost:1"})
	require.Error(t, err, "never without TLS")
	// A certificate of somebody else's CA.
	c, err = identity.Open(identity.Config{PublicURL: k.PublicURL})
	require.NoError(t, err)
	_, err = c.Whoami(ctx, identity.Credential{Token: "x"})
	assert.True(t, tenants.IsKind(err, tenants.KindUnavailable), "%v", err)
}

func TestWithoutAnAdminAddressNothingIsAdministered(t *testing.T) {
	k := testkit.Kratos(t)
	c, err := identity.Open(identity.Config{PublicURL: k.PublicURL, TLS: k.TLS(t)})
	require.NoError(t, err)
	require.NoError(t, c.Health(context.Background()))
	_, _, err = c.CreateIdentity(context.Background(), identity.NewIdentity{Email: address()})
	assert.True(t, tenants.IsKind(err, tenants.KindInternal), "%v", err)
}
