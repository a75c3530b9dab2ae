package tell_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/dataplane/dptest"
	"github.com/caresphere/caresphere/tenants"
)

// fleet is a cell with one organization.
type fleet struct {
	*dptest.Cell
	org *dptest.Tenant
}

func start(t *testing.T) fleet {
	t.Helper()
	c := dptest.Start(t)
	return fleet{c, c.Tenant(t, "harbor", tenants.Residential)}
}

// run begins the teller's background, which ends with what is returned.
func (f fleet) run(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); f.Teller.Run(ctx) }()
	stop = func() { cancel(); <-ended }
	t.Cleanup(stop)
	return stop
}

// untold is what the rows say, members and ends of sessions.
func (f fleet) untold(t *testing.T) (people, sessions int) {
	t.Helper()
	return f.Count(t, "SELECT count(*) FROM "+f.org.Role+".member WHERE told_version < authz_version"),
		f.Count(t, "SELECT count(*) FROM "+f.org.Role+".member_session WHERE revoked_at IS NOT NULL AND told_at IS NULL")
}

// change changes a member as the owner does, at the version that the member is at.
func (f fleet) change(t *testing.T, p *dptest.Person, change map[string]any) {
	t.Helper()
	change["version"] = f.Count(t, "SELECT authz_version FROM "+f.org.Role+".member WHERE identity_id = $1", p.ID)
	f.org.Owner.Do(t, "PATCH", "/members/"+p.ID.String(), change).Into(t, http.StatusOK, nil)
}

func (f fleet) signedIn(t *testing.T, p *dptest.Person) {
	t.Helper()
	p.Do(t, "GET", "/session", nil).Into(t, http.StatusOK, nil)
}

func TestADecisionIsToldBeforeItsAnswer(t *testing.T) {
	f := start(t)
	nurse := f.org.Person(t, tenants.RoleNurse, f.org.North)
	f.signedIn(t, nurse)

	f.change(t, nurse, map[string]any{"role": "owner"})
	said := f.Control.Standing(nurse.ID)
	require.Len(t, said, 1)
	assert.Equal(t, "owner", said[0].Role)
	assert.Equal(t, "active", said[0].Status)
	assert.Equal(t, f.org.ID, said[0].Organization)
	assert.Zero(t, f.Count(t, "SELECT count(*) FROM "+f.org.Role+".member WHERE identity_id = $1 AND told_version < authz_version", nurse.ID))
	assert.Empty(t, f.Control.Standing(f.org.Owner.ID), "others wait for the background")

	// What the control plane does not hear of leaves her told.
	f.org.Owner.Do(t, "PUT", "/members/"+nurse.ID.String()+"/facilities", map[string]any{"facilities": []tenants.ID{f.org.South}}).Into(t, http.StatusOK, nil)
	f.change(t, nurse, map[string]any{"name": "Another Name"})
	assert.Len(t, f.Control.Standing(nurse.ID), 1)
	assert.Zero(t, f.Count(t, "SELECT count(*) FROM "+f.org.Role+".member WHERE identity_id = $1 AND told_version < authz_version", nurse.ID))

	f.org.Owner.Do(t, "DELETE", "/sessions/"+nurse.SessionID.String(), nil).Into(t, http.StatusNoContent, nil)
	assert.Equal(t, 1, f.Control.Ended(nurse.SessionID))
	f.org.Owner.Do(t, "DELETE", "/sessions/"+nurse.SessionID.String(), nil).Into(t, http.StatusNotFound, nil)
	assert.Equal(t, 1, f.Control.Ended(nurse.SessionID), "it is over already")

	f.change(t, nurse, map[string]any{"status": "disabled"})
	said = f.Control.Standing(nurse.ID)
	require.Len(t, said, 2)
	assert.Equal(t, "disabled", said[1].Status)
	assert.Greater(t, said[1].Version, said[0].Version)

	made := f.org.Owner.Do(t, "POST", "/members", map[string]any{"email": "new@harbor.example", "name": "Nia New", "role": "staff", "facilities": []tenants.ID{f.org.North}}).ID(t)
	require.Len(t, f.Control.Standing(made), 1)
	assert.Equal(t, "staff", f.Control.Standing(made)[0].Role)

	f.org.Owner.Do(t, "DELETE", "/session", nil).Into(t, http.StatusNoContent, nil)
	assert.Equal(t, 1, f.Control.Ended(f.org.Owner.SessionID))
	_, sessions := f.untold(t)
	assert.Zero(t, sessions)
}

