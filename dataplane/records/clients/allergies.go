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

// AddAllergy notes an allergy of the client.
func (s Service) AddAllergy(ctx context.Context, actor tenants.Actor, once access.Once, client tenants.ID, in NewAllergy) (Allergy, error) {
	var out Allergy
	err := s.Door.Do(ctx, actor, tenants.PermClientUpdate,
		access.Target{Action: "allergy.create", RecordType: recordType, RecordID: client},
		func(ctx context.Context, tx *access.Tx) error {
			facility, err := ofClient(ctx, tx, client)
			if err != nil {
				return err
			}
			id, repeat, err := tx.Claim(ctx, once)
			if err != nil {
				return err
			}
			tx.Note("allergy", id.String())
			if repeat {
				row, err := tx.GetAllergy(ctx, store.GetAllergyParams{ID: id, ClientID: client, Facilities: tx.Actor.Facilities})
				if err != nil {
					return err
				}
				out, err = openAllergy(ctx, tx, row)
				return err
			}
			p := store.InsertAllergyParams{ID: id, ClientID: client, FacilityID: facility, Severity: in.Severity}
			err = sealAll(ctx, tx, allergyTable, id, []sealed{
				{"substance_sealed", in.Substance, &p.SubstanceSealed},
				{"reaction_sealed", in.Reaction, &p.ReactionSealed},
			})
			if err != nil {
				return err
			}
			row, err := tx.InsertAllergy(ctx, p)
			if err != nil {
				return err
			}
			out, err = openAllergy(ctx, tx, row)
			return err
		})
	if err != nil {
		return Allergy{}, err
	}
	return out, nil
}

// Allergies lists the client's allergies, oldest first.
func (s Service) Allergies(ctx context.Context, actor tenants.Actor, client tenants.ID, c records.Cursor) (records.Page[Allergy], error) {
	var out records.Page[Allergy]
	err := s.Door.Do(ctx, actor, tenants.PermClientRead,
		access.Target{Action: "allergy.list", RecordType: recordType, RecordID: client},
		func(ctx context.Context, tx *access.Tx) error {
			if _, err := ofClient(ctx, tx, client); err != nil {
				return err
			}
			rows, err := tx.ListAllergies(ctx, store.ListAllergiesParams{ClientID: client, Facilities: tx.Actor.Facilities, After: c.After, PageSize: c.Probe()})
			if err != nil {
				return err
			}
			out, err = records.Cut(c, rows, func(r store.ClientAllergy) tenants.ID { return r.ID },
				func(r store.ClientAllergy) (Allergy, error) { return openAllergy(ctx, tx, r) })
			tx.Note("count", strconv.Itoa(len(out.Items)))
			return err
		})
	if err != nil {
		return records.Page[Allergy]{}, err
	}
	return out, nil
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
