package api_test

import (
	"net/http"
	"slices"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"github.com/caresphere/caresphere/dataplane/dptest"
	"github.com/caresphere/caresphere/tenants"
)

func operationID(op any) string {
	if o, ok := op.(*huma.Operation); ok && o != nil {
		return o.OperationID
	}
	return ""
}

// absent is a record that exists nowhere.
func absent(t *testing.T, p *dptest.Person) string {
	t.Helper()
	a := p.Do(t, "GET", "/clients/"+tenants.NewID().String(), nil)
	if a.Status != http.StatusNotFound {
		t.Fatalf("an absent client answers %d: %s", a.Status, a.Body)
	}
	return a.Problem(t).Detail
}

// TestNoRouteCrossesTenants asks for every route of one tenant with the session of
// another's owner, through that tenant's path and through the own one with its
// ids, beside the request that succeeds.
func TestNoRouteCrossesTenants(t *testing.T) {
	cell := dptest.Start(t)
	here, there := furnish(t, cell, "harbor"), furnish(t, cell, "meadow")
	nothing := absent(t, there.Owner)
	for _, r := range routes() {
		t.Run(r.id, func(t *testing.T) {
			path, body := r.path(t, here), r.body(t, here)
			if a := there.Owner.At(t, here.Slug, r.method, path, body); a.Status != http.StatusNotFound || a.Problem(t).Detail != nothing {
				t.Errorf("another tenant's owner at the tenant's path got %d: %s", a.Status, a.Body)
			}
			if r.scoped || path != r.path(t, there) && r.id != "deleteSession" {
				if a := there.Owner.Do(t, r.method, path, body); a.Status != http.StatusNotFound || a.Problem(t).Detail != nothing {
					t.Errorf("another tenant's owner with the record's id at the own path got %d: %s", a.Status, a.Body)
				}
			}
			if r.id == "exportAudit" {
				return // its success needs the sealer; see TestTheTrailIsExported
			}
			if a := here.Owner.Do(t, r.method, path, body); a.Status != r.want {
				t.Errorf("the tenant's own owner got %d, not %d: %s", a.Status, r.want, a.Body)
			}
		})
	}
	if n := cell.Count(t, "SELECT count(*) FROM "+there.Role+".audit_entry WHERE action = 'session.stray' AND outcome = 'denied'"); n < len(routes()) {
		t.Errorf("%d attempts on another organization are in the trail of who made them, not %d", n, len(routes()))
	}
}

// TestNoRouteCrossesFacilities asks for what lies in the northern facility with a
// provider's or nurse's session of the southern one, then with one of the northern.
func TestNoRouteCrossesFacilities(t *testing.T) {
	cell := dptest.Start(t)
	p := furnish(t, cell, "harbor")
	for _, r := range routes() {
		if !r.scoped && !r.ofFacility {
			continue
		}
		i := slices.IndexFunc(tenants.AllRoles(), func(c tenants.Role) bool { return !c.TenantWide() && tenants.Allowed(c, r.perm) })
		if i < 0 {
			continue // only roles that reach every facility may do this
		}
		role := tenants.AllRoles()[i]
		t.Run(r.id, func(t *testing.T) {
			outside, inside := p.Person(t, role, p.South), p.Person(t, role, p.North)
			path, body := r.path(t, p), r.body(t, p)
			if a := outside.Do(t, r.method, path, body); a.Status != http.StatusNotFound || a.Problem(t).Detail != absent(t, outside) {
				t.Errorf("a %s of another facility got %d: %s", role, a.Status, a.Body)
			}
			if a := inside.Do(t, r.method, path, body); a.Status != r.want {
				t.Errorf("a %s of the facility got %d, not %d: %s", role, a.Status, r.want, a.Body)
			}
		})
	}
}

// TestListsHoldTheOwnFacilityAlone looks for a foreign record in every list.
func TestListsHoldTheOwnFacilityAlone(t *testing.T) {
	cell := dptest.Start(t)
	p := furnish(t, cell, "harbor")
	nurse := p.Person(t, tenants.RoleNurse, p.North)
	for _, ask := range []struct {
		method, path string
		body         any
		has          int
	}{
		{"GET", "/clients", nil, 1},
		{"POST", "/clients/search", m{"family": "Brown"}, 0},
		{"POST", "/clients/search", m{"family": "Alvarez"}, 1},
		{"POST", "/clients/search", m{"birth_date": "1948-03-11"}, 1},
		{"GET", "/facilities", nil, 1},
	} {
		var page struct{ Items []m }
		nurse.Do(t, ask.method, ask.path, ask.body).Into(t, http.StatusOK, &page)
		if len(page.Items) != ask.has {
			t.Errorf("%s %s %v shows a nurse %d records, not %d", ask.method, ask.path, ask.body, len(page.Items), ask.has)
		}
	}
}

// TestTheMatrixHolds goes through roles and operations cell by cell.
func TestTheMatrixHolds(t *testing.T) {
	cell := dptest.Start(t)
	p := furnish(t, cell, "harbor")
	for _, role := range tenants.AllRoles() {
		for _, r := range routes() {
			if r.id == "exportAudit" && tenants.Allowed(role, r.perm) {
				continue // see TestTheTrailIsExported
			}
			person := p.Person(t, role, p.North)
			a := person.Do(t, r.method, r.path(t, p), r.body(t, p))
			want := r.want
			if r.perm != "" && !tenants.Allowed(role, r.perm) {
				want = http.StatusForbidden
			}
			if a.Status != want {
				t.Errorf("%s as %s answers %d, not %d: %s", r.id, role, a.Status, want, a.Body)
			}
			if want == http.StatusForbidden && a.Problem(t).Kind() != tenants.KindForbidden {
				t.Errorf("%s as %s is refused as %s", r.id, role, a.Problem(t).Kind())
			}
		}
	}
	if n := cell.Count(t, "SELECT count(*) FROM "+p.Role+".audit_entry WHERE outcome = 'denied' AND detail->>'reason' = 'forbidden'"); n == 0 {
		t.Error("no denial is in the trail")
	}
}
