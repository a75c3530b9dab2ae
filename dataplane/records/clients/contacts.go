package clients

import (
	"context"
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

// contactPart is how the client's contacts are kept. in is what a new one is made of;
// reading needs none.
func contactPart(in NewContact) part[store.ClientContact, Contact] {
	return part[store.ClientContact, Contact]{
		name: "contact",
		insert: func(ctx context.Context, tx *access.Tx, id, client, facility tenants.ID) (store.ClientContact, error) {
			p := store.InsertContactParams{ID: id, ClientID: client, FacilityID: facility, Relationship: in.Relationship, Emergency: in.Emergency}
			err := sealAll(ctx, tx, contactTable, id, []sealed{
				{"name_sealed", in.Name, &p.NameSealed},
				{"phone_sealed", in.Phone, &p.PhoneSealed},
				{"email_sealed", in.Email, &p.EmailSealed},
			})
			if err != nil {
				return store.ClientContact{}, err
			}
			return tx.InsertContact(ctx, p)
		},
		get: func(ctx context.Context, tx *access.Tx, id, client tenants.ID) (store.ClientContact, error) {
			return tx.GetContact(ctx, store.GetContactParams{ID: id, ClientID: client, Facilities: tx.Actor.Facilities})
		},
		open: openContact,
	}
}

// AddContact notes a contact of the client.
func (s Service) AddContact(ctx context.Context, actor tenants.Actor, once access.Once, client tenants.ID, in NewContact) (Contact, error) {
	return addPart(ctx, s, actor, once, client, contactPart(in))
}

// Contacts lists the client's contacts, oldest first.
func (s Service) Contacts(ctx context.Context, actor tenants.Actor, client tenants.ID, c records.Cursor) (records.Page[Contact], error) {
	return listParts(ctx, s, actor, client, c, contactPart(NewContact{}), func(ctx context.Context, tx *access.Tx) ([]store.ClientContact, error) {
		return tx.ListContacts(ctx, store.ListContactsParams{ClientID: client, Facilities: tx.Actor.Facilities, After: c.After, PageSize: c.Probe()})
	}, func(r store.ClientContact) tenants.ID { return r.ID })
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
