package record

import (
	"time"

	"github.com/caresphere/caresphere/tenants"
)

// Outcome is how an audited action ended.
type Outcome string

// The outcomes.
const (
	// OK: the action was done; its effects committed together with the entry.
	OK Outcome = "ok"
	// Denied: the actor may not; nothing was done.
	Denied Outcome = "denied"
	// Failed: the actor may, and it could not be done; nothing was changed.
	Failed Outcome = "failed"
)

// Outcomes returns every outcome.
func Outcomes() []Outcome { return []Outcome{OK, Denied, Failed} }

// Entry is one row of an audit trail, of a tenant or of the control plane.
type Entry struct {
	// Seq is the row's number, given by the database. It has gaps: a transaction
	// that was rolled back used numbers up. The leaf index has none.
	Seq int64
	ID  tenants.ID
	// At is when the row was written by the database's clock, in UTC, to the microsecond.
	At time.Time
	// DBRole is the login that wrote the row.
	DBRole    string
	ActorKind tenants.ActorKind
	// ActorID is NilID for the system and for somebody without a session.
	ActorID   tenants.ID
	Role      string
	SessionID tenants.ID
	// OrganizationID is set in the control plane's trail only.
	OrganizationID tenants.ID
	// FacilityID is set in a tenant's trail only, where the action has a facility.
	FacilityID tenants.ID
	// Action is a name as "client.read".
	Action     string
	RecordType string
	RecordID   string
	Outcome    Outcome
	IP         string
	// Device is the user agent.
	Device    string
	RequestID string
	// Detail says more by name, as the facility that a client moved to. Never PHI.
	Detail map[string]string
}
