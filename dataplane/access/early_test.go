package access_test

import (
	"context"
	"testing"

	"github.com/caresphere/caresphere/dataplane/access"
	"github.com/caresphere/caresphere/dataplane/dptest"
	"github.com/caresphere/caresphere/dataplane/store"
	"github.com/caresphere/caresphere/tenants"
)

// TestAnEarlyFunctionGetsNothingWithoutASession has functions that begin before the
// check of session and authorization: none of their statements runs unless it
// passes, whatever they make of the error.
func TestAnEarlyFunctionGetsNothingWithoutASession(t *testing.T) {
	cell := dptest.Start(t)
	org := cell.Tenant(t, "harbor", tenants.Residential)
	owner := org.Actor(t, org.Owner)
	var made []tenants.ID
	open := func(actor tenants.Actor, swallow bool) error {
		id := tenants.NewID()
		made = append(made, id)
		return cell.Door.Do(t.Context(), actor, tenants.PermFacilityManage,
			access.Target{Action: "facility.create", RecordType: "facility", RecordID: id, Early: true},
			func(ctx context.Context, tx *access.Tx) error {
				_, err := tx.InsertFacility(ctx, store.InsertFacilityParams{ID: id, Name: id.String(), Timezone: "UTC"})
				if swallow {
					return nil
				}
				return err
			})
	}
	there := func() int {
		return cell.Count(t, "SELECT count(*) FROM "+org.Role+".facility WHERE id = ANY ($1)", made)
	}
	if err := open(owner, false); err != nil || there() != 1 {
		t.Fatalf("the owner opens a facility: %v, %d", err, there())
	}
	stale := owner
	stale.AuthzVersion--
	if err := open(stale, true); err != nil || there() != 2 {
		t.Errorf("a stale authorization is read again: %v, %d", err, there())
	}
	cell.Exec(t, "UPDATE "+org.Role+".member_session SET revoked_at = now() WHERE session_id = $1", owner.SessionID)
	for _, swallow := range []bool{false, true} {
		if err := open(owner, swallow); !tenants.IsKind(err, tenants.KindUnauthenticated) || there() != 2 {
			t.Errorf("a revoked session: %v, %d", err, there())
		}
	}
	// Nor does it learn what comes before the first statement.
	early := func(context.Context, *access.Tx) error {
		return tenants.NewError(tenants.KindConflict, "told too much")
	}
	target := access.Target{Action: "facility.read", RecordType: "facility", Early: true}
	if err := cell.Door.Do(t.Context(), owner, tenants.PermFacilityRead, target, early); !tenants.IsKind(err, tenants.KindUnauthenticated) {
		t.Errorf("a revoked session and a function that fails at once: %v", err)
	}
}
