package audit

import (
	"strconv"
	"strings"
	"time"

	"github.com/caresphere/caresphere/internal/audit/record"
	"github.com/caresphere/caresphere/tenants"
)

// Filter chooses entries; a zero field does not restrict.
type Filter struct {
	Actor tenants.ID
	// From is inclusive, To exclusive, both by the entry's own time.
	From, To     time.Time
	RecordType   string
	RecordID     string
	Action       string
	Outcome      Outcome
	Facility     tenants.ID
	Organization tenants.ID
}

// Match tells whether the filter chooses the entry. It says the same as Where.
func (f Filter) Match(e *record.Entry) bool {
	return (f.Actor.IsZero() || e.ActorID == f.Actor) &&
		(f.From.IsZero() || !e.At.Before(f.From)) &&
		(f.To.IsZero() || e.At.Before(f.To)) &&
		(f.RecordType == "" || e.RecordType == f.RecordType) &&
		(f.RecordID == "" || e.RecordID == f.RecordID) &&
		(f.Action == "" || e.Action == f.Action) &&
		(f.Outcome == "" || e.Outcome == f.Outcome) &&
		(f.Facility.IsZero() || e.FacilityID == f.Facility) &&
		(f.Organization.IsZero() || e.OrganizationID == f.Organization)
}

// Where renders the filter as a conjunction for audit_entry under the alias, and
// its arguments appended to args. Every predicate is an equality or a range with
// an index, by operators that row-level security lets reach the index.
func (f Filter) Where(alias string, args []any) (string, []any) {
	var parts []string
	add := func(predicate string, arg any) {
		args = append(args, arg)
		parts = append(parts, alias+"."+predicate+"$"+strconv.Itoa(len(args)))
	}
	if !f.Actor.IsZero() {
		add("actor_id = ", [16]byte(f.Actor))
	}
	if !f.From.IsZero() {
		add("at >= ", f.From)
	}
	if !f.To.IsZero() {
		add("at < ", f.To)
	}
	if f.RecordType != "" {
		add("record_type = ", f.RecordType)
	}
	if f.RecordID != "" {
		// The second predicate lets a prepared plan use the partial index.
		add("record_id <> '' AND "+alias+".record_id = ", f.RecordID)
	}
	if f.Action != "" {
		add("action = ", f.Action)
	}
	switch f.Outcome {
	case "":
	case OutcomeOK:
		add("outcome = ", string(f.Outcome))
	default:
		add("outcome <> 'ok' AND "+alias+".outcome = ", string(f.Outcome))
	}
	if !f.Facility.IsZero() {
		add("facility_id = ", [16]byte(f.Facility))
	}
	if !f.Organization.IsZero() {
		add("organization_id = ", [16]byte(f.Organization))
	}
	if len(parts) == 0 {
		return "true", args
	}
	return strings.Join(parts, " AND "), args
}
