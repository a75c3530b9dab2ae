package access_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/dataplane/access"
	"github.com/caresphere/caresphere/dataplane/dptest"
	"github.com/caresphere/caresphere/dataplane/store"
	"github.com/caresphere/caresphere/tenants"
)

// TestAnAuthorizationThatKeepsChangingIsNoSuccess changes what the owner may reach
// between the look at it and the transaction, a few times and without end: a request
// ends with its effect and its entry, or as unavailable with neither.
func TestAnAuthorizationThatKeepsChangingIsNoSuccess(t *testing.T) {
	cell := dptest.Start(t)
	org := cell.Tenant(t, "harbor", tenants.Residential)
	open := func(changes int) (id tenants.ID, ran int, err error) {
		id = tenants.NewID()
		err = cell.Door.Do(t.Context(), org.Actor(t, org.Owner), tenants.PermFacilityManage,
			access.Target{Action: "facility.create", RecordType: "facility", RecordID: id, Early: true},
			func(ctx context.Context, tx *access.Tx) error {
				// An early function is here before its transaction is.
				if ran++; ran <= changes {
					cell.Exec(t, "UPDATE "+org.Role+".member SET authz_version = authz_version + 1 WHERE identity_id = $1", org.Owner.ID)
				}
				_, err := tx.InsertFacility(ctx, store.InsertFacilityParams{ID: id, Name: id.String(), Timezone: "UTC"})
				return err
			})
		return id, ran, err
	}
	there := func(id tenants.ID) int {
		return cell.Count(t, "SELECT count(*) FROM "+org.Role+".facility WHERE id = $1", id)
	}
	entries := func(id tenants.ID, outcome string) int {
		return cell.Count(t, "SELECT count(*) FROM "+org.Role+".audit_entry WHERE record_id = $1 AND outcome = $2", id.String(), outcome)
	}
	for _, changes := range []int{0, 1, 2} {
		id, ran, err := open(changes)
		if err != nil || ran != changes+1 || there(id) != 1 || entries(id, "ok") != 1 || entries(id, "failed") != 0 {
			t.Errorf("%d changes: ran %d times, %v, %d facilities, %d entries", changes, ran, err, there(id), entries(id, "ok"))
		}
	}
	id, ran, err := open(1000)
	if !tenants.IsKind(err, tenants.KindUnavailable) || ran > 10 || there(id) != 0 || entries(id, "ok") != 0 || entries(id, "failed") != 1 {
		t.Errorf("changes without end: ran %d times, %v, %d facilities, %d entries of success", ran, err, there(id), entries(id, "ok"))
	}
}

// TestATrailIsReadWithTheAuthorizationOfNow changes the reader's authorization between
// the entry and the reading: it goes on with the new one, if that still allows it.
func TestATrailIsReadWithTheAuthorizationOfNow(t *testing.T) {
	cell := dptest.Start(t)
	org := cell.Tenant(t, "harbor", tenants.Residential)
	auditor := org.Person(t, tenants.RoleAuditor)
	reader, err := cell.Door.ReadTrail(t.Context(), org.Actor(t, auditor), tenants.PermAuditRead, access.Target{Action: "audit.search", RecordType: "audit"})
	if err != nil {
		t.Fatal(err)
	}
	seen := func() (n int, err error) {
		err = reader.Read(t.Context(), func(tx pgx.Tx) error {
			return tx.QueryRow(t.Context(), "SELECT count(*) FROM audit_entry").Scan(&n)
		})
		return n, err
	}
	if n, err := seen(); err != nil || n == 0 {
		t.Fatalf("%d entries, %v", n, err)
	}
	cell.Exec(t, "UPDATE "+org.Role+".member SET authz_version = authz_version + 1 WHERE identity_id = $1", auditor.ID)
	if n, err := seen(); err != nil || n == 0 {
		t.Errorf("after a change that allows it: %d entries, %v", n, err)
	}
	cell.Exec(t, "UPDATE "+org.Role+".member SET role = 'nurse' WHERE identity_id = $1", auditor.ID)
	if n, err := seen(); !tenants.IsKind(err, tenants.KindForbidden) || n != 0 {
		t.Errorf("after a change that does not: %d entries, %v", n, err)
	}
}
