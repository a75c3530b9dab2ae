package client

import (
	"context"
	"net/http"
	"net/url"
	"strings"
)

// Tenant speaks to one tenant's data plane with its client's session.
type Tenant struct {
	c      *Client
	prefix string
}

// Tenant returns the data plane of the slug.
func (c *Client) Tenant(slug string) Tenant { return Tenant{c: c, prefix: "/t/" + slug + "/v1"} }

// Do sends a request below the tenant's prefix; see Client.Do.
func (t Tenant) Do(ctx context.Context, method, path string, body, out any) error {
	return t.c.Do(ctx, Request{Method: method, Path: t.prefix + path, Body: body}, out)
}

// Create is Do for a POST that makes something once however often it is sent.
func (t Tenant) Create(ctx context.Context, path string, body, out any, idempotencyKey string) error {
	return t.c.Do(ctx, Request{Method: http.MethodPost, Path: t.prefix + path, Body: body, IdempotencyKey: idempotencyKey}, out)
}

// Facility is one place of care.
type Facility struct {
	ID   string `json:"id,omitempty"`
	Name string `json:"name"`
}

// CreateFacility makes a facility.
func (t Tenant) CreateFacility(ctx context.Context, f Facility, idempotencyKey string) (Facility, error) {
	return fetch[Facility](ctx, t.c, Request{Method: http.MethodPost, Path: t.prefix + "/facilities", Body: f, IdempotencyKey: idempotencyKey})
}

// NewMember invites a person with a role and facilities.
type NewMember struct {
	Email      string   `json:"email"`
	Name       string   `json:"name"`
	Role       string   `json:"role"`
	Facilities []string `json:"facilities"`
}

// Member is a person of the tenant.
type Member struct {
	ID   string `json:"id"`
	Role string `json:"role"`
}

// CreateMember invites a member; the invitation goes out by mail.
func (t Tenant) CreateMember(ctx context.Context, m NewMember, idempotencyKey string) (Member, error) {
	return fetch[Member](ctx, t.c, Request{Method: http.MethodPost, Path: t.prefix + "/members", Body: m, IdempotencyKey: idempotencyKey})
}

// PersonName is a client's name: PHI.
type PersonName struct {
	Given  string `json:"given"`
	Family string `json:"family"`
}

// Person is a client of the facility (patient or resident): PHI.
type Person struct {
	ID           string     `json:"id,omitempty"`
	FacilityID   string     `json:"facility_id"`
	Name         PersonName `json:"name"`
	BirthDate    string     `json:"birth_date"`
	RecordNumber string     `json:"record_number,omitempty"`
}

// CreateClient admits a client to a facility.
func (t Tenant) CreateClient(ctx context.Context, p Person, idempotencyKey string) (Person, error) {
	return fetch[Person](ctx, t.c, Request{Method: http.MethodPost, Path: t.prefix + "/clients", Body: p, IdempotencyKey: idempotencyKey})
}

// ClientByID reads one client.
func (t Tenant) ClientByID(ctx context.Context, id string) (Person, error) {
	return fetch[Person](ctx, t.c, Request{Method: http.MethodGet, Path: t.prefix + "/clients/" + url.PathEscape(id)})
}

// SearchClients finds clients by exact family name.
func (t Tenant) SearchClients(ctx context.Context, family string) ([]Person, error) {
	out, err := fetch[Page[Person]](ctx, t.c, Request{Method: http.MethodPost, Path: t.prefix + "/clients/search", Body: map[string]string{"family": family}})
	return out.Items, err
}

// Page is one page of a list; Next is the cursor of the following one, or empty.
type Page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next_cursor"`
}

// Note is a shift note: PHI.
type Note struct {
	ID    string `json:"id,omitempty"`
	Shift string `json:"shift"`
	Body  string `json:"body"`
}

// CreateNote writes a shift note on a client.
func (t Tenant) CreateNote(ctx context.Context, clientID string, n Note, idempotencyKey string) (Note, error) {
	return fetch[Note](ctx, t.c, Request{Method: http.MethodPost, Path: t.prefix + "/clients/" + url.PathEscape(clientID) + "/notes", Body: n, IdempotencyKey: idempotencyKey})
}

// NoteByID reads one note.
func (t Tenant) NoteByID(ctx context.Context, id string) (Note, error) {
	return fetch[Note](ctx, t.c, Request{Method: http.MethodGet, Path: t.prefix + "/notes/" + url.PathEscape(id)})
}

// AuditKeys returns the public keys that an export verifies with, one a line.
func (t Tenant) AuditKeys(ctx context.Context) (string, error) {
	var b strings.Builder
	err := t.c.Download(ctx, t.prefix+"/audit/keys", &b)
	return b.String(), err
}

// AuditExportPath returns the path of the trail's export in a format, jsonl or csv.
func (t Tenant) AuditExportPath(format string) string {
	return t.prefix + "/audit/export?format=" + url.QueryEscape(format)
}
