// Package reconcile compares the database server's own record with the audit
// trail (45 CFR 164.312(b)): who reached a tenant's clinical tables, and is there
// an audit entry for it?
//
// It owns the reading of the server's log (JSON lines) and the judgement of each
// line. Two kinds of lines count:
//
//   - Marks. Every statement of a tenant's role that reaches a clinical table leaves
//     one, by the policies of that table (migrations/cell/0003_access_mark.sql), with
//     the number of its transaction. The audit entry of the same number matches it. A
//     transaction that was rolled back is matched by an entry of a refusal or failure
//     that follows it, one for one. A read whose entry is written with others' names that
//     entry instead (0005_grouped_entries.sql): an entry of that id must follow within
//     seconds, in a transaction that left no mark, and be named by one transaction only.
//   - Statements. Those of superusers and cell_owner are recorded whole, and the DDL
//     of everybody (migrations/cell/recording.sql). One that names a tenant's table,
//     or could reach one in a way that its text does not show (a DO block, a function
//     that is not the server's own), is unmatched, unless it is word for word one of
//     the migrations in this program.
//
// It trusts the server to have written the log, and whoever can write to the log's
// files not to have invented lines. What hides itself is reported as far as it
// leaves a trace: a changed logging setting, lines missing from a session, a
// superuser's session without any statement, a role that can reach the tables and
// whose statements are not recorded. It does not see: a superuser who sets
// log_statement = 'mod' for a session as it begins and then only reads; the operating
// system's root, who reads data files; another server that a copy of the files or a
// backup was restored to.
//
// It never changes anything, and what it reports of a statement has no values in it.
package reconcile
