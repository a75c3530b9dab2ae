// Package census accounts for everything that a cell holds of organizations:
// schemas, login roles, credentials, context keys, keys in the KMS, prefixes in the
// object store, routes. Each must belong to an organization that may have it, and each
// organization that is past provisioning must have all of them.
//
// It owns the comparison and nothing that it compares. It trusts the control
// database for who the organizations are. It reads names alone, never a record or a
// key, and changes nothing: an orphan may be the last copy of something.
package census
