// Package notes keeps shift notes: what was observed of a client in a shift.
//
// It owns their sealing and the rule that a note is written once: what is wrong is
// amended by another note that names it. It trusts the door for who acts. A note
// belongs to the facility where it was written, and is seen from there.
package notes

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/dataplane/access"
	"github.com/caresphere/caresphere/dataplane/records"
	"github.com/caresphere/caresphere/dataplane/store"
	"github.com/caresphere/caresphere/internal/phi"
	"github.com/caresphere/caresphere/tenants"
)

// Note is one shift note.
type Note struct {
	ID         tenants.ID  `json:"id" format:"uuid" doc:"The note's id"`
	ClientID   tenants.ID  `json:"client_id" format:"uuid" doc:"About whom"`
	FacilityID tenants.ID  `json:"facility_id" format:"uuid" doc:"Where it was written"`
	Shift      string      `json:"shift" enum:"day,evening,night" doc:"In which shift" example:"night"`
	Body       phi.Text    `json:"body" maxLength:"20000" doc:"What was observed" example:"Slept well, took fluids."`
	Amends     *tenants.ID `json:"amends,omitempty" format:"uuid" doc:"The note that this one corrects"`
	Author     tenants.ID  `json:"author" format:"uuid" doc:"Who wrote it"`
	CreatedAt  time.Time   `json:"created_at" doc:"When it was written"`
}

// NewNote is what a note is made of.
type NewNote struct {
	Shift  string      `json:"shift" enum:"day,evening,night" doc:"In which shift" example:"night"`
	Body   phi.Text    `json:"body" minLength:"1" maxLength:"20000" pattern:"\\S" patternDescription:"not blank" doc:"What was observed" example:"Slept well, took fluids."`
	Amends *tenants.ID `json:"amends,omitempty" format:"uuid" doc:"The note of the same client that this one corrects"`
}

// Service keeps notes.
type Service struct{ Door *access.Door }

const (
	recordType = "note"
	table      = "shift_note"
	column     = "body_sealed"
)

// Write adds a note to the client. Errors: KindNotFound for a client out of scope,
// KindInvalid if amends is no note of this client, and the door's.
func (s Service) Write(ctx context.Context, actor tenants.Actor, once access.Once, client tenants.ID, in NewNote) (Note, error) {
	var out Note
	err := s.Door.Do(ctx, actor, tenants.PermNoteWrite,
		access.Target{Action: "note.create", RecordType: recordType, Detail: map[string]string{"client": client.String()}, Early: true},
		func(ctx context.Context, tx *access.Tx) error {
			var facility tenants.ID
			if once.Key != "" || in.Amends != nil {
				// What follows asks about other things than the client, which comes first.
				f, err := tx.ClientFacility(ctx, store.ClientFacilityParams{ID: client, Facilities: tx.Actor.Facilities})
				if err != nil {
					return err
				}
				facility = f
			}
			id, repeat, err := tx.Claim(ctx, once)
			if err != nil {
				return err
			}
			if !facility.IsZero() {
				tx.About(id, facility)
			}
			if repeat {
				out, err = get(ctx, tx, id)
				return err
			}
			if in.Amends != nil {
				tx.Note("amends", in.Amends.String())
				if err := amendable(ctx, tx, client, *in.Amends); err != nil {
					return err
				}
			}
			body, err := tx.Seal(ctx, table, column, id, in.Body)
			if err != nil {
				return err
			}
			row, err := tx.InsertNote(ctx, store.InsertNoteParams{ID: id, ClientID: client, Facilities: tx.Actor.Facilities, Shift: in.Shift, BodySealed: body, Amends: in.Amends})
			if err != nil {
				return err
			}
			tx.About(id, row.FacilityID)
			out, err = open(ctx, tx, row)
			return err
		})
	if err != nil {
		return Note{}, err
	}
	return out, nil
}

// amendable holds that a note may be amended from here: it is in scope and of the
// same client. The constraint says the latter too, the former only we know.
func amendable(ctx context.Context, tx *access.Tx, client, note tenants.ID) error {
	row, err := tx.GetNote(ctx, store.GetNoteParams{ID: note, Facilities: tx.Actor.Facilities})
	if err != nil || row.ClientID != client {
		if err == nil || errors.Is(err, pgx.ErrNoRows) {
			return tenants.Invalid("body.amends", "must be a note of this client")
		}
		return err
	}
	return nil
}

// Get returns one note of the actor's scope.
func (s Service) Get(ctx context.Context, actor tenants.Actor, id tenants.ID) (Note, error) {
	var out Note
	err := s.Door.Do(ctx, actor, tenants.PermNoteRead, access.Target{Action: "note.read", RecordType: recordType, RecordID: id, OneRead: true},
		func(ctx context.Context, tx *access.Tx) (err error) {
			out, err = get(ctx, tx, id)
			return err
		})
	if err != nil {
		return Note{}, err
	}
	return out, nil
}

// List returns the client's notes, newest first.
func (s Service) List(ctx context.Context, actor tenants.Actor, client tenants.ID, c records.Cursor) (records.Page[Note], error) {
	var out records.Page[Note]
	err := s.Door.Do(ctx, actor, tenants.PermNoteRead, access.Target{Action: "note.list", RecordType: "client", RecordID: client, Early: true},
		func(ctx context.Context, tx *access.Tx) error {
			facility, err := tx.ClientFacility(ctx, store.ClientFacilityParams{ID: client, Facilities: tx.Actor.Facilities})
			if err != nil {
				return err
			}
			tx.About(client, facility)
			rows, err := tx.ListNotes(ctx, store.ListNotesParams{ClientID: client, Facilities: tx.Actor.Facilities, Before: c.Before(), PageSize: c.Probe()})
			if err != nil {
				return err
			}
			out, err = records.Cut(c, rows, func(r store.ShiftNote) tenants.ID { return r.ID },
				func(r store.ShiftNote) (Note, error) { return open(ctx, tx, r) })
			tx.Note("count", strconv.Itoa(len(out.Items)))
			return err
		})
	if err != nil {
		return records.Page[Note]{}, err
	}
	return out, nil
}

func get(ctx context.Context, tx *access.Tx, id tenants.ID) (Note, error) {
	row, err := tx.GetNote(ctx, store.GetNoteParams{ID: id, Facilities: tx.Actor.Facilities})
	if err != nil {
		return Note{}, err
	}
	tx.About(id, row.FacilityID)
	tx.Note("client", row.ClientID.String())
	return open(ctx, tx, row)
}

func open(ctx context.Context, tx *access.Tx, r store.ShiftNote) (Note, error) {
	body, err := tx.Open(ctx, table, column, r.ID, r.BodySealed)
	if err != nil {
		return Note{}, err
	}
	return Note{ID: r.ID, ClientID: r.ClientID, FacilityID: r.FacilityID, Shift: r.Shift, Body: body, Amends: r.Amends, Author: r.Author, CreatedAt: r.CreatedAt}, nil
}
