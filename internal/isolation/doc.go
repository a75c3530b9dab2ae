// Package isolation is the signed report of a proof that tenants are apart, as
// anyone may keep it and check it offline: its fields, its one canonical form, its
// signature.
//
// It trusts the one public key that the reader brings. It tries nothing itself and
// knows no database: the proof is the provisioner's. A report holds names of
// tables, roles and policies and never a tenant's data.
package isolation
