package api_test

import (
	"net/http"
	"sync"
	"testing"

	"github.com/caresphere/caresphere/dataplane/dptest"
	"github.com/caresphere/caresphere/tenants"
)

// TestRepeatsMakeOneRecord repeats every POST that creates, alone and at once.
func TestRepeatsMakeOneRecord(t *testing.T) {
	cell := dptest.Start(t)
	p := furnish(t, cell, "harbor")
	for _, r := range routes() {
		if r.method != "POST" || r.want != http.StatusCreated {
			continue
		}
		t.Run(r.id, func(t *testing.T) {
			path, body, key := r.path(t, p), r.body(t, p), unique()
			first := p.Owner.Do(t, "POST", path, body, "Idempotency-Key", key)
			id := first.ID(t)
			after := rows(t, p)
			again := p.Owner.Do(t, "POST", path, body, "Idempotency-Key", key)
			if again.Status != first.Status || again.ID(t) != id {
				t.Errorf("the repeat answers %d with %s, not %d with %s", again.Status, again.Body, first.Status, first.Body)
			}
			if n := rows(t, p); n != after {
				t.Errorf("the repeat wrote %d rows", n-after)
			}
			if a := p.Owner.Do(t, "POST", "/facilities", m{"name": unique()}, "Idempotency-Key", key); a.Status != 422 || a.Problem(t).Kind() != tenants.KindIdempotencyMismatch {
				t.Errorf("the key with another request answers %d: %s", a.Status, a.Body)
			}
			if n := rows(t, p); n != after {
				t.Errorf("the mismatch wrote %d rows", n-after)
			}
		})
	}
	t.Run("at once", func(t *testing.T) {
		key := unique()
		var wg sync.WaitGroup
		ids := make([]tenants.ID, 8)
		for i := range ids {
			wg.Go(func() {
				ids[i] = p.Owner.Do(t, "POST", "/clients", newClient(p.North, "Twin"), "Idempotency-Key", key).ID(t)
			})
		}
		wg.Wait()
		for _, id := range ids {
			if id != ids[0] {
				t.Errorf("%s and %s were made by one key", id, ids[0])
			}
		}
	})
	t.Run("of another member", func(t *testing.T) {
		key := unique()
		one := p.Owner.Do(t, "POST", "/clients", newClient(p.North, "Own"), "Idempotency-Key", key).ID(t)
		nurse := p.Person(t, tenants.RoleNurse, p.North)
		if two := nurse.Do(t, "POST", "/clients", newClient(p.North, "Own"), "Idempotency-Key", key).ID(t); two == one {
			t.Error("one member's key answered another's request")
		}
	})
}

func TestChangesNeedTheCurrentVersion(t *testing.T) {
	cell := dptest.Start(t)
	p := furnish(t, cell, "harbor")
	for _, c := range []struct {
		path string
		body m
	}{
		{p.at(""), m{"version": 1, "phone": "2"}},
		{"/facilities/" + p.North.String(), m{"version": 1, "name": "North Wing"}},
	} {
		p.Owner.Do(t, "PATCH", c.path, c.body).Into(t, http.StatusOK, nil)
		if a := p.Owner.Do(t, "PATCH", c.path, c.body); a.Status != 409 {
			t.Errorf("%s with the old version answers %d: %s", c.path, a.Status, a.Body)
		}
		c.body["version"] = 2
		p.Owner.Do(t, "PATCH", c.path, c.body).Into(t, http.StatusOK, nil)
	}
	nurse := p.Person(t, tenants.RoleNurse, p.North)
	if a := p.Owner.Do(t, "PATCH", "/members/"+nurse.ID.String(), m{"version": 1, "role": "staff"}); a.Status != 409 {
		t.Errorf("a member's old version answers %d: %s", a.Status, a.Body)
	}
	if a := p.Owner.Do(t, "PATCH", "/members/"+nurse.ID.String(), m{"version": 2, "role": "provider"}); a.Status != 422 {
		t.Errorf("a role of another care setting answers %d: %s", a.Status, a.Body)
	}
	p.Owner.Do(t, "PATCH", "/members/"+nurse.ID.String(), m{"version": 2, "role": "auditor"}).Into(t, http.StatusOK, nil)
	if a := nurse.Do(t, "POST", "/clients", newClient(p.North, "X")); a.Status != 403 {
		t.Errorf("the new role counts with the next request: %d", a.Status)
	}
	owner := p.cell.Count(t, "SELECT authz_version::int FROM "+p.Role+".member WHERE identity_id = $1", p.Owner.ID)
	if a := p.Owner.Do(t, "PATCH", "/members/"+p.Owner.ID.String(), m{"version": owner, "role": "staff"}); a.Status != 409 {
		t.Errorf("the last owner stepping down answers %d: %s", a.Status, a.Body)
	}
}

