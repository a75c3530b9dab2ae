package tenants

import "time"

// BAAState is where a business associate agreement stands (45 CFR 164.504(e)).
type BAAState string

// The states of a BAA.
const (
	// BAADraft: rendered with the parties' names, not signed.
	BAADraft BAAState = "draft"
	// BAASigned: signed by the customer, waiting for the countersignature.
	BAASigned BAAState = "signed"
	// BAAExecuted: signed by both; in force from ExecutedAt until ExpiresAt.
	BAAExecuted BAAState = "executed"
	// BAATerminated: ended by a party.
	BAATerminated BAAState = "terminated"
	// BAAExpired: past ExpiresAt.
	BAAExpired BAAState = "expired"
	// BAASuperseded: a later version was executed.
	BAASuperseded BAAState = "superseded"
)

var baaTransitions = map[BAAState][]BAAState{
	BAADraft:      {BAASigned, BAASuperseded},
	BAASigned:     {BAAExecuted, BAATerminated, BAASuperseded},
	BAAExecuted:   {BAATerminated, BAAExpired, BAASuperseded},
	BAATerminated: nil,
	BAAExpired:    nil,
	BAASuperseded: nil,
}

// BAAStates returns every state.
func BAAStates() []BAAState {
	return []BAAState{BAADraft, BAASigned, BAAExecuted, BAATerminated, BAAExpired, BAASuperseded}
}

// CheckBAAMove returns KindConflict if an agreement may not go from one state to the other.
func CheckBAAMove(from, to BAAState) error {
	for _, t := range baaTransitions[from] {
		if t == to {
			return nil
		}
	}
	return NewError(KindConflict, "an agreement that is "+string(from)+" cannot become "+string(to))
}

// BAA is what the gate needs to know of an agreement.
type BAA struct {
	ID             ID
	OrganizationID ID
	State          BAAState
	ExecutedAt     time.Time
	ExpiresAt      time.Time
}

// InForce tells whether the agreement covers the moment: executed, begun, not expired.
func (b BAA) InForce(now time.Time) bool {
	return b.State == BAAExecuted && !b.ExecutedAt.IsZero() && !now.Before(b.ExecutedAt) && now.Before(b.ExpiresAt)
}
