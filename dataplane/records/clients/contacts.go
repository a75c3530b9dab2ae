package clients

import (
	"context"
	"strconv"
	"time"

	"github.com/caresphere/caresphere/dataplane/access"
	"github.com/caresphere/caresphere/dataplane/records"
	"github.com/caresphere/caresphere/dataplane/store"
	"github.com/caresphere/caresphere/internal/phi"
	"github.com/caresphere/caresphere/tenants"
)

// Contact is somebody to reach about a client.
type Contact struct {
	ID           tenants.ID `json:"id" format:"uuid" doc:"The contact's id"`
	Relationship string     `json:"relationship" enum:"spouse,partner,parent,child,sibling,guardian,proxy,friend,physician,other" doc:"Who this is to the client" example:"child"`
	Emergency    bool       `json:"emergency" doc:"Whether to call in an emergency"`
	Name         phi.Text   `json:"name" maxLength:"200" doc:"The contact's name" example:"Ines Alvarez"`
	Phone        phi.Text   `json:"phone,omitzero" required:"false" maxLength:"40" doc:"Telephone" example:"+1 312 555 0101"`
	Email        phi.Text   `json:"email,omitzero" required:"false" maxLength:"254" doc:"E-mail" example:"ines@example.com"`
	CreatedBy    tenants.ID `json:"created_by" format:"uuid" doc:"Who noted it"`
	CreatedAt    time.Time  `json:"created_at" doc:"When it was noted"`
}

// NewContact is what a contact is made of.
type NewContact struct {
	Relationship string   `json:"relationship" enum:"spouse,partner,parent,child,sibling,guardian,proxy,friend,physician,other" doc:"Who this is to the client" example:"child"`
	Emergency    bool     `json:"emergency,omitempty" doc:"Whether to call in an emergency"`
	Name         phi.Text `json:"name" minLength:"1" maxLength:"200" pattern:"\\S" patternDescription:"not blank" doc:"The contact's name" example:"Ines Alvarez"`
	Phone        phi.Text `json:"phone" required:"false" maxLength:"40" doc:"Telephone" example:"+1 312 555 0101"`
	Email        phi.Text `json:"email" required:"false" format:"email" maxLength:"254" doc:"E-mail" example:"ines@example.com"`
}

const contactTable = "client_contact"

// AddContact notes a contact of the client.
func (s Service) AddContact(ctx context.Context, actor tenants.Actor, once access.Once, client tenants.ID, in NewContact) (Contact, error) {
	var out Contact
	err := s.Door.Do(ctx, actor, tenants.PermClientUpdate,
		access.Target{Action: "contact.create", RecordType: recordType, RecordID: client},
		func(ctx context.Context, tx *access.Tx) error {
			facility, err := ofClient(ctx, tx, client)
			if err != nil {
				return err
			}
			id, repeat, err := tx.Claim(ctx, once)
			if err != nil {
				return err
			}
			tx.Note("contact", id.String())
			if repeat {
				row, err := tx.GetContact(ctx, store.GetContactParams{ID: id, ClientID: client, Facilities: tx.Actor.Facilities})
				if err != nil {
					return err
				}
				out, err = openContact(ctx, tx, row)
				return err
			}
			p := store.InsertContactParams{ID: id, ClientID: client, FacilityID: facility, Relationship: in.Relationship, Emergency: in.Emergency}
			err = sealAll(ctx, tx, contactTable, id, []sealed{
				{"name_sealed", in.Name, &p.NameSealed},
				{"phone_sealed", in.Phone, &p.PhoneSealed},
				{"email_sealed", in.Email, &p.EmailSealed},
			})
			if err != nil {
				return err
			}
			row, err := tx.InsertContact(ctx, p)
			if err != nil {
				return err
			}
			out, err = openContact(ctx, tx, row)
			return err
		})
	if err != nil {
		return Contact{}, err
	}
	return out, nil
}

// Contacts lists the client's contacts, oldest first.
func (s Service) Contacts(ctx context.Context, actor tenants.Actor, client tenants.ID, c records.Cursor) (records.Page[Contact], error) {
	var out records.Page[Contact]
	err := s.Door.Do(ctx, actor, tenants.PermClientRead,
		access.Target{Action: "contact.list", RecordType: recordType, RecordID: client},
		func(ctx context.Context, tx *access.Tx) error {
			if _, err := ofClient(ctx, tx, client); err != nil {
				return err
			}
			rows, err := tx.ListContacts(ctx, store.ListContactsParams{ClientID: client, Facilities: tx.Actor.Facilities, After: c.After, PageSize: c.Probe()})
			if err != nil {
				return err
			}
			out, err = records.Cut(c, rows, func(r store.ClientContact) tenants.ID { return r.ID },
				func(r store.ClientContact) (Contact, error) { return openContact(ctx, tx, r) })
			tx.Note("count", strconv.Itoa(len(out.Items)))
			return err
		})
	if err != nil {
		return records.Page[Contact]{}, err
	}
	return out, nil
}

func openContact(ctx context.Context, tx *access.Tx, r store.ClientContact) (Contact, error) {
	c := Contact{ID: r.ID, Relationship: r.Relationship, Emergency: r.Emergency, CreatedBy: r.CreatedBy, CreatedAt: r.CreatedAt}
	err := openAll(ctx, tx, contactTable, r.ID, []opened{
		{"name_sealed", r.NameSealed, &c.Name},
		{"phone_sealed", r.PhoneSealed, &c.Phone},
		{"email_sealed", r.EmailSealed, &c.Email},
	})
	if err != nil {
		return Contact{}, err
	}
	return c, nil
}