// TestTransfersKeepHistory moves a client: what hangs on it follows, notes stay.
func TestTransfersKeepHistory(t *testing.T) {
	cell := dptest.Start(t)
	p := furnish(t, cell, "harbor")
	north, south := p.Person(t, tenants.RoleNurse, p.North), p.Person(t, tenants.RoleNurse, p.South)
	key := unique()
	for range 2 {
		p.Owner.Do(t, "POST", p.at("/transfer"), m{"facility_id": p.South, "reason": "step-down"}, "Idempotency-Key", key).Into(t, http.StatusOK, nil)
	}
	if a := p.Owner.Do(t, "POST", p.at("/transfer"), m{"facility_id": p.South, "reason": "again"}); a.Status != 409 {
		t.Errorf("a transfer to the same place answers %d", a.Status)
	}
	north.Do(t, "GET", p.at(""), nil).Into(t, http.StatusNotFound, nil)
	type page struct{ Items []m }
	for path, want := range map[string]int{"/contacts": 1, "/allergies": 1, "/notes": 0, "/placements": 1} {
		var got page
		south.Do(t, "GET", p.at(path), nil).Into(t, http.StatusOK, &got)
		if len(got.Items) != want {
			t.Errorf("the new facility sees %d of %s, not %d", len(got.Items), path, want)
		}
	}
	var all page
	p.Owner.Do(t, "GET", p.at("/placements"), nil).Into(t, http.StatusOK, &all)
	if len(all.Items) != 2 || all.Items[1]["from_facility_id"] != p.North.String() || all.Items[1]["reason"] != "step-down" {
		t.Errorf("the history reads %v", all.Items)
	}
	// The note is read where it was written.
	north.Do(t, "GET", "/notes/"+p.note.String(), nil).Into(t, http.StatusOK, nil)
	south.Do(t, "GET", "/notes/"+p.note.String(), nil).Into(t, http.StatusNotFound, nil)
}

func TestNotesAreAmendedNotChanged(t *testing.T) {
	cell := dptest.Start(t)
	p := furnish(t, cell, "harbor")
	o := p.Owner
	amended := o.Do(t, "POST", p.at("/notes"), m{"shift": "day", "body": "Was restless.", "amends": p.note}).ID(t)
	var n struct{ Amends tenants.ID }
	o.Do(t, "GET", "/notes/"+amended.String(), nil).Into(t, http.StatusOK, &n)
	if n.Amends != p.note {
		t.Errorf("it amends %s", n.Amends)
	}
	for _, method := range []string{"PUT", "PATCH", "DELETE"} {
		if a := o.Do(t, method, "/notes/"+p.note.String(), nil); a.Status != http.StatusMethodNotAllowed && a.Status != http.StatusNotFound {
			t.Errorf("%s of a note answers %d", method, a.Status)
		}
	}
	other := "/clients/" + p.elsewhere.String() + "/notes"
	if a := o.Do(t, "POST", other, m{"shift": "day", "body": "x", "amends": p.note}); a.Status != 422 {
		t.Errorf("amending another client's note answers %d: %s", a.Status, a.Body)
	}
}

func TestListsComeInPages(t *testing.T) {
	cell := dptest.Start(t)
	p := furnish(t, cell, "harbor")
	for range 5 {
		p.Owner.Do(t, "POST", "/clients", newClient(p.North, "Page")).ID(t)
		p.Owner.Do(t, "POST", p.at("/notes"), m{"shift": "day", "body": "x"}).ID(t)
	}
	for path, want := range map[string]int{"/clients": 7, p.at("/notes"): 6, "/facilities": 2, "/members": 2} {
		seen := map[string]bool{}
		cursor := ""
		for pages := 0; ; pages++ {
			var page struct {
				Items []struct{ ID string }
				Next  string `json:"next_cursor"`
			}
			p.Owner.Do(t, "GET", path+"?limit=2&cursor="+cursor, nil).Into(t, http.StatusOK, &page)
			for _, i := range page.Items {
				if seen[i.ID] {
					t.Errorf("%s shows %s twice", path, i.ID)
				}
				seen[i.ID] = true
			}
			if cursor = page.Next; cursor == "" || pages > 10 {
				break
			}
		}
		if len(seen) != want {
			t.Errorf("%s has %d records, not %d", path, len(seen), want)
		}
	}
}
