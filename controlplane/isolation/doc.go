// Package isolation proves that tenants are apart, on schedule and on demand, and
// mends what drifted.
//
// It owns the probes of a tenant's route, sessions, SQL, key and storage, the
// comparison of the catalog with what the migrations produce, the quarantine of a
// tenant that fails and the repair of what differs. It trusts the migrations of
// this build for what is declared, and the control database for where the gate
// should stand. It never reads a tenant's records: what it asks as a tenant are
// counts and empty selections. A quarantine ends by a person, never by itself.
package isolation
