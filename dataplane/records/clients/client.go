package clients

import (
	"time"

	"github.com/caresphere/caresphere/internal/phi"
	"github.com/caresphere/caresphere/tenants"
)

// Name is a person's name.
type Name struct {
	Given  phi.Text `json:"given" minLength:"1" maxLength:"100" pattern:"\\S" patternDescription:"not blank" doc:"Given name" example:"Rosa"`
	Family phi.Text `json:"family" minLength:"1" maxLength:"100" pattern:"\\S" patternDescription:"not blank" doc:"Family name" example:"Alvarez"`
}

// Client is a patient or resident.
type Client struct {
	ID           tenants.ID `json:"id" format:"uuid" doc:"The client's id"`
	FacilityID   tenants.ID `json:"facility_id" format:"uuid" doc:"Where the client is placed"`
	Status       string     `json:"status" enum:"active,discharged" doc:"Whether care goes on" example:"active"`
	Name         Name       `json:"name" doc:"The client's name"`
	BirthDate    phi.Date   `json:"birth_date" doc:"Date of birth" example:"1948-03-11"`
	Sex          phi.Text   `json:"sex,omitzero" required:"false" maxLength:"50" doc:"Sex, as recorded" example:"female"`
	Gender       phi.Text   `json:"gender,omitzero" required:"false" maxLength:"50" doc:"Gender, in the client's words" example:"woman"`
	RecordNumber phi.Text   `json:"record_number,omitzero" required:"false" maxLength:"64" doc:"The facility's own number, unique in it" example:"MRN-00412"`
	Phone        phi.Text   `json:"phone,omitzero" required:"false" maxLength:"40" doc:"Telephone" example:"+1 312 555 0100"`
	Address      phi.Text   `json:"address,omitzero" required:"false" maxLength:"500" doc:"Postal address" example:"12 Lake Street, Chicago IL"`
	Version      int64      `json:"version" doc:"Rises with each change; send it back to change the record" example:"1"`
	CreatedBy    tenants.ID `json:"created_by" format:"uuid" doc:"Who admitted the client"`
	CreatedAt    time.Time  `json:"created_at" doc:"When the record was made"`
	UpdatedBy    tenants.ID `json:"updated_by" format:"uuid" doc:"Who changed it last"`
	UpdatedAt    time.Time  `json:"updated_at" doc:"When it was changed last"`
}

// NewClient is what a client's record is made of.
type NewClient struct {
	FacilityID   tenants.ID `json:"facility_id" format:"uuid" doc:"Where the client is placed"`
	Name         Name       `json:"name" doc:"The client's name"`
	BirthDate    phi.Date   `json:"birth_date" doc:"Date of birth, not in the future" example:"1948-03-11"`
	Sex          phi.Text   `json:"sex" required:"false" maxLength:"50" doc:"Sex, as recorded" example:"female"`
	Gender       phi.Text   `json:"gender" required:"false" maxLength:"50" doc:"Gender, in the client's words" example:"woman"`
	RecordNumber phi.Text   `json:"record_number" required:"false" maxLength:"64" pattern:"^$|[\\p{L}\\p{N}]" patternDescription:"a letter or digit somewhere" doc:"The facility's own number, unique in it" example:"MRN-00412"`
	Phone        phi.Text   `json:"phone" required:"false" maxLength:"40" doc:"Telephone" example:"+1 312 555 0100"`
	Address      phi.Text   `json:"address" required:"false" maxLength:"500" doc:"Postal address" example:"12 Lake Street, Chicago IL"`
}

// ClientChange is what may change; an absent field stays, an empty one is cleared where
// the field is optional.
type ClientChange struct {
	Version      int64     `json:"version" minimum:"1" doc:"The version that was read" example:"1"`
	Status       *string   `json:"status,omitempty" enum:"active,discharged" doc:"Whether care goes on" example:"discharged"`
	Name         *Name     `json:"name,omitempty" doc:"The client's name"`
	BirthDate    *phi.Date `json:"birth_date,omitempty" doc:"Date of birth, not in the future" example:"1948-03-11"`
	Sex          *phi.Text `json:"sex,omitempty" maxLength:"50" doc:"Sex, as recorded" example:"female"`
	Gender       *phi.Text `json:"gender,omitempty" maxLength:"50" doc:"Gender, in the client's words" example:"woman"`
	RecordNumber *phi.Text `json:"record_number,omitempty" maxLength:"64" pattern:"^$|[\\p{L}\\p{N}]" patternDescription:"a letter or digit somewhere" doc:"The facility's own number, unique in it" example:"MRN-00412"`
	Phone        *phi.Text `json:"phone,omitempty" maxLength:"40" doc:"Telephone" example:"+1 312 555 0100"`
	Address      *phi.Text `json:"address,omitempty" maxLength:"500" doc:"Postal address" example:"12 Lake Street, Chicago IL"`
}

// ClientQuery finds clients exactly; at least one field is needed, and all given must match.
type ClientQuery struct {
	Family       phi.Text `json:"family" required:"false" maxLength:"100" doc:"Whole family name; case and spacing do not matter" example:"Alvarez"`
	RecordNumber phi.Text `json:"record_number" required:"false" maxLength:"64" doc:"Whole record number; case and punctuation do not matter" example:"MRN-00412"`
	BirthDate    phi.Date `json:"birth_date" required:"false" doc:"Date of birth" example:"1948-03-11"`
	Cursor       string   `json:"cursor,omitempty" maxLength:"36" pattern:"^([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})?$" patternDescription:"a cursor from a page" doc:"next_cursor of the page before"`
	Limit        int      `json:"limit,omitempty" minimum:"1" maximum:"200" default:"50" doc:"Records a page"`
}

// Placement is one stay of a client at a facility.
type Placement struct {
	ID             tenants.ID  `json:"id" format:"uuid" doc:"The placement's id"`
	FacilityID     tenants.ID  `json:"facility_id" format:"uuid" doc:"Where to"`
	FromFacilityID *tenants.ID `json:"from_facility_id,omitempty" format:"uuid" doc:"Where from; absent on admission"`
	Reason         phi.Text    `json:"reason,omitzero" required:"false" maxLength:"500" doc:"Why" example:"Needs step-down care"`
	PlacedBy       tenants.ID  `json:"placed_by" format:"uuid" doc:"Who placed the client"`
	PlacedAt       time.Time   `json:"placed_at" doc:"When"`
}

// Transfer moves a client to another facility.
type Transfer struct {
	FacilityID tenants.ID `json:"facility_id" format:"uuid" doc:"Where to"`
	Reason     phi.Text   `json:"reason" minLength:"1" maxLength:"500" pattern:"\\S" patternDescription:"not blank" doc:"Why" example:"Needs step-down care"`
}
