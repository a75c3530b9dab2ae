package api_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/caresphere/caresphere/dataplane/dptest"
	"github.com/caresphere/caresphere/internal/identity"
	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/tenants"
)

// expect asks for a list of clients and holds the answer's status and kind.
func expect(t *testing.T, p *dptest.Person, status int, kind tenants.Kind) {
	t.Helper()
	a := p.Do(t, "GET", "/clients", nil)
	if a.Status != status {
		t.Fatalf("answered %d, not %d: %s", a.Status, status, a.Body)
	}
	if kind != "" && a.Problem(t).Kind() != kind {
		t.Fatalf("refused as %s, not %s", a.Problem(t).Kind(), kind)
	}
}

func TestWhoMayComeIn(t *testing.T) {
	cell := dptest.Start(t)
	org := cell.Tenant(t, "harbor", tenants.Residential)
	for name, c := range map[string]struct {
		change func(*identity.Session)
		status int
		kind   tenants.Kind
	}{
		"second factor":                      {func(*identity.Session) {}, 200, ""},
		"no second factor":                   {func(s *identity.Session) { s.SecondFactor = false }, 403, tenants.KindSecondFactor},
		"address not verified":               {func(s *identity.Session) { s.EmailVerified = false }, 403, tenants.KindOnboarding},
		"another organization":               {func(s *identity.Session) { s.OrganizationID = tenants.NewID() }, 404, tenants.KindNotFound},
		"no organization":                    {func(s *identity.Session) { s.OrganizationID = tenants.NilID }, 404, tenants.KindNotFound},
		"somebody else's identity":           {func(s *identity.Session) { s.IdentityID = tenants.NewID() }, 404, tenants.KindNotFound},
		"older than the absolute age":        {func(s *identity.Session) { s.IssuedAt = time.Now().Add(-13 * time.Hour) }, 401, tenants.KindUnauthenticated},
		"just younger than the absolute age": {func(s *identity.Session) { s.IssuedAt = time.Now().Add(-11 * time.Hour) }, 200, ""},
		"over at Kratos":                     {func(s *identity.Session) { s.ExpiresAt = time.Now().Add(-time.Second) }, 401, tenants.KindUnauthenticated},
	} {
		t.Run(name, func(t *testing.T) {
			p := org.Person(t, tenants.RoleNurse, org.North)
			p.SignIn(c.change)
			expect(t, p, c.status, c.kind)
		})
	}
	t.Run("who is refused at the gate of their own organization is in its trail", func(t *testing.T) {
		stranger := cell.Tenant(t, "meadow", tenants.Residential)
		for name, c := range map[string]struct {
			refused func(*dptest.Person)
			action  string
		}{
			"disabled before the first request": {func(p *dptest.Person) {
				cell.Exec(t, "UPDATE "+org.Role+".member SET status = 'disabled' WHERE identity_id = $1", p.ID)
				expect(t, p, 404, tenants.KindNotFound)
			}, "session.refuse"},
			"no member": {func(p *dptest.Person) {
				p.ID = tenants.NewID()
				p.SignIn(func(*identity.Session) {})
				expect(t, p, 404, tenants.KindNotFound)
			}, "session.refuse"},
			"address not verified": {func(p *dptest.Person) {
				p.SignIn(func(s *identity.Session) { s.EmailVerified = false })
				expect(t, p, 403, tenants.KindOnboarding)
			}, "session.refuse"},
			"another organization's path": {func(p *dptest.Person) {
				if a := p.At(t, stranger.Slug, "GET", "/clients", nil); a.Status != 404 {
					t.Errorf("answered %d", a.Status)
				}
			}, "session.stray"},
			"let in": {func(p *dptest.Person) { expect(t, p, 200, "") }, ""},
		} {
			p := org.Person(t, tenants.RoleNurse, org.North)
			c.refused(p)
			denied := "SELECT count(*) FROM %s.audit_entry WHERE actor_id = $1 AND outcome = 'denied'"
			n := cell.Count(t, fmt.Sprintf(denied, org.Role), p.ID)
			as := cell.Count(t, fmt.Sprintf(denied, org.Role)+" AND action = $2 AND session_id = $3 AND record_id = $4", p.ID, c.action, p.SessionID, p.SessionID.String())
			want := 1
			if c.action == "" {
				want = 0
			}
			if n != want || as != want {
				t.Errorf("%s: %d entries, %d of them as %q", name, n, as, c.action)
			}
			if n := cell.Count(t, fmt.Sprintf(denied, stranger.Role), p.ID); n != 0 {
				t.Errorf("%s: %d entries with strangers", name, n)
			}
		}
	})
	t.Run("no credential", func(t *testing.T) {
		if a := cell.Do(t, "GET", "/t/harbor/v1/clients", nil); a.Status != 401 || a.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("answered %d %v", a.Status, a.Header)
		}
		if a := cell.Do(t, "GET", "/t/nobody-here/v1/clients", nil); a.Status != 401 {
			t.Errorf("an unknown organization answers %d to a stranger: it must look like a known one", a.Status)
		}
	})
	t.Run("disabled member", func(t *testing.T) {
		p := org.Person(t, tenants.RoleNurse, org.North)
		expect(t, p, 200, "")
		cell.Exec(t, "UPDATE "+org.Role+".member SET status = 'disabled' WHERE identity_id = $1", p.ID)
		expect(t, p, 404, tenants.KindNotFound)
	})
}

