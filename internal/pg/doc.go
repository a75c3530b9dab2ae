// Package pg opens PostgreSQL pools, runs transactions and applies migrations.
//
// It owns how this system talks to PostgreSQL: TLS that verifies the server's
// name, deadlines on connecting and on statements, the extended protocol, and the
// mapping of tenants.ID to uuid. It trusts the connection string that it is given
// and nothing that the server says before its certificate is verified. It knows no
// table and holds no SQL of any domain, and it never falls back to a connection
// without TLS, except over a Unix socket that is asked for by name.
package pg
