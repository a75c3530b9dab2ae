package access_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/caresphere/caresphere/dataplane/access"
	"github.com/caresphere/caresphere/dataplane/dptest"
	"github.com/caresphere/caresphere/dataplane/store"
	"github.com/caresphere/caresphere/internal/phi"
	"github.com/caresphere/caresphere/tenants"
)

func TestTheDoorRefusesWhoIsNobody(t *testing.T) {
	cell := dptest.Start(t)
	org := cell.Tenant(t, "harbor", tenants.Residential)
	actor := org.Actor(t, org.Owner)
	nothing := func(context.Context, *access.Tx) error { return nil }
	target := access.Target{Action: "facility.list", RecordType: "facility"}
	if err := cell.Door.Do(t.Context(), actor, tenants.PermFacilityRead, target, nothing); err != nil {
		t.Fatalf("the owner is refused: %v", err)
	}
	for name, change := range map[string]func(*tenants.Actor){
		"no identity":  func(a *tenants.Actor) { a.ID = tenants.NilID },
		"no tenant":    func(a *tenants.Actor) { a.TenantID = tenants.NilID },
		"no session":   func(a *tenants.Actor) { a.SessionID = tenants.NilID },
		"the system":   func(a *tenants.Actor) { a.Kind = tenants.ActorSystem },
		"an operator":  func(a *tenants.Actor) { a.Kind = tenants.ActorOperator },
		"no role":      func(a *tenants.Actor) { a.Role = "" },
		"unknown role": func(a *tenants.Actor) { a.Role = "root" },
	} {
		changed := actor
		change(&changed)
		err := cell.Door.Do(t.Context(), changed, tenants.PermFacilityRead, target, func(context.Context, *access.Tx) error {
			t.Errorf("%s came in", name)
			return nil
		})
		if err == nil {
			t.Errorf("%s was not refused", name)
		}
	}
	// The own session is what every role may look at, and nobody else's.
	other := access.Target{Action: "session.read", RecordType: "session", RecordID: tenants.NewID()}
	if err := cell.Door.DoOwn(t.Context(), actor, other, nothing); !tenants.IsKind(err, tenants.KindForbidden) {
		t.Errorf("another session as one's own: %v", err)
	}
}

// TestAStaleAuthorizationIsReadAgain decides with what was true before a change.
func TestAStaleAuthorizationIsReadAgain(t *testing.T) {
	cell := dptest.Start(t)
	org := cell.Tenant(t, "harbor", tenants.Residential)
	nurse := org.Person(t, tenants.RoleNurse, org.North)
	stale := org.Actor(t, nurse)
	cell.Exec(t, "INSERT INTO "+org.Role+".member_facility (identity_id, facility_id, assigned_by) VALUES ($1, $2, $1)", nurse.ID, org.South)
	ran := 0
	err := cell.Door.Do(t.Context(), stale, tenants.PermClientRead, access.Target{Action: "client.list", RecordType: "client"},
		func(_ context.Context, tx *access.Tx) error {
			ran++
			if !tx.Actor.MaySee(org.South) || tx.Actor.AuthzVersion == stale.AuthzVersion {
				t.Error("fn ran with the authorization of before")
			}
			return nil
		})
	if err != nil || ran != 1 {
		t.Errorf("fn ran %d times: %v", ran, err)
	}
	cell.Exec(t, "UPDATE "+org.Role+".member SET role = 'staff' WHERE identity_id = $1", nurse.ID)
	err = cell.Door.Do(t.Context(), stale, tenants.PermClientCreate, access.Target{Action: "client.create", RecordType: "client"},
		func(context.Context, *access.Tx) error { t.Error("a nurse of before made a client"); return nil })
	if !tenants.IsKind(err, tenants.KindForbidden) {
		t.Errorf("a role that was taken away: %v", err)
	}
}

// TestATransactionEndsWithItsFunction keeps the handle and uses it afterwards.
func TestATransactionEndsWithItsFunction(t *testing.T) {
	cell := dptest.Start(t)
	org := cell.Tenant(t, "harbor", tenants.Residential)
	actor := org.Actor(t, org.Owner)
	var kept *access.Tx
	err := cell.Door.Do(t.Context(), actor, tenants.PermFacilityRead, access.Target{Action: "facility.list", RecordType: "facility"},
		func(ctx context.Context, tx *access.Tx) error {
			kept = tx
			_, err := tx.GetFacility(ctx, org.North)
			return err
		})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kept.GetFacility(t.Context(), org.North); err == nil {
		t.Error("a handle reads after its transaction")
	}
	if _, err := kept.ListFacilities(t.Context(), store.ListFacilitiesParams{Facilities: actor.Facilities, PageSize: 1}); err == nil {
		t.Error("a handle lists after its transaction")
	}
}

// TestAFailureRollsBack fails after a write, and panics after one.
func TestAFailureRollsBack(t *testing.T) {
	cell := dptest.Start(t)
	org := cell.Tenant(t, "harbor", tenants.Residential)
	actor := org.Actor(t, org.Owner)
	write := func(after func() error) error {
		return cell.Door.Do(t.Context(), actor, tenants.PermFacilityManage, access.Target{Action: "facility.create", RecordType: "facility"},
			func(ctx context.Context, tx *access.Tx) error {
				if _, err := tx.InsertFacility(ctx, store.InsertFacilityParams{ID: tenants.NewID(), Name: tenants.NewID().String(), Timezone: "UTC"}); err != nil {
					return err
				}
				return after()
			})
	}
	if err := write(func() error { return errors.New("planted") }); err == nil {
		t.Error("the failure is lost")
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic is lost")
			}
		}()
		_ = write(func() error { panic("planted") })
	}()
	if n := cell.Count(t, "SELECT count(*) FROM "+org.Role+".facility"); n != 2 {
		t.Errorf("there are %d facilities", n)
	}
	if err := write(func() error { return nil }); err != nil {
		t.Errorf("the pool serves no more: %v", err)
	}
}

// TestManyAtOnceWaitForKeysWithoutDeadlock fills a tenant's connections with
// requests that all need a data key nobody has loaded.
func TestManyAtOnceWaitForKeysWithoutDeadlock(t *testing.T) {
	cell := dptest.Start(t)
	org := cell.Tenant(t, "harbor", tenants.Residential)
	actor := org.Actor(t, org.Owner)
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			err := cell.Door.Do(t.Context(), actor, tenants.PermClientRead, access.Target{Action: "client.read", RecordType: "client"},
				func(ctx context.Context, tx *access.Tx) error {
					row := tenants.NewID()
					sealed, err := tx.Seal(ctx, "client", "x", row, phi.NewText("value"))
					if err != nil {
						return err
					}
					if _, err := tx.Open(ctx, "client", "x", tenants.NewID(), sealed); err == nil {
						return errors.New("a value opened at another row")
					}
					_, err = tx.Open(ctx, "client", "x", row, sealed)
					return err
				})
			if err != nil {
				t.Errorf("one of many: %v", err)
			}
		})
	}
	wg.Wait()
	if n := cell.Count(t, "SELECT count(*) FROM "+org.Role+".data_key WHERE purpose = 'field'"); n != 1 {
		t.Errorf("%d field keys were made for one day", n)
	}
}
