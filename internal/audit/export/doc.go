// Package export writes a part of an audit trail as JSON Lines or CSV together
// with everything that proves it, for somebody who has no access to us: see verify.
//
// It owns the writing of the format that record defines. It trusts its database
// as little as its reader does: what the tables hold is written as it is, and an
// entry that was changed or taken away shows in the file, whatever the filter says. A
// log that would hide entries whole is refused: by an epoch that was not signed, a
// sealed bound that lies ahead, or an entry without a leaf. It holds a page of 32
// blocks in memory and no more, and no transaction while it writes. It never opens a
// transaction of its own.
//
// # The format
//
// A file is a header, leaves in the order of the tree, and a footer. Every 64
// leaves, counted from the log's first, are a block. A CSV file has a row of
// titles before the header and every cell in quotes; a JSON Lines file has the
// same values as fields. Lines end in a single newline. The kinds of line:
//
//   - header: the log's name, the filter, the range of leaves, and the signed tree
//     head (C2SP tlog-checkpoint) by the key caresphere-audit.
//   - entry: leaf index, leaf hash, and the entry in its canonical form, whose hash
//     that is (RFC 6962: SHA-256 of a zero byte and the content). In CSV the readable
//     columns repeat the entry, safe for spreadsheets.
//   - withheld: index and hash of an entry that the filter does not choose and that is
//     as it was sealed. One that is not is shown, and does not verify.
//   - missing: index and hash of an entry that the database no longer has.
//   - block: after its leaves, the hash of the block and its audit path to the root
//     of the tree. Where the filter chooses nothing of a block, this line is all of it.
//   - footer: counts, the SHA-256 of every byte before it, and a note over both by
//     the key caresphere-export.
//
// Each line but the footer ends in a running hash: SHA-256 of the one before and of
// the line's own bytes up to it, beginning with the hash of the format's name. It
// proves nothing by itself; it tells which line was changed.
//
// What a file proves: the entries shown are those that were sealed; with no filter,
// all of them up to the tree head. With a filter, that the withheld ones exist and
// how many they are; that none of them should have been shown is the exporter's
// word, which is what its signature is for.
package export
