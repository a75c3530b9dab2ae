// Package verify checks an export of an audit trail with nothing but the file and
// public keys.
//
// It owns the judgement whether a file is what was sealed, and names the line,
// the leaf and the entry where it is not. It shares only the record package with
// those who wrote the file: the Merkle tree (RFC 6962), the lines, CSV and the
// running hash are implemented here a second time. It trusts the keys it is given
// and no byte of the file. It never opens a connection, holds one block of lines
// in memory, and never stops at the first problem.
package verify
