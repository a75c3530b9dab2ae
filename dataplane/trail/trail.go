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

	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/dataplane/access"
	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/audit/export"
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

// Export decides, leaves the entry of the export, and returns the function that
// writes it. The file holds everything up to and including that entry.
func (s Service) Export(ctx context.Context, actor tenants.Actor, f audit.Filter, format export.Format) (func(context.Context, io.Writer) error, error) {
	detail := described(f)
	detail["format"] = string(format)
	reader, err := s.Door.ReadTrail(ctx, actor, access.Target{Action: "audit.export", RecordType: recordType, Detail: detail})
	if err != nil {
		return nil, err
	}
	log := audit.TenantLog(actor.TenantID, tenants.SchemaName(actor.TenantID))
	o := export.Options{Log: log, Filter: f, Format: format, Signer: s.Signer}
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
