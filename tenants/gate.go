package tenants

import "time"

// GateReason says why a gate is closed; it is empty for an open one.
type GateReason string

// Why a gate is closed.
const (
	GateNoBAA       GateReason = "baa_not_in_force"
	GateState       GateReason = "organization_not_live"
	GateSuspended   GateReason = "suspended"
	GateQuarantined GateReason = "quarantined"
	GateKeyGone     GateReason = "key_not_alive"
)

// GateMode is how far a gate is open.
type GateMode string

// The modes.
const (
	GateClosed GateMode = "closed"
	// GateProbe lets only the provisioner's signed probe through.
	GateProbe GateMode = "probe"
	// GateReadOnly refuses writes.
	GateReadOnly GateMode = "read_only"
	GateOpen     GateMode = "open"
)

// Gate is the decision whether requests for a tenant may be served.
type Gate struct {
	Mode   GateMode
	Reason GateReason
}

// DecideGate is the one rule: open needs an organization that is live, a BAA in
// force at the moment and a key that is alive. All else is closed, with the
// first reason that applies.
func DecideGate(state State, baa BAA, keyAlive bool, now time.Time) Gate {
	switch {
	case !baa.InForce(now):
		return Gate{GateClosed, GateNoBAA}
	case state == StateSuspended:
		return Gate{GateClosed, GateSuspended}
	case state == StateQuarantined:
		return Gate{GateClosed, GateQuarantined}
	case !keyAlive:
		return Gate{GateClosed, GateKeyGone}
	case state == StateProvisioning:
		return Gate{Mode: GateProbe}
	case state == StateReadOnly:
		return Gate{Mode: GateReadOnly}
	case state == StateLive:
		return Gate{Mode: GateOpen}
	default:
		return Gate{GateClosed, GateState}
	}
}
