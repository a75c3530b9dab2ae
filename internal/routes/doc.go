// Package routes carries the route table from the control plane to routers and
// workers: signed, versioned, and kept on disk so that both start and go on
// while the control plane is away.
//
// It owns the form of the signed document and the last known good copy. It
// trusts the signing key alone: not the connection, not the disk. It never
// accepts a table older than the one it has, and never returns a route past its
// NotAfter, however long no newer table came.
package routes
