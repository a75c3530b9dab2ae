// Package access is the one door to a tenant's data.
//
// Nothing else opens a tenant's transaction. Do decides by the permission matrix
// and the facility scope, opens the transaction under the tenant's own login role
// with a signed context, runs the caller's function, writes exactly one audit
// entry and commits. What was read leaves only after its entry is committed; a
// denial or failure commits an entry of its own, and if even that cannot be
// written the answer is tenants.KindUnavailable: no record, no action.
//
// It owns the tenants' connection pools, the authorization of members and the
// repeat of a POST. It trusts the session gate for who acts, and the database's
// verified context for what is then visible. It never lets a caller choose the
// tenant: that comes with the actor.
package access
