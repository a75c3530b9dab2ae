package e2e_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/client"
	"github.com/caresphere/caresphere/internal/demo"
	"github.com/caresphere/caresphere/internal/devstack"
)

// member is a member as the data plane has it.
type member struct {
	ID      string `json:"id"`
	Version int64  `json:"version"`
}

// known is how the control plane's API answers a session.
func known(t *testing.T, c *client.Client) int {
	t.Helper()
	_, err := c.Me(within(t, 15*time.Second))
	if err == nil {
		return http.StatusOK
	}
	return client.StatusOf(err)
}

// TestWhatTheDataPlaneEndsIsOverAtTheControlPlane: a session that was ended there, by an
// owner or by its person, and an owner who was disabled there, are refused by the
// control plane's API on the next request.
func TestWhatTheDataPlaneEndsIsOverAtTheControlPlane(t *testing.T) {
	t.Parallel()
	w := here(t)
	l := w.tenant(t, "told")
	ctx := within(t, 3*time.Minute)
	tenant := l.Owner.Tenant(l.Slug)
	join := func(name, role string) (client.Member, *client.Client) {
		email := name + "-" + word() + "@example.com"
		m, err := tenant.CreateMember(ctx, client.NewMember{Email: email, Name: "Tess Told", Role: role, Facilities: []string{l.Facility}}, email)
		require.NoError(t, err)
		c, _, _, err := demo.Join(ctx, w.Origin(), client.Options{Roots: w.roots}, email)
		require.NoError(t, err)
		return m, c
	}
	_, ended := join("ended", "nurse")
	_, left := join("left", "nurse")
	second, heir := join("heir", "nurse")

	// By the owner.
	session, err := ownSession(t, ended, l)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, known(t, ended), "let in until then")
	require.NoError(t, tenant.Do(ctx, http.MethodDelete, "/sessions/"+session, nil, nil))
	require.Equal(t, http.StatusUnauthorized, known(t, ended))

	// By its person.
	_, err = ownSession(t, left, l)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, known(t, left), "let in until then")
	require.NoError(t, left.Tenant(l.Slug).Do(ctx, http.MethodDelete, "/session", nil, nil))
	require.Equal(t, http.StatusUnauthorized, known(t, left))

	// The first owner makes an heir, who disables her.
	as := func(id string) (m member) {
		require.NoError(t, tenant.Do(ctx, http.MethodGet, "/members/"+id, nil, &m))
		return m
	}
	require.NoError(t, tenant.Do(ctx, http.MethodPatch, "/members/"+second.ID, map[string]any{"version": as(second.ID).Version, "role": "owner"}, nil))
	require.Equal(t, http.StatusOK, known(t, heir))
	control := w.database(t, devstack.ControlDatabase)
	owners := func() (n int) {
		require.NoError(t, control.QueryRow(ctx, "SELECT count(*) FROM account WHERE organization_id = $1 AND owner", l.ID).Scan(&n))
		return n
	}
	require.Equal(t, 2, owners())
	var own struct {
		ID string `json:"member_id"`
	}
	require.NoError(t, tenant.Do(ctx, http.MethodGet, "/session", nil, &own))
	first := as(own.ID)
	require.Equal(t, http.StatusOK, known(t, l.Owner.Client), "let in until then")
	require.NoError(t, heir.Tenant(l.Slug).Do(ctx, http.MethodPatch, "/members/"+first.ID, map[string]any{"version": first.Version, "status": "disabled"}, nil))
	require.Equal(t, http.StatusUnauthorized, known(t, l.Owner.Client))
	require.Equal(t, http.StatusOK, known(t, heir), "the new owner goes on")
	require.Equal(t, 1, owners())
}
