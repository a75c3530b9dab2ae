// Package record defines an audit entry and the one byte form of it that is
// hashed, sealed, exported and verified.
//
// It owns the encoding and nothing else: no database, no hashing, no signature.
// It is all that the writer of the trail and its independent verifier share, so
// that an error in either is not repeated by the other. It trusts no input: what
// Decode accepts is exactly what Append produces. It never carries PHI: callers
// put names of actions, types and ids in, and no clinical content.
package record
