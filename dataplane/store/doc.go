// Package store holds the SQL of one tenant's schema, compiled by sqlc from
// queries/*.sql against migrations/tenant.
//
// It owns the statements and nothing else: it decides nothing, opens no
// transaction and names no schema (the connection's search_path does). It trusts
// the door of dataplane/access to run it inside a tenant's transaction with a
// signed context; without one, row-level security shows it no row.
package store
