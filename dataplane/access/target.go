package access

import (
	"maps"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/tenants"
)

// Target is what an action is about. All but Action and RecordType may be empty;
// what is known only later is filled in through Tx.About.
type Target struct {
	// Action is the audit trail's word for it, as "client.read".
	Action string
	// RecordType is the kind of record, as "client".
	RecordType string
	RecordID   tenants.ID
	// FacilityID, when given, must be in the actor's scope: otherwise the answer is
	// the same as for a record that does not exist.
	FacilityID tenants.ID
	// Detail is for the trail: names and counts, never PHI.
	Detail map[string]string
	// Early lets the function begin before the session and the authorization are
	// confirmed: its first statement travels with that check and is not run unless
	// they stand. For functions that do nothing outside the transaction.
	Early bool
	// OneRead says that the function runs one statement, which reads: it begins early,
	// in a transaction of that statement alone, and the entry follows with others'.
	OneRead bool

	// entry is the id that the action's entry must have; NilID for any.
	entry tenants.ID
	// insteadOf is the entry that this one stands for, which could not be written.
	insteadOf tenants.ID
}

// event is the target in the trail's words.
func (t Target) event(o outcome) audit.Event {
	ev := audit.Event{ID: t.entry, Action: t.Action, RecordType: t.RecordType, FacilityID: t.FacilityID, Outcome: audit.Outcome(o), Detail: t.Detail}
	if !t.RecordID.IsZero() {
		ev.RecordID = t.RecordID.String()
	}
	return ev
}

// outcome is how an action ended, in the trail's words.
type outcome string

const (
	outcomeOK     outcome = "ok"
	outcomeDenied outcome = "denied"
	outcomeFailed outcome = "failed"
)

// outcomeOf tells how an error goes down in the trail. A record that is absent or
// out of scope is a denial: the two must look the same to the client, and an
// auditor wants to see both.
func outcomeOf(err error) outcome {
	switch tenants.KindOf(err) {
	case "":
		return outcomeOK
	case tenants.KindForbidden, tenants.KindNotFound, tenants.KindUnauthenticated, tenants.KindSecondFactor,
		tenants.KindOnboarding, tenants.KindGateClosed:
		return outcomeDenied
	default:
		return outcomeFailed
	}
}

// withReason returns the target with why it was refused, for its entry.
func (t Target) withReason(err error) Target {
	d := maps.Clone(t.Detail)
	if d == nil {
		d = map[string]string{}
	}
	d["reason"] = string(tenants.KindOf(err))
	if !t.insteadOf.IsZero() {
		d[audit.InsteadOf] = t.insteadOf.String()
	}
	t.Detail = d
	return t
}
