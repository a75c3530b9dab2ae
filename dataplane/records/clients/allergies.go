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

// Allergy is something that a client must not be given.
type Allergy struct {
	ID        tenants.ID `json:"id" format:"uuid" doc:"The allergy's id"`
	Severity  string     `json:"severity" enum:"mild,moderate,severe,unknown" doc:"How bad a reaction is" example:"severe"`
	Substance phi.Text   `json:"substance" maxLength:"200" doc:"To what" example:"Penicillin"`
	Reaction  phi.Text   `json:"reaction,omitzero" required:"false" maxLength:"500" doc:"What happens" example:"Hives"`
	CreatedBy tenants.ID `json:"created_by" format:"uuid" doc:"Who noted it"`
	CreatedAt time.Time  `json:"created_at" doc:"When it was noted"`
}

// NewAllergy is what an allergy is made of.
type NewAllergy struct {
	Severity  string   `json:"severity" enum:"mild,moderate,severe,unknown" doc:"How bad a reaction is" example:"severe"`
	Substance phi.Text `json:"substance" minLength:"1" maxLength:"200" pattern:"\\S" patternDescription:"not blank" doc:"To what" example:"Penicillin"`
	Reaction  phi.Text `json:"reaction" required:"false" maxLength:"500" doc:"What happens" example:"Hives"`
}

const allergyTable = "client_allergy"

// allergyPart is how the client's allergies are kept. in is what a new one is made of;
// reading needs none.
func allergyPart(in NewAllergy) part[store.ClientAllergy, Allergy] {
	return part[store.ClientAllergy, Allergy]{
		name: "allergy",
		insert: func(ctx context.Context, tx *access.Tx, id, client, facility tenants.ID) (store.ClientAllergy, error) {
			p := store.InsertAllergyParams{ID: id, ClientID: client, FacilityID: facility, Severity: in.Severity}
			err := sealAll(ctx, tx, allergyTable, id, []sealed{
				{"substance_sealed", in.Substance, &p.SubstanceSealed},
				{"reaction_sealed", in.Reaction, &p.ReactionSealed},
			})
			if err != nil {
				return store.ClientAllergy{}, err
			}
			return tx.InsertAllergy(ctx, p)
		},
		get: func(ctx context.Context, tx *access.Tx, id, client tenants.ID) (store.ClientAllergy, error) {
			return tx.GetAllergy(ctx, store.GetAllergyParams{ID: id, ClientID: client, Facilities: tx.Actor.Facilities})
		},
		open: openAllergy,
	}
}

// AddAllergy notes an allergy of the client.
func (s Service) AddAllergy(ctx context.Context, actor tenants.Actor, once access.Once, client tenants.ID, in NewAllergy) (Allergy, error) {
	return addPart(ctx, s, actor, once, client, allergyPart(in))
}

// Allergies lists the client's allergies, oldest first.
func (s Service) Allergies(ctx context.Context, actor tenants.Actor, client tenants.ID, c records.Cursor) (records.Page[Allergy], error) {
	return listParts(ctx, s, actor, client, c, allergyPart(NewAllergy{}), func(ctx context.Context, tx *access.Tx) ([]store.ClientAllergy, error) {
		return tx.ListAllergies(ctx, store.ListAllergiesParams{ClientID: client, Facilities: tx.Actor.Facilities, After: c.After, PageSize: c.Probe()})
	}, func(r store.ClientAllergy) tenants.ID { return r.ID })
}

func openAllergy(ctx context.Context, tx *access.Tx, r store.ClientAllergy) (Allergy, error) {
	a := Allergy{ID: r.ID, Severity: r.Severity, CreatedBy: r.CreatedBy, CreatedAt: r.CreatedAt}
	err := openAll(ctx, tx, allergyTable, r.ID, []opened{
		{"substance_sealed", r.SubstanceSealed, &a.Substance},
		{"reaction_sealed", r.ReactionSealed, &a.Reaction},
	})
	if err != nil {
		return Allergy{}, err
	}
	return a, nil
}
