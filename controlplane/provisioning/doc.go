// Package provisioning brings an organization with an executed agreement to life
// in a cell, and carries gate decisions to where they hold.
//
// It owns the steps (schema, role, tables, key, credential, first owner, storage,
// billing, route, probe), the lease that lets one process at a time take them, the
// tenants' login roles, the renewal of their credentials, and the rotation of the
// tenants' keys. Each step looks
// whether its work is there, acts, and looks again, so that a process killed
// anywhere leaves something that the next one completes; every write to the
// control database and to the cell carries the lease's fence, so that one that was
// paused too long changes nothing.
//
// It trusts the control database for who has an agreement in force, and asks again
// before every step. It never reads a record of a tenant, never holds a data key
// of one, and never makes anything for an organization without an agreement in force.
package provisioning
