package tenants

// Role is what a member is in an organization.
type Role string

// Roles of a residential organization (A3). Owner exists in both settings: it is
// the tenant admin.
const (
	RoleOwner      Role = "owner"
	RoleNurse      Role = "nurse"
	RoleMedTech    Role = "med_tech"
	RolePrescriber Role = "prescriber"
	RoleStaff      Role = "staff"
	RoleAuditor    Role = "auditor"
)

// Roles of a clinic (A4).
const (
	RoleFrontDesk        Role = "front_desk"
	RoleMedicalAssistant Role = "medical_assistant"
	RoleProvider         Role = "provider"
	RoleOwnership        Role = "ownership"
)

// Roles returns the roles that exist in a care setting.
func Roles(c CareSetting) []Role {
	switch c {
	case Residential:
		return []Role{RoleOwner, RoleNurse, RoleMedTech, RolePrescriber, RoleStaff, RoleAuditor}
	case Clinic:
		return []Role{RoleOwner, RoleFrontDesk, RoleMedicalAssistant, RoleProvider, RoleOwnership, RoleAuditor}
	}
	return nil
}

// AllRoles returns every role once.
func AllRoles() []Role {
	return []Role{RoleOwner, RoleNurse, RoleMedTech, RolePrescriber, RoleStaff, RoleAuditor,
		RoleFrontDesk, RoleMedicalAssistant, RoleProvider, RoleOwnership}
}

// ParseRole refuses a role that the care setting does not have, with KindInvalid.
func ParseRole(s string, c CareSetting) (Role, error) {
	for _, r := range Roles(c) {
		if string(r) == s {
			return r, nil
		}
	}
	return "", Invalid("body.role", "is not a role of this care setting")
}

// TenantWide tells whether the role reaches every facility without assignment:
// the owner, the auditor and a clinic's ownership.
func (r Role) TenantWide() bool {
	return r == RoleOwner || r == RoleAuditor || r == RoleOwnership
}
