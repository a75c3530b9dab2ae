package demo

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/caresphere/caresphere/internal/client"
)

func (s *story) write(ctx context.Context) (string, error) {
	t := s.north.Tenant(s.a.slug)
	var err error
	s.patient, err = t.CreateClient(ctx, client.Person{FacilityID: s.a.facilities["north"],
		Name: client.PersonName{Given: "Eleanor", Family: "Whitfield"}, BirthDate: "1941-03-09", RecordNumber: "MRN-" + s.suffix}, "client-1")
	if err != nil {
		return "", fmt.Errorf("client: %w", err)
	}
	s.note, err = t.CreateNote(ctx, s.patient.ID, client.Note{Shift: "day", Body: "Slept well, ate breakfast, blood pressure 128/78."}, "note-1")
	if err != nil {
		return "", fmt.Errorf("note: %w", err)
	}
	again, err := t.CreateNote(ctx, s.patient.ID, client.Note{Shift: "day", Body: "Slept well, ate breakfast, blood pressure 128/78."}, "note-1")
	if err != nil {
		return "", fmt.Errorf("note sent twice: %w", err)
	}
	if again.ID != s.note.ID {
		return "", fmt.Errorf("the note sent twice became two")
	}
	return "one client, one shift note; sent twice, made once", nil
}

func (s *story) read(ctx context.Context) (string, error) {
	t := s.north.Tenant(s.a.slug)
	got, err := t.ClientByID(ctx, s.patient.ID)
	if err != nil {
		return "", err
	}
	if got.Name.Family != "Whitfield" || got.BirthDate != "1941-03-09" {
		return "", fmt.Errorf("the client read back differs from the one written")
	}
	note, err := t.NoteByID(ctx, s.note.ID)
	if err != nil {
		return "", err
	}
	if note.Body != "Slept well, ate breakfast, blood pressure 128/78." {
		return "", fmt.Errorf("the note read back differs from the one written")
	}
	found, err := t.SearchClients(ctx, "whitfield")
	if err != nil {
		return "", err
	}
	if len(found) != 1 || found[0].ID != s.patient.ID {
		return "", fmt.Errorf("search by family name found %d clients", len(found))
	}
	return "client, note and blind-index search agree", nil
}

func (s *story) crossTenant(ctx context.Context) (string, error) {
	_, err := s.provider.Tenant(s.a.slug).ClientByID(ctx, s.patient.ID)
	if err := refused(err, http.StatusNotFound); err != nil {
		return "", fmt.Errorf("B's provider under A's path: %w", err)
	}
	_, err = s.provider.Tenant(s.b.slug).ClientByID(ctx, s.patient.ID)
	if err := refused(err, http.StatusNotFound); err != nil {
		return "", fmt.Errorf("A's client under B's path: %w", err)
	}
	if _, err = s.north.Tenant(s.a.slug).ClientByID(ctx, s.patient.ID); err != nil {
		return "", fmt.Errorf("the allowed twin: %w", err)
	}
	return "404 under either path; A's nurse 200", nil
}

func (s *story) crossFacility(ctx context.Context) (string, error) {
	t := s.south.Tenant(s.a.slug)
	_, err := t.ClientByID(ctx, s.patient.ID)
	if err := refused(err, http.StatusNotFound); err != nil {
		return "", fmt.Errorf("reading: %w", err)
	}
	_, err = t.CreateNote(ctx, s.patient.ID, client.Note{Shift: "day", Body: "not mine"}, "note-x")
	if err := refused(err, http.StatusNotFound); err != nil {
		return "", fmt.Errorf("writing: %w", err)
	}
	found, err := t.SearchClients(ctx, "whitfield")
	if err != nil {
		return "", err
	}
	if len(found) != 0 {
		return "", fmt.Errorf("search found a client of another facility")
	}
	if _, err = s.north.Tenant(s.a.slug).ClientByID(ctx, s.patient.ID); err != nil {
		return "", fmt.Errorf("the allowed twin: %w", err)
	}
	return "404 on read and write, nothing in search; her own nurse 200", nil
}

// terminate ends B's agreement and measures until a warm session is refused for good.
func (s *story) terminate(ctx context.Context) (string, error) {
	t := s.provider.Tenant(s.b.slug)
	if err := t.Do(ctx, http.MethodGet, "/clients", nil, nil); err != nil {
		return "", fmt.Errorf("before the termination: %w", err)
	}
	if err := s.operator.TerminateBAA(ctx, s.b.baa.ID, "Demonstration of termination for cause."); err != nil {
		return "", err
	}
	begun := time.Now()
	first := -1
	status := 0
	err := until(ctx, 5*time.Second, 20*time.Millisecond, func(ctx context.Context) (bool, string, error) {
		status = client.StatusOf(t.Do(ctx, http.MethodGet, "/clients", nil, nil))
		if first < 0 {
			first = status
		}
		return status == http.StatusNotFound || status == http.StatusForbidden, fmt.Sprintf("status %d", status), nil
	})
	if err != nil {
		return "", err
	}
	took := time.Since(begun).Milliseconds()
	for range 20 {
		if got := client.StatusOf(t.Do(ctx, http.MethodGet, "/clients", nil, nil)); got < 400 {
			return "", fmt.Errorf("a request succeeded after the gate had closed")
		}
	}
	if err := s.north.Tenant(s.a.slug).Do(ctx, http.MethodGet, "/clients", nil, nil); err != nil {
		return "", fmt.Errorf("the other organization: %w", err)
	}
	return fmt.Sprintf("refused with %d after %d ms; the other organization still serves", status, took), nil
}
