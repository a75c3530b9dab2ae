package tenants

import "slices"

// Permission names one thing that a role may do: resource, dot, verb.
type Permission string

// The permissions. A new domain adds rows here and in the matrix, and changes none.
const (
	PermFacilityRead   Permission = "facility.read"
	PermFacilityManage Permission = "facility.manage"
	PermMemberRead     Permission = "member.read"
	PermMemberManage   Permission = "member.manage"
	PermGrantManage    Permission = "grant.manage"
	PermSessionManage  Permission = "session.manage"
	PermSettingsManage Permission = "settings.manage"
	PermReportRead     Permission = "report.read"

	PermAuditRead   Permission = "audit.read"
	PermAuditExport Permission = "audit.export"

	PermClientRead     Permission = "client.read"
	PermClientCreate   Permission = "client.create"
	PermClientUpdate   Permission = "client.update"
	PermClientTransfer Permission = "client.transfer"

	PermNoteRead  Permission = "note.read"
	PermNoteWrite Permission = "note.write"

	PermTaskRead  Permission = "task.read"
	PermTaskWrite Permission = "task.write"

	PermAssessmentRead  Permission = "assessment.read"
	PermAssessmentWrite Permission = "assessment.write"

	PermOrderRead  Permission = "order.read"
	PermOrderWrite Permission = "order.write"

	PermMedicationRead       Permission = "medication.read"
	PermMedicationAdminister Permission = "medication.administer"

	PermIncidentRead   Permission = "incident.read"
	PermIncidentWrite  Permission = "incident.write"
	PermIncidentManage Permission = "incident.manage"

	PermDocumentRead   Permission = "document.read"
	PermDocumentWrite  Permission = "document.write"
	PermDocumentExport Permission = "document.export"

	PermScheduleRead  Permission = "schedule.read"
	PermScheduleWrite Permission = "schedule.write"
	PermIntakeRead    Permission = "intake.read"
	PermIntakeWrite   Permission = "intake.write"

	PermConsultRead  Permission = "consult.read"
	PermConsultWrite Permission = "consult.write"
)

// matrix is the whole of A3 and A4: who may do what. The owner is in every row
// ("everything"); the auditor is in every read row and in no write row.
var matrix = map[Permission][]Role{
	PermFacilityRead:   {RoleOwner, RoleNurse, RoleMedTech, RolePrescriber, RoleStaff, RoleAuditor, RoleFrontDesk, RoleMedicalAssistant, RoleProvider, RoleOwnership},
	PermFacilityManage: {RoleOwner},
	PermMemberRead:     {RoleOwner, RoleAuditor, RoleOwnership},
	PermMemberManage:   {RoleOwner},
	PermGrantManage:    {RoleOwner},
	PermSessionManage:  {RoleOwner},
	PermSettingsManage: {RoleOwner},
	PermReportRead:     {RoleOwner, RoleAuditor, RoleOwnership},

	PermAuditRead:   {RoleOwner, RoleAuditor},
	PermAuditExport: {RoleOwner, RoleAuditor},

	PermClientRead:     {RoleOwner, RoleNurse, RoleMedTech, RolePrescriber, RoleStaff, RoleAuditor, RoleFrontDesk, RoleMedicalAssistant, RoleProvider},
	PermClientCreate:   {RoleOwner, RoleNurse, RoleFrontDesk, RoleProvider},
	PermClientUpdate:   {RoleOwner, RoleNurse, RoleFrontDesk, RoleMedicalAssistant, RoleProvider},
	PermClientTransfer: {RoleOwner},

	PermNoteRead:  {RoleOwner, RoleNurse, RoleMedTech, RolePrescriber, RoleStaff, RoleAuditor, RoleMedicalAssistant, RoleProvider},
	PermNoteWrite: {RoleOwner, RoleNurse, RoleStaff, RoleMedicalAssistant, RoleProvider},

	PermTaskRead:  {RoleOwner, RoleNurse, RoleMedTech, RoleStaff, RoleAuditor, RoleFrontDesk, RoleMedicalAssistant, RoleProvider},
	PermTaskWrite: {RoleOwner, RoleNurse, RoleMedTech, RoleStaff, RoleFrontDesk, RoleMedicalAssistant, RoleProvider},

	PermAssessmentRead:  {RoleOwner, RoleNurse, RolePrescriber, RoleAuditor, RoleMedicalAssistant, RoleProvider},
	PermAssessmentWrite: {RoleOwner, RoleNurse, RoleMedicalAssistant, RoleProvider},

	PermOrderRead:  {RoleOwner, RoleNurse, RoleMedTech, RolePrescriber, RoleAuditor, RoleMedicalAssistant, RoleProvider},
	PermOrderWrite: {RoleOwner, RolePrescriber, RoleProvider},

	PermMedicationRead:       {RoleOwner, RoleNurse, RoleMedTech, RolePrescriber, RoleAuditor, RoleMedicalAssistant, RoleProvider},
	PermMedicationAdminister: {RoleOwner, RoleNurse, RoleMedTech, RoleMedicalAssistant, RoleProvider},

	PermIncidentRead:   {RoleOwner, RoleNurse, RoleAuditor, RoleProvider},
	PermIncidentWrite:  {RoleOwner, RoleNurse, RoleMedicalAssistant, RoleProvider},
	PermIncidentManage: {RoleOwner},

	PermDocumentRead:   {RoleOwner, RoleNurse, RolePrescriber, RoleAuditor, RoleMedicalAssistant, RoleProvider},
	PermDocumentWrite:  {RoleOwner, RoleNurse, RolePrescriber, RoleMedicalAssistant, RoleProvider},
	PermDocumentExport: {RoleOwner, RoleProvider},

	PermScheduleRead:  {RoleOwner, RoleNurse, RoleStaff, RoleAuditor, RoleFrontDesk, RoleMedicalAssistant, RoleProvider, RoleOwnership},
	PermScheduleWrite: {RoleOwner, RoleNurse, RoleFrontDesk, RoleProvider},
	PermIntakeRead:    {RoleOwner, RoleNurse, RoleAuditor, RoleFrontDesk, RoleMedicalAssistant, RoleProvider},
	PermIntakeWrite:   {RoleOwner, RoleNurse, RoleFrontDesk, RoleProvider},

	PermConsultRead:  {RoleOwner, RoleNurse, RolePrescriber, RoleAuditor, RoleProvider},
	PermConsultWrite: {RoleOwner, RolePrescriber, RoleProvider},
}

// Permissions returns every declared permission, sorted.
func Permissions() []Permission {
	out := make([]Permission, 0, len(matrix))
	for p := range matrix {
		out = append(out, p)
	}
	slices.Sort(out)
	return out
}

// Allowed tells whether the matrix lets the role do this. An unknown role or
// permission is never allowed.
func Allowed(r Role, p Permission) bool { return slices.Contains(matrix[p], r) }
