package clients

import (
	"context"
	"strconv"

	"github.com/caresphere/caresphere/dataplane/access"
	"github.com/caresphere/caresphere/dataplane/records"
	"github.com/caresphere/caresphere/dataplane/store"
	"github.com/caresphere/caresphere/internal/phi"
	"github.com/caresphere/caresphere/tenants"
)

// Transfer moves a client to another facility and notes it in the history of
// placements. Both facilities must be in the actor's scope. Contacts, allergies
// and the care team follow; notes stay where they were written. A repeat with the
// same key changes nothing.
func (s Service) Transfer(ctx context.Context, actor tenants.Actor, once access.Once, id tenants.ID, in Transfer) (Client, error) {
	var out Client
	err := s.Door.Do(ctx, actor, tenants.PermClientTransfer,
		access.Target{Action: "client.transfer", RecordType: recordType, RecordID: id, FacilityID: in.FacilityID},
		func(ctx context.Context, tx *access.Tx) error {
			from, err := tx.LockClient(ctx, store.LockClientParams{ID: id, Facilities: tx.Actor.Facilities})
			if err != nil {
				return err
			}
			_, repeat, err := tx.ClaimAs(ctx, once, id)
			if err != nil {
				return err
			}
			if !repeat {
				if err := move(ctx, tx, id, from, in); err != nil {
					return taken(err)
				}
			}
			out, err = get(ctx, tx, id)
			return err
		})
	return shown(out, err)
}

func move(ctx context.Context, tx *access.Tx, id, from tenants.ID, in Transfer) error {
	if from == in.FacilityID {
		return tenants.NewError(tenants.KindConflict, "the client is placed there already")
	}
	tx.Note("from_facility", from.String())
	moved, err := tx.MoveClient(ctx, store.MoveClientParams{ToFacility: in.FacilityID, ID: id, Facilities: tx.Actor.Facilities})
	if err != nil {
		return err
	}
	if moved != 1 {
		return tenants.NotFound()
	}
	return place(ctx, tx, id, in.FacilityID, &from, in.Reason)
}

// place adds a row to the history of placements.
func place(ctx context.Context, tx *access.Tx, client, facility tenants.ID, from *tenants.ID, reason phi.Text) error {
	id := tenants.NewID()
	sealed, err := tx.Seal(ctx, "client_placement", "reason_sealed", id, reason)
	if err != nil {
		return err
	}
	return tx.InsertPlacement(ctx, store.InsertPlacementParams{ID: id, ClientID: client, FacilityID: facility, FromFacilityID: from, ReasonSealed: sealed})
}

// Placements returns where the client was placed, oldest first, as far as it was
// in the actor's scope.
func (s Service) Placements(ctx context.Context, actor tenants.Actor, client tenants.ID) (records.Page[Placement], error) {
	var out records.Page[Placement]
	err := s.Door.Do(ctx, actor, tenants.PermClientRead, access.Target{Action: "client.placements", RecordType: recordType, RecordID: client},
		func(ctx context.Context, tx *access.Tx) error {
			if _, err := ofClient(ctx, tx, client); err != nil {
				return err
			}
			rows, err := tx.ListPlacements(ctx, store.ListPlacementsParams{ClientID: client, Facilities: tx.Actor.Facilities})
			if err != nil {
				return err
			}
			out, err = records.Cut(records.Cursor{Limit: records.MaxLimit}, rows, func(r store.ClientPlacement) tenants.ID { return r.ID },
				func(r store.ClientPlacement) (Placement, error) {
					reason, err := tx.Open(ctx, "client_placement", "reason_sealed", r.ID, r.ReasonSealed)
					return Placement{ID: r.ID, FacilityID: r.FacilityID, FromFacilityID: r.FromFacilityID, Reason: reason, PlacedBy: r.PlacedBy, PlacedAt: r.PlacedAt}, err
				})
			tx.Note("count", strconv.Itoa(len(out.Items)))
			return err
		})
	if err != nil {
		return records.Page[Placement]{}, err
	}
	return out, nil
}

// ofClient returns the facility of a client in the actor's scope, for what hangs
// on the client, and completes the audit entry with it.
func ofClient(ctx context.Context, tx *access.Tx, client tenants.ID) (tenants.ID, error) {
	facility, err := tx.ClientFacility(ctx, store.ClientFacilityParams{ID: client, Facilities: tx.Actor.Facilities})
	if err != nil {
		return tenants.NilID, err
	}
	tx.About(client, facility)
	return facility, nil
}
