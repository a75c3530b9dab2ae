// Package audit writes the trail of who did what (45 CFR 164.312(b)) and names
// the logs that its parts seal, search and export.
//
// It owns the insert of an entry, in the transaction of the action that it
// records, and the naming of logs. The parts: record is the canonical form,
// sealer gives entries their places in a Merkle tree and signs its heads, search
// and export read, verify checks an export without trusting any of the others.
//
// It trusts the database's verified context for the actor in a tenant's trail,
// and the caller for the actor in the control plane's. It never updates or
// deletes, never opens a transaction of its own for an entry, and never carries
// PHI: names, ids and counts only.
package audit
