package api_test

import (
	"net/http"
	"testing"

	"github.com/caresphere/caresphere/dataplane/dptest"
	"github.com/caresphere/caresphere/tenants"
)

type m = map[string]any

func newClient(facility tenants.ID, family string) m {
	return m{"facility_id": facility, "name": m{"given": "Rosa", "family": family}, "birth_date": "1948-03-11"}
}

func TestANurseWritesAndReadsPHI(t *testing.T) {
	cell := dptest.Start(t)
	north := cell.Tenant(t, "harbor", tenants.Residential)
	nurse := north.Person(t, tenants.RoleNurse, north.North)

	made := nurse.Do(t, "POST", "/clients", m{"facility_id": north.North, "name": m{"given": "Rosa", "family": "Alvarez"},
		"birth_date": "1948-03-11", "record_number": "MRN-00412", "phone": "+1 312 555 0100", "address": "12 Lake Street", "sex": "female"})
	id := made.ID(t)
	var got struct {
		Name         struct{ Given, Family string }
		BirthDate    string `json:"birth_date"`
		RecordNumber string `json:"record_number"`
		Version      int64
		Gender       *string
	}
	nurse.Do(t, "GET", "/clients/"+id.String(), nil).Into(t, http.StatusOK, &got)
	if got.Name.Family != "Alvarez" || got.BirthDate != "1948-03-11" || got.RecordNumber != "MRN-00412" || got.Version != 1 || got.Gender != nil {
		t.Fatalf("read %+v", got)
	}
	for _, query := range []m{{"family": " ALVAREZ "}, {"record_number": "mrn 00412"}, {"birth_date": "1948-03-11"}, {"family": "Alvarez", "birth_date": "1948-03-11"}} {
		var page struct{ Items []struct{ ID tenants.ID } }
		nurse.Do(t, "POST", "/clients/search", query).Into(t, http.StatusOK, &page)
		if len(page.Items) != 1 || page.Items[0].ID != id {
			t.Fatalf("search by %v found %v", query, page.Items)
		}
	}
	note := nurse.Do(t, "POST", "/clients/"+id.String()+"/notes", m{"shift": "night", "body": "Slept well."}).ID(t)
	var n struct{ Body string }
	nurse.Do(t, "GET", "/notes/"+note.String(), nil).Into(t, http.StatusOK, &n)
	if n.Body != "Slept well." {
		t.Fatalf("the note reads %q", n.Body)
	}
}
