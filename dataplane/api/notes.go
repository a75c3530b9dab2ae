package api

import (
	"context"
	"net/http"

	"github.com/caresphere/caresphere/dataplane/records"
	"github.com/caresphere/caresphere/dataplane/records/notes"
	"github.com/caresphere/caresphere/dataplane/session"
)

func (a *API) noteRoutes(s notes.Service) {
	type list struct {
		RecordPath
		PageQuery
	}
	add(a, operation{method: http.MethodGet, path: "/clients/{id}/notes", id: "listNotes", tag: "Notes",
		summary: "List a client's shift notes", about: "Newest first, as far as the member reaches where they were written."},
		func(ctx context.Context, v session.Visit, in *list) (records.Page[notes.Note], error) {
			c, err := in.cursor()
			if err != nil {
				return records.Page[notes.Note]{}, err
			}
			return s.List(ctx, v.Actor, in.ID, c)
		})
	type write struct {
		RecordPath
		OnceHeader
		Body notes.NewNote
	}
	add(a, operation{method: http.MethodPost, path: "/clients/{id}/notes", id: "createNote", tag: "Notes", status: http.StatusCreated, write: true,
		summary: "Write a shift note", about: "A note is never changed: what is wrong is amended by another note that names it."},
		func(ctx context.Context, v session.Visit, in *write) (notes.Note, error) {
			once, err := in.once("createNote", in.ID, in.Body)
			if err != nil {
				return notes.Note{}, err
			}
			return s.Write(ctx, v.Actor, once, in.ID, in.Body)
		})
	add(a, operation{method: http.MethodGet, path: "/notes/{id}", id: "getNote", tag: "Notes",
		summary: "Show a shift note", about: "One note written at a facility that the member reaches."},
		func(ctx context.Context, v session.Visit, in *RecordPath) (notes.Note, error) {
			return s.Get(ctx, v.Actor, in.ID)
		})
}
