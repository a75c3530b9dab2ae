// Package records holds what the record packages share: pages of lists.
//
// Each package below it owns one kind of record: its rules, its fields and their
// sealing. They trust dataplane/access for who acts and for the transaction, and
// never import each other.
package records
