package tenants

import "time"

// ActorKind tells people, machines and operators apart in the audit trail.
type ActorKind string

// The kinds of actor.
const (
	ActorMember   ActorKind = "member"
	ActorOperator ActorKind = "operator"
	ActorSystem   ActorKind = "system"
	// ActorAnonymous is somebody without a session, as at sign-up.
	ActorAnonymous ActorKind = "anonymous"
)

// Actor is who acts, as established by the session gate and by nothing else.
type Actor struct {
	Kind ActorKind
	// ID is the identity's id in Kratos, or NilID for the system.
	ID       ID
	TenantID ID
	Role     Role
	// Facilities are those assigned to the member or granted for now; for roles with
	// tenant-wide reach, all of the tenant's.
	Facilities []ID
	SessionID  ID
	// AuthenticatedAt is when the second factor was completed.
	AuthenticatedAt time.Time
	// AuthzVersion is the member row's version that role and facilities were read at.
	AuthzVersion int64
	// IP, Device and RequestID describe the request; Device is the user agent, cut to 200 bytes.
	IP, Device, RequestID string
}

// MaySee tells whether the facility is in the actor's scope.
func (a Actor) MaySee(facility ID) bool {
	for _, f := range a.Facilities {
		if f == facility {
			return true
		}
	}
	return false
}
