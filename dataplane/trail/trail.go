// Package trail lets a tenant's owner and auditor search and take away the audit
// trail.
//
// It owns that each look at the trail is itself in the trail. It trusts the door
// for who acts and internal/audit for the form of an export, and it signs exports
// with a key that proves where they came from; what they prove stands by the
// sealer's key. It never writes to the trail but through the door.
package trail

import (
	"context"
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/dataplane/access"
	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/audit/export"
	"github.com/caresphere/caresphere/internal/audit/record"
	"github.com/caresphere/caresphere/internal/audit/search"
	"github.com/caresphere/caresphere/internal/audit/tree"
	"github.com/caresphere/caresphere/tenants"
)

// Service reads trails.
type Service struct {
	Door *access.Door
	// Signer holds the export key.
	Signer note.Signer
	// Verifiers are the public keys that an export verifies with: the sealer's and
	// the exporter's, one a line.
	Verifiers string
	// Ask asks the sealer to look at a log; nil if it does so on its own.
	Ask func(ctx context.Context, l audit.Log) error
}

const recordType = "audit_entry"

// Entry is one entry of the trail as a reader sees it.
type Entry struct {
	ID         tenants.ID        `json:"id" format:"uuid" doc:"The entry's id"`
	Seq        int64             `json:"seq" doc:"Number in the log; numbers may be missing, leaves of the tree may not" example:"41"`
	At         time.Time         `json:"at" doc:"When it was written, by the database's clock"`
	ActorKind  string            `json:"actor_kind" enum:"member,operator,system,anonymous" doc:"Who acted" example:"member"`
	ActorID    string            `json:"actor_id,omitempty" maxLength:"36" doc:"The member who acted"`
	Role       string            `json:"role,omitempty" maxLength:"32" doc:"The role at that time" example:"nurse"`
	SessionID  string            `json:"session_id,omitempty" maxLength:"36" doc:"The session"`
	FacilityID string            `json:"facility_id,omitempty" maxLength:"36" doc:"At which facility"`
	Action     string            `json:"action" maxLength:"64" doc:"What was done" example:"client.read"`
	RecordType string            `json:"record_type" maxLength:"64" doc:"On which kind of record" example:"client"`
	RecordID   string            `json:"record_id,omitempty" maxLength:"128" doc:"On which record"`
	Outcome    string            `json:"outcome" enum:"ok,denied,failed" doc:"How it ended" example:"ok"`
	IP         string            `json:"ip" maxLength:"64" doc:"From which address" example:"203.0.113.7"`
	Device     string            `json:"device" maxLength:"200" doc:"With which user agent"`
	RequestID  string            `json:"request_id" maxLength:"128" doc:"In which request"`
	Detail     map[string]string `json:"detail,omitempty" doc:"More by name; never about a person's health"`
}

// Page is one page of entries, newest first.
type Page struct {
	Items []Entry `json:"items" nullable:"false" doc:"The entries, newest first"`
	Next  string  `json:"next_cursor" maxLength:"128" doc:"Cursor of the next page; empty on the last"`
}

// Search leaves the entry of the search, then returns a page of what the filter
// chooses, newest first: the search itself may be its first line.
func (s Service) Search(ctx context.Context, actor tenants.Actor, f audit.Filter, p search.Page) (Page, error) {
	reader, err := s.Door.ReadTrail(ctx, actor, tenants.PermAuditRead, access.Target{Action: "audit.search", RecordType: recordType, Detail: described(f)})
	if err != nil {
		return Page{}, err
	}
	var found search.Result
	err = reader.Read(ctx, func(tx pgx.Tx) (err error) {
		found, err = search.Find(ctx, tx, audit.TenantLog(actor.TenantID, tenants.SchemaName(actor.TenantID)), f, p)
		return err
	})
	if err != nil {
		return Page{}, err
	}
	out := Page{Items: make([]Entry, 0, len(found.Entries)), Next: found.Next}
	for _, e := range found.Entries {
		out.Items = append(out.Items, render(e))
	}
	return out, nil
}

func render(e record.Entry) Entry {
	id := func(v tenants.ID) string {
		if v.IsZero() {
			return ""
		}
		return v.String()
	}
	return Entry{ID: e.ID, Seq: e.Seq, At: e.At, ActorKind: string(e.ActorKind), ActorID: id(e.ActorID), Role: e.Role, SessionID: id(e.SessionID),
		FacilityID: id(e.FacilityID), Action: e.Action, RecordType: e.RecordType, RecordID: e.RecordID, Outcome: string(e.Outcome),
		IP: e.IP, Device: e.Device, RequestID: e.RequestID, Detail: e.Detail}
}

// Export decides, leaves the entry of the export, and returns the function that
// writes it. The file holds everything up to and including that entry.
func (s Service) Export(ctx context.Context, actor tenants.Actor, f audit.Filter, format export.Format) (func(context.Context, io.Writer) error, error) {
	detail := described(f)
	detail["format"] = string(format)
	reader, err := s.Door.ReadTrail(ctx, actor, tenants.PermAuditExport, access.Target{Action: "audit.export", RecordType: recordType, Detail: detail})
	if err != nil {
		return nil, err
	}
	known, err := tree.ParseVerifiers(s.Verifiers)
	if err != nil {
		return nil, err
	}
	log := audit.TenantLog(actor.TenantID, tenants.SchemaName(actor.TenantID))
	o := export.Options{Log: log, Filter: f, Format: format, Known: known, Signer: s.Signer}
	if s.Ask != nil {
		o.Ask = func(ctx context.Context) error { return s.Ask(ctx, log) }
	}
	return func(ctx context.Context, w io.Writer) error { return export.Write(ctx, reader, w, o) }, nil
}

// Keys returns the verifier lines, and leaves an entry that they were taken.
func (s Service) Keys(ctx context.Context, actor tenants.Actor) (string, error) {
	err := s.Door.Do(ctx, actor, tenants.PermAuditRead, access.Target{Action: "audit.keys", RecordType: recordType},
		func(context.Context, *access.Tx) error { return nil })
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(s.Verifiers) + "\n", nil
}

// described puts a filter into words for the trail. None of it is PHI: a trail
// holds ids and names of actions only.
func described(f audit.Filter) map[string]string {
	d := map[string]string{}
	add := func(name, value string) {
		if value != "" {
			d[name] = value
		}
	}
	if !f.Actor.IsZero() {
		add("actor", f.Actor.String())
	}
	if !f.Facility.IsZero() {
		add("facility", f.Facility.String())
	}
	if !f.From.IsZero() {
		add("from", f.From.UTC().Format(time.RFC3339))
	}
	if !f.To.IsZero() {
		add("to", f.To.UTC().Format(time.RFC3339))
	}
	add("record_type", f.RecordType)
	add("record", f.RecordID)
	add("action", f.Action)
	add("outcome", string(f.Outcome))
	return d
}
