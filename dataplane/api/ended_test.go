package api_test

import (
	"net/http"
	"testing"

	"github.com/caresphere/caresphere/dataplane/dptest"
	"github.com/caresphere/caresphere/tenants"
)

// TestAnEndedSessionIsToldNothingOfItsRole asks for what the role may not do, with a
// session that goes on and with the same one after it was ended.
func TestAnEndedSessionIsToldNothingOfItsRole(t *testing.T) {
	cell := dptest.Start(t)
	org := cell.Tenant(t, "harbor", tenants.Residential)
	nurse := org.Person(t, tenants.RoleNurse, org.North)
	ask := func(status int, kind tenants.Kind) {
		t.Helper()
		a := nurse.Do(t, "GET", "/sessions", nil)
		if a.Status != status || a.Problem(t).Kind() != kind {
			t.Errorf("answered %d %s", a.Status, a.Body)
		}
	}
	expect(t, nurse, http.StatusOK, "")
	ask(http.StatusForbidden, tenants.KindForbidden)
	org.Owner.Do(t, "DELETE", "/sessions/"+nurse.SessionID.String(), nil).Into(t, http.StatusNoContent, nil)
	ask(http.StatusUnauthorized, tenants.KindUnauthenticated)
	const said = "outcome = 'denied' AND action = 'session.list' AND detail->>'reason' = "
	for _, reason := range []string{"forbidden", "unauthenticated"} {
		if n := cell.Count(t, "SELECT count(*) FROM "+org.Role+".audit_entry WHERE "+said+"$1", reason); n != 1 {
			t.Errorf("the trail has %d denials for the reason %s", n, reason)
		}
	}
}
