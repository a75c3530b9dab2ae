// Package facilities keeps a tenant's places of care.
//
// It owns their names and time zones. It trusts the door for who acts; a facility
// is never deleted, and one outside the actor's scope does not exist for them.
package facilities

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/dataplane/access"
	"github.com/caresphere/caresphere/dataplane/records"
	"github.com/caresphere/caresphere/dataplane/store"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/tenants"
)

// Facility is one place of care.
type Facility struct {
	ID        tenants.ID `json:"id" format:"uuid" doc:"The facility's id" example:"0192f3a1-7c1e-7d3a-9b60-3f1c5a2e8d11"`
	Name      string     `json:"name" maxLength:"200" doc:"Unique in the organization" example:"Harbor House"`
	Timezone  string     `json:"timezone" maxLength:"64" doc:"IANA time zone" example:"America/Chicago"`
	Version   int64      `json:"version" doc:"Rises with each change; send it back to change the record" example:"1"`
	CreatedAt time.Time  `json:"created_at" doc:"When it was made"`
}

// NewFacility is what a facility is made of.
type NewFacility struct {
	Name     string `json:"name" minLength:"1" maxLength:"200" pattern:"^\\S(.*\\S)?$" patternDescription:"text without space at its ends" doc:"Unique in the organization" example:"Harbor House"`
	Timezone string `json:"timezone,omitempty" maxLength:"64" doc:"IANA time zone; UTC if absent" example:"America/Chicago"`
}

// FacilityChange is what may change; an absent field stays.
type FacilityChange struct {
	Version  int64   `json:"version" minimum:"1" doc:"The version that was read" example:"1"`
	Name     *string `json:"name,omitempty" minLength:"1" maxLength:"200" pattern:"^\\S(.*\\S)?$" patternDescription:"text without space at its ends" doc:"Unique in the organization" example:"Harbor House"`
	Timezone *string `json:"timezone,omitempty" minLength:"1" maxLength:"64" doc:"IANA time zone" example:"America/Chicago"`
}

// Service keeps facilities.
type Service struct{ Door *access.Door }

const recordType = "facility"

// Create makes a facility. Errors: KindInvalid, KindConflict for a name that is
// taken, and the door's.
func (s Service) Create(ctx context.Context, actor tenants.Actor, once access.Once, in NewFacility) (Facility, error) {
	if in.Timezone == "" {
		in.Timezone = "UTC"
	}
	if err := checkTimezone(in.Timezone); err != nil {
		return Facility{}, err
	}
	var out Facility
	err := s.Door.Do(ctx, actor, tenants.PermFacilityManage, access.Target{Action: "facility.create", RecordType: recordType},
		func(ctx context.Context, tx *access.Tx) error {
			id, repeat, err := tx.Claim(ctx, once)
			if err != nil {
				return err
			}
			tx.About(id, id)
			var row store.Facility
			if repeat {
				row, err = tx.GetFacility(ctx, id)
			} else {
				row, err = tx.InsertFacility(ctx, store.InsertFacilityParams{ID: id, Name: in.Name, Timezone: in.Timezone})
				tx.AuthzChanged()
			}
			out = render(row)
			return taken(err)
		})
	return shown(out, err)
}

// Get returns one facility of the actor's scope.
func (s Service) Get(ctx context.Context, actor tenants.Actor, id tenants.ID) (Facility, error) {
	var out Facility
	err := s.Door.Do(ctx, actor, tenants.PermFacilityRead,
		access.Target{Action: "facility.read", RecordType: recordType, RecordID: id, FacilityID: id},
		func(ctx context.Context, tx *access.Tx) error {
			row, err := tx.GetFacility(ctx, id)
			out = render(row)
			return err
		})
	return shown(out, err)
}

// List returns the facilities of the actor's scope, oldest first.
func (s Service) List(ctx context.Context, actor tenants.Actor, c records.Cursor) (records.Page[Facility], error) {
	var out records.Page[Facility]
	err := s.Door.Do(ctx, actor, tenants.PermFacilityRead, access.Target{Action: "facility.list", RecordType: recordType},
		func(ctx context.Context, tx *access.Tx) error {
			rows, err := tx.ListFacilities(ctx, store.ListFacilitiesParams{Facilities: tx.Actor.Facilities, After: c.After, PageSize: c.Probe()})
			if err != nil {
				return err
			}
			out, err = records.Cut(c, rows, func(r store.Facility) tenants.ID { return r.ID },
				func(r store.Facility) (Facility, error) { return render(r), nil })
			tx.Note("count", strconv.Itoa(len(out.Items)))
			return err
		})
	if err != nil {
		return records.Page[Facility]{}, err
	}
	return out, nil
}

// Update changes a facility. KindConflict when the version is not the current one.
func (s Service) Update(ctx context.Context, actor tenants.Actor, id tenants.ID, in FacilityChange) (Facility, error) {
	if in.Timezone != nil {
		if err := checkTimezone(*in.Timezone); err != nil {
			return Facility{}, err
		}
	}
	var out Facility
	err := s.Door.Do(ctx, actor, tenants.PermFacilityManage,
		access.Target{Action: "facility.update", RecordType: recordType, RecordID: id, FacilityID: id},
		func(ctx context.Context, tx *access.Tx) error {
			row, err := tx.GetFacility(ctx, id)
			if err != nil {
				return err
			}
			if in.Name != nil {
				row.Name = *in.Name
			}
			if in.Timezone != nil {
				row.Timezone = *in.Timezone
			}
			row, err = tx.UpdateFacility(ctx, store.UpdateFacilityParams{Name: row.Name, Timezone: row.Timezone, ID: id, Version: in.Version})
			if errors.Is(err, pgx.ErrNoRows) {
				return tenants.NewError(tenants.KindConflict, "the facility was changed meanwhile: read it again")
			}
			out = render(row)
			return taken(err)
		})
	return shown(out, err)
}

func checkTimezone(name string) error {
	if _, err := time.LoadLocation(name); err != nil || name == "Local" {
		return tenants.Invalid("body.timezone", "must be an IANA time zone")
	}
	return nil
}

func taken(err error) error {
	if pg.IsUnique(err, "facility_name_unique") {
		return tenants.WrapError(tenants.KindConflict, "a facility with this name exists", err)
	}
	return err
}

func render(r store.Facility) Facility {
	return Facility{ID: r.ID, Name: r.Name, Timezone: r.Timezone, Version: r.Version, CreatedAt: r.CreatedAt}
}

// shown lets nothing out that came with an error.
func shown(f Facility, err error) (Facility, error) {
	if err != nil {
		return Facility{}, err
	}
	return f, nil
}