func TestAControlPlaneThatIsAwayIsToldWhenItIsBack(t *testing.T) {
	f := start(t)
	nurse, other := f.org.Person(t, tenants.RoleNurse, f.org.North), f.org.Person(t, tenants.RoleNurse, f.org.North)
	for _, p := range []*dptest.Person{nurse, other} {
		f.signedIn(t, p)
	}
	stop := f.run(t)
	f.Control.Away(true)
	f.change(t, nurse, map[string]any{"status": "disabled"})
	f.org.Owner.Do(t, "DELETE", "/sessions/"+other.SessionID.String(), nil).Into(t, http.StatusNoContent, nil)
	other.Do(t, "GET", "/session", nil).Into(t, http.StatusUnauthorized, nil)
	f.signedIn(t, f.org.Owner)
	people, sessions := f.untold(t)
	assert.Equal(t, 3, people, "the owner and two nurses")
	assert.Equal(t, 2, sessions, "the disabled nurse's and the one that was ended")
	assert.Equal(t, 5, f.Teller.Untold())
	tried := f.Control.Asked()
	require.Eventually(t, func() bool { return f.Control.Asked() > tried }, 20*time.Second, 10*time.Millisecond, "it is tried again")

	f.Control.Away(false)
	require.Eventually(t, func() bool { return f.Teller.Untold() == 0 }, 30*time.Second, 10*time.Millisecond)
	people, sessions = f.untold(t)
	assert.Zero(t, people)
	assert.Zero(t, sessions)
	require.NotEmpty(t, f.Control.Standing(nurse.ID))
	assert.Equal(t, "disabled", f.Control.Standing(nurse.ID)[0].Status)
	assert.Equal(t, 1, f.Control.Ended(other.SessionID))
	assert.Equal(t, 1, f.Control.Ended(nurse.SessionID))

	// A worker that ends tells what it still owes.
	f.Control.Away(true)
	f.change(t, other, map[string]any{"role": "staff"})
	f.Control.Away(false)
	stop()
	require.NotEmpty(t, f.Control.Standing(other.ID))
	assert.Equal(t, "staff", f.Control.Standing(other.ID)[len(f.Control.Standing(other.ID))-1].Role)
}

// TestWhoWasKilledInBetweenIsMadeGoodByWhoOpensTheTenant ends a session as a worker does
// that then dies: its row is all there is.
func TestWhoWasKilledInBetweenIsMadeGoodByWhoOpensTheTenant(t *testing.T) {
	f := start(t)
	f.Door.OnOpen(f.Teller.Opened)
	nurse := f.org.Person(t, tenants.RoleNurse, f.org.North)
	f.Exec(t, "INSERT INTO "+f.org.Role+".member_session (session_id, identity_id, ip, device) VALUES ($1, $2, '', '')", nurse.SessionID, nurse.ID)
	f.Exec(t, "UPDATE "+f.org.Role+".member_session SET revoked_at = now() WHERE session_id = $1", nurse.SessionID)
	f.Control.Refuse(f.org.Owner.ID)
	f.run(t)
	assert.Zero(t, f.Control.Asked(), "nobody has opened it")

	f.signedIn(t, f.org.Owner)
	require.Eventually(t, func() bool { return f.Control.Ended(nurse.SessionID) == 1 && len(f.Control.Standing(nurse.ID)) == 1 }, 20*time.Second, 10*time.Millisecond)
	require.Eventually(t, func() bool { people, sessions := f.untold(t); return people == 1 && sessions == 0 }, 20*time.Second, 10*time.Millisecond,
		"one that is refused holds up no other, and stays untold")
}

