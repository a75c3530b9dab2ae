package tenants

import (
	"regexp"
	"strings"
	"time"
)

// CareSetting is the kind of care that an organization gives; it decides which roles exist.
type CareSetting string

// The care settings.
const (
	Residential CareSetting = "residential"
	Clinic      CareSetting = "clinic"
)

// ParseCareSetting refuses anything but the known settings with KindInvalid.
func ParseCareSetting(s string) (CareSetting, error) {
	switch c := CareSetting(s); c {
	case Residential, Clinic:
		return c, nil
	}
	return "", Invalid("body.care_setting", "must be residential or clinic")
}

// State is where an organization stands in its lifecycle. The BAA has a state of
// its own: the gate looks at both.
type State string

// The lifecycle states.
const (
	// StatePending: signed up; no BAA executed yet; nothing exists for it in any cell.
	StatePending State = "pending"
	// StateProvisioning: the BAA is executed and the durable steps run.
	StateProvisioning State = "provisioning"
	// StateProvisioningFailed: a step gave up; its reason is readable and it can be retried.
	StateProvisioningFailed State = "provisioning_failed"
	// StateLive: the probe read and wrote through the public route.
	StateLive State = "live"
	// StateReadOnly: live, writes are refused.
	StateReadOnly State = "read_only"
	// StateSuspended: an operator closed the gate.
	StateSuspended State = "suspended"
	// StateQuarantined: the isolation proof failed; closed until repaired.
	StateQuarantined State = "quarantined"
	// StateClosed: offboarded for good.
	StateClosed State = "closed"
)

// transitions is the one table of legal moves.
var transitions = map[State][]State{
	StatePending:            {StateProvisioning, StateClosed},
	StateProvisioning:       {StateLive, StateProvisioningFailed, StateClosed},
	StateProvisioningFailed: {StateProvisioning, StateClosed},
	StateLive:               {StateReadOnly, StateSuspended, StateQuarantined, StateClosed},
	StateReadOnly:           {StateLive, StateSuspended, StateQuarantined, StateClosed},
	StateSuspended:          {StateLive, StateReadOnly, StateQuarantined, StateClosed},
	StateQuarantined:        {StateLive, StateSuspended, StateClosed},
	StateClosed:             nil,
}

// States returns every state, in the order of the lifecycle.
func States() []State {
	return []State{StatePending, StateProvisioning, StateProvisioningFailed, StateLive,
		StateReadOnly, StateSuspended, StateQuarantined, StateClosed}
}

// CanMove tells whether the lifecycle allows going from one state to the other.
func CanMove(from, to State) bool {
	for _, t := range transitions[from] {
		if t == to {
			return true
		}
	}
	return false
}

// CheckMove returns KindConflict if the lifecycle does not allow the move.
func CheckMove(from, to State) error {
	if CanMove(from, to) {
		return nil
	}
	return NewError(KindConflict, "an organization that is "+string(from)+" cannot become "+string(to))
}

// Organization is a customer: the covered entity that signs the BAA, and the tenant.
type Organization struct {
	ID          ID
	Slug        string
	LegalName   string
	CareSetting CareSetting
	State       State
	StateReason string
	CellID      string
	CreatedAt   time.Time
}

var slugPattern = regexp.MustCompile(`^[a-z](?:[a-z0-9]|-[a-z0-9]){1,38}$`)

// AbsentSlug stands in the path of a request for an organization that has no route. No
// organization has that name.
const AbsentSlug = "absent"

// reservedSlugs would be confused with our own paths or people.
var reservedSlugs = map[string]bool{AbsentSlug: true, "admin": true, "api": true, "caresphere": true, "control": true,
	"dev": true, "operator": true, "ops": true, "platform": true, "support": true, "system": true, "www": true}

// ParseSlug checks the short name that stands in a tenant's URLs: 2 to 39 lower
// case letters, digits and single dashes, starting with a letter, not reserved.
// The error is KindInvalid and names body.slug.
func ParseSlug(s string) (string, error) {
	if len(s) > 39 || !slugPattern.MatchString(s) {
		return "", Invalid("body.slug", "must be 2 to 39 lower case letters, digits and single dashes, starting with a letter")
	}
	if reservedSlugs[s] {
		return "", Invalid("body.slug", "is reserved")
	}
	return s, nil
}

// SlugFrom proposes a slug for a legal name; the result may be taken or reserved.
func SlugFrom(legalName string) string {
	var b strings.Builder
	dash := false
	for _, r := range strings.ToLower(legalName) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9' && b.Len() > 0:
			if dash && b.Len() > 0 {
				b.WriteByte('-')
			}
			b.WriteRune(r)
			dash = false
		default:
			dash = true
		}
		if b.Len() >= 32 {
			break
		}
	}
	s := b.String()
	if len(s) < 2 {
		s = "org-" + NewID().Hex()[20:]
	}
	return s
}

// SchemaName is the name of the tenant's Postgres schema; RoleName that of its
// login role. Both derive from the id, never from input.
func SchemaName(tenant ID) string { return "t_" + tenant.Hex() }

// RoleName is the tenant's Postgres login role.
func RoleName(tenant ID) string { return "t_" + tenant.Hex() }
