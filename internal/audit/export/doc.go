// Package export writes a part of an audit trail as JSON Lines or CSV together
// with everything that proves it, for somebody who has no access to us: see verify.
//
// It owns the writing of the format that record defines. It trusts its database
// as little as its reader does: what the tables hold is written as it is, and an
// entry that was changed or taken away shows in the file. It holds a block of
// entries in memory and no more. It never opens a transaction of its own.
package export