// TestATenantThatStaysOpenIsLookedAtWithItsKeys: its connections may be open for days,
// its keys are read anew every few minutes.
func TestATenantThatStaysOpenIsLookedAtWithItsKeys(t *testing.T) {
	f := start(t)
	f.Door.OnOpen(f.Teller.Opened)
	f.run(t)
	f.signedIn(t, f.org.Owner)
	require.Eventually(t, func() bool { people, _ := f.untold(t); return people == 0 }, 20*time.Second, 10*time.Millisecond)
	late := f.org.Person(t, tenants.RoleNurse, f.org.North)
	f.signedIn(t, f.org.Owner)
	require.Empty(t, f.Control.Standing(late.ID), "a request alone is no reason to look")
	f.org.Owner.Do(t, "POST", "/clients/search", map[string]any{"family": "Nobody"}).Into(t, http.StatusOK, nil)
	require.Eventually(t, func() bool { return len(f.Control.Standing(late.ID)) == 1 }, 20*time.Second, 10*time.Millisecond)
}

// TestNoConnectionsAreOpenedForALookAlone: a tenant that goes live is opened for its probe
// and dropped again, in each of thousands.
func TestNoConnectionsAreOpenedForALookAlone(t *testing.T) {
	f := start(t)
	f.Door.OnOpen(f.Teller.Opened)
	dropped, kept := f.org, f.Tenant(t, "meadow", tenants.Residential)
	told := func(o *dptest.Tenant) bool {
		return f.Count(t, "SELECT count(*) FROM "+o.Role+".member WHERE told_version < authz_version") == 0
	}
	for _, o := range []*dptest.Tenant{dropped, kept} {
		o.Owner.Do(t, "GET", "/session", nil).Into(t, http.StatusOK, nil)
	}
	f.Door.Forget(dropped.ID)
	f.run(t)
	require.Eventually(t, func() bool { return told(kept) }, 20*time.Second, 10*time.Millisecond)
	require.False(t, told(dropped), "its turn came first")
	require.False(t, f.Door.Serves(dropped.ID))
	dropped.Owner.Do(t, "GET", "/session", nil).Into(t, http.StatusOK, nil)
	require.Eventually(t, func() bool { return told(dropped) }, 20*time.Second, 10*time.Millisecond, "whoever opens it again has it looked at")
}

// TestATenantsLoginCannotSayWhatWasTold holds the rows' own guards.
func TestATenantsLoginCannotSayWhatWasTold(t *testing.T) {
	f := start(t)
	nurse := f.org.Person(t, tenants.RoleNurse, f.org.North)
	f.signedIn(t, nurse)
	conn := f.org.Connect(t)
	as := func(p *dptest.Person, role tenants.Role, sql string, args ...any) error {
		tx, err := conn.Begin(t.Context())
		require.NoError(t, err)
		defer func() { _ = tx.Rollback(context.Background()) }()
		_, err = tx.Exec(t.Context(), "SELECT set_config('caresphere.context', $1, true)", f.org.Context(conn, p, role, f.org.North))
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), sql, args...)
		return err
	}
	const member, session = "UPDATE member SET told_version = authz_version WHERE identity_id = $1", "UPDATE member_session SET told_at = now() WHERE session_id = $1"
	require.ErrorContains(t, as(f.org.Owner, tenants.RoleOwner, member, nurse.ID), "CS002")
	require.NoError(t, as(f.org.Owner, tenants.RoleOwner, "UPDATE member SET role = 'staff' WHERE identity_id = $1", nurse.ID))
	require.ErrorContains(t, as(nurse, tenants.RoleNurse, session, nurse.SessionID), "CS002")
	require.NoError(t, as(nurse, tenants.RoleNurse, "UPDATE member_session SET last_seen = now() WHERE session_id = $1", nurse.SessionID))
	f.org.Owner.Do(t, "DELETE", "/sessions/"+nurse.SessionID.String(), nil).Into(t, http.StatusNoContent, nil)
	require.ErrorContains(t, as(f.org.Owner, tenants.RoleOwner, "UPDATE member_session SET revoked_at = now() WHERE session_id = $1", nurse.SessionID), "CS401")
}
