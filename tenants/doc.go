// Package tenants holds the nouns and rules of the business: organizations and
// their lifecycle, business associate agreements, facilities, roles and the
// permission matrix, actors, routes and the kinds of error.
//
// It owns meaning and no mechanism. It imports the standard library only, trusts
// nobody's input (every parser here rejects what it does not know) and never
// opens a connection, reads a clock on its own or writes a log line.
package tenants
