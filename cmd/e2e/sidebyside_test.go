package e2e_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/client"
	"github.com/caresphere/caresphere/internal/demo"
	"github.com/caresphere/caresphere/internal/devstack"
	"github.com/caresphere/caresphere/internal/testkit"
)

func TestTwoStacksSideBySideShareNothing(t *testing.T) {
	t.Parallel()
	one, two := here(t), open(t, testkit.Named("beside"))
	require.NotEqual(t, one.Layout().State, two.Layout().State)
	require.NotEqual(t, one.Layout().Base, two.Layout().Base)
	two.ready(t)

	// The same organization by name in both: nothing but the stack tells them apart.
	slug := "same-" + word()
	a, err := demo.BringUp(within(t, 2*time.Minute), one.options(), one.operator(t), slug)
	require.NoError(t, err)
	b, err := demo.BringUp(within(t, 2*time.Minute), two.options(), two.operator(t), slug)
	require.NoError(t, err)
	require.Equal(t, a.Slug, b.Slug)

	path := "/t/" + slug + "/v1/clients"
	for name, c := range map[string]struct {
		from, to *world
		who      *demo.Live
	}{"one's at two": {one, two, a}, "two's at one": {two, one, b}} {
		token := c.from.bearer(t, c.who.Owner)
		for kind, session := range map[string]*client.Client{"cookies": c.who.Nurse.Client, "token": token} {
			at := c.to.wire(t, c.to.Origin()).as(session)
			require.Equal(t, http.StatusUnauthorized, at.do(t, http.MethodGet, path, nil).status, "%s: %s", name, kind)
			require.Equal(t, http.StatusUnauthorized, at.do(t, http.MethodGet, "/api/v1/me", nil).status, "%s: %s", name, kind)
			home := c.from.wire(t, c.from.Origin()).as(session)
			require.Equal(t, http.StatusOK, home.do(t, http.MethodGet, path, nil).status, "the allowed twin of %s: %s", name, kind)
		}
		// Neither trusts the other's authority.
		_, err := c.from.wire(t, c.to.Origin()).try(within(t, 10*time.Second), http.MethodGet, "/readyz", nil)
		require.ErrorContains(t, err, "certificate")
		_, err = c.to.wire(t, c.to.URL(devstack.PortWorkerA), c.from.certificate(t, "router")).try(within(t, 10*time.Second), http.MethodGet, path, nil)
		require.Error(t, err, "a worker takes no other stack's router")
		operator := c.to.wire(t, c.to.OperatorOrigin()).as(c.from.operator(t))
		require.Equal(t, http.StatusUnauthorized, operator.do(t, http.MethodGet, "/api/v1/organizations", nil).status, "%s: an operator", name)
	}
}