func TestIdleAndOldSessionsEnd(t *testing.T) {
	cell := dptest.Start(t)
	org := cell.Tenant(t, "harbor", tenants.Residential)
	for name, age := range map[string]string{"idle": "last_seen = now() - interval '16 minutes'", "old": "first_seen = now() - interval '13 hours'"} {
		t.Run(name, func(t *testing.T) {
			p := org.Person(t, tenants.RoleNurse, org.North)
			expect(t, p, 200, "")
			// Only the superuser, with triggers off, can date a session back.
			cell.Exec(t, "ALTER TABLE "+org.Role+".member_session DISABLE TRIGGER member_session_touch")
			cell.Exec(t, "UPDATE "+org.Role+".member_session SET "+age+" WHERE session_id = $1", p.SessionID)
			cell.Exec(t, "ALTER TABLE "+org.Role+".member_session ENABLE TRIGGER member_session_touch")
			expect(t, p, 401, tenants.KindUnauthenticated)
			expect(t, p, 401, tenants.KindUnauthenticated)
		})
	}
}

func TestSessionsAreSeenAndEnded(t *testing.T) {
	cell := dptest.Start(t)
	org := cell.Tenant(t, "harbor", tenants.Residential)
	nurse := org.Person(t, tenants.RoleNurse, org.North)
	expect(t, nurse, 200, "")
	expect(t, nurse, 200, "")
	logins := "SELECT count(*) FROM " + org.Role + ".audit_entry WHERE action = 'session.login' AND session_id = $1"
	if n := cell.Count(t, logins, nurse.SessionID); n != 1 {
		t.Errorf("the trail has %d logins of one session", n)
	}
	var page struct {
		Items []struct {
			ID     tenants.ID
			IP     string
			Device string
		}
	}
	org.Owner.Do(t, "GET", "/sessions", nil).Into(t, http.StatusOK, &page)
	found := false
	for _, s := range page.Items {
		found = found || s.ID == nurse.SessionID && s.IP == "203.0.113.7"
	}
	if !found {
		t.Fatalf("the nurse's session is not in the list: %+v", page.Items)
	}
	org.Owner.Do(t, "DELETE", "/sessions/"+nurse.SessionID.String(), nil).Into(t, http.StatusNoContent, nil)
	expect(t, nurse, 401, tenants.KindUnauthenticated)
	org.Owner.Do(t, "DELETE", "/sessions/"+nurse.SessionID.String(), nil).Into(t, http.StatusNotFound, nil)
	expect(t, org.Owner, 200, "")
	org.Owner.Do(t, "DELETE", "/session", nil).Into(t, http.StatusNoContent, nil)
	expect(t, org.Owner, 401, tenants.KindUnauthenticated)
	if n := cell.Count(t, "SELECT count(*) FROM "+org.Role+".audit_entry WHERE action = 'session.logout' AND outcome = 'ok'"); n != 1 {
		t.Errorf("the trail has %d logouts", n)
	}
}

