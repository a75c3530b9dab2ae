// Package sealer gives the entries of every log their places in a Merkle tree,
// signs the tree's heads and anchors them outside the database.
//
// It owns the sealing tables: it alone inserts into them, one process a log at a
// time. It trusts PostgreSQL's snapshots for what is committed, and its signing
// key; it does not trust the stored hashes: before it extends a tree it proves
// that they still give the root that was anchored, and it stops that log when
// they do not. Nor does it trust where the database says that sealing begins and how
// far it came: an epoch needs a signed statement that the anchor holds too, and a
// bound that transactions have not reached stops the log. It never changes or deletes a row, and never reads more of a
// tenant than its trail.
package sealer