func TestTheGateDecides(t *testing.T) {
	cell := dptest.Start(t)
	org, other := cell.Tenant(t, "harbor", tenants.Residential), cell.Tenant(t, "meadow", tenants.Residential)
	expect(t, org.Owner, 200, "")

	org.Open(tenants.GateReadOnly)
	expect(t, org.Owner, 200, "")
	if a := org.Owner.Do(t, "POST", "/clients", newClient(org.North, "Late")); a.Status != 403 {
		t.Errorf("a write while read-only answers %d", a.Status)
	}
	if a := org.Owner.Do(t, "POST", "/clients/search", m{"family": "Late"}); a.Status != 200 {
		t.Errorf("a search while read-only answers %d: %s", a.Status, a.Body)
	}
	for _, mode := range []tenants.GateMode{tenants.GateProbe, tenants.GateClosed} {
		org.Open(mode)
		expect(t, org.Owner, 403, tenants.KindGateClosed)
	}
	cell.Routes.Withdraw(org.Slug)
	expect(t, org.Owner, 403, tenants.KindGateClosed)
	if a := other.Owner.At(t, org.Slug, "GET", "/clients", nil); a.Status != 404 {
		t.Errorf("another organization's owner learns %d of a closed gate", a.Status)
	}
	org.Open(tenants.GateOpen)
	expect(t, org.Owner, 200, "")

	if a := org.Owner.Do(t, "GET", "/clients", nil, "Caresphere-Placement-Epoch", "6"); a.Status != http.StatusMisdirectedRequest {
		t.Errorf("an older placement answers %d", a.Status)
	}
}

// TestAClosedLoginClosesWarmConnections: even with its route still there, a tenant
// whose role may not log in is refused, on connections that were open too.
func TestAClosedLoginClosesWarmConnections(t *testing.T) {
	cell := dptest.Start(t)
	org := cell.Tenant(t, "harbor", tenants.Residential)
	expect(t, org.Owner, 200, "")
	cell.Exec(t, "ALTER ROLE "+org.Role+" NOLOGIN")
	cell.Exec(t, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", org.Role)
	deadline := time.Now().Add(5 * time.Second)
	for {
		a := org.Owner.Do(t, "GET", "/clients", nil)
		if a.Status == 200 {
			t.Fatal("a request succeeded after the login was shut")
		}
		if a.Status == 403 && a.Problem(t).Kind() == tenants.KindGateClosed {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("still %d after 5 s: %s", a.Status, a.Body)
		}
	}
	cell.Exec(t, "ALTER ROLE "+org.Role+" LOGIN")
	eventually(t, func() bool { return org.Owner.Do(t, "GET", "/clients", nil).Status == 200 })
}

func TestAClosedKeyClosesTheTenant(t *testing.T) {
	cell := dptest.Start(t)
	p := furnish(t, cell, "harbor")
	ctx := t.Context()
	if err := cell.KMS.Disable(ctx, keyName(p.ID)); err != nil {
		t.Fatal(err)
	}
	cell.Exec(t, "INSERT INTO cell.tenant_fence (tenant_id, gate_version) VALUES ($1, 1)", p.ID)
	cell.Exec(t, "SELECT pg_notify($1, $2)", tenantdb.GateChannel, tenantdb.HintTag(tenantdb.GateChannel, p.ID))
	eventually(t, func() bool {
		a := p.Owner.Do(t, "GET", p.at(""), nil)
		return a.Status == 403 && a.Problem(t).Kind() == tenants.KindGateClosed
	})
	if err := cell.KMS.Enable(ctx, keyName(p.ID)); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return p.Owner.Do(t, "GET", p.at(""), nil).Status == 200 })
}

func TestKratosDownAndBack(t *testing.T) {
	cell := dptest.Start(t)
	org := cell.Tenant(t, "harbor", tenants.Residential)
	cell.People.Down(true)
	a := org.Owner.Do(t, "GET", "/clients", nil)
	if a.Status != 503 || a.Header.Get("Retry-After") == "" {
		t.Errorf("without Kratos: %d %v", a.Status, a.Header)
	}
	cell.People.Down(false)
	expect(t, org.Owner, 200, "")
}

func TestSensitiveActionsAskKratosAgain(t *testing.T) {
	cell := dptest.Start(t)
	org := cell.Tenant(t, "harbor", tenants.Residential)
	nurse := org.Person(t, tenants.RoleNurse, org.North)
	expect(t, nurse, 200, "")
	expect(t, org.Owner, 200, "")
	before := cell.People.Asked()
	expect(t, org.Owner, 200, "")
	if cell.People.Asked() != before {
		t.Error("an ordinary request asked Kratos within the cache's time")
	}
	cell.People.End(org.Owner.Token)
	expect(t, org.Owner, 200, "")
	if a := org.Owner.Do(t, "DELETE", "/sessions/"+nurse.SessionID.String(), nil); a.Status != 401 {
		t.Errorf("a sensitive action on a session that ended at Kratos answers %d", a.Status)
	}
	expect(t, nurse, 200, "")
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatal("it did not come about within 5 s")
		}
	}
}
