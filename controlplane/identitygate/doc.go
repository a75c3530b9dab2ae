// Package identitygate is the only way from outside to a realm's Kratos: a
// reverse proxy under /.ory/ with guards in front.
//
// It owns the list of what of Kratos is reachable, the strict reading of what is
// submitted, the limits on tries, the rule that a one-time code counts once, the
// order of onboarding at enrolment, and the audit entries of signing in and out and of
// ending other sessions.
// Kratos is sent exactly what was parsed and checked, encoded anew: a body that
// two parsers could read differently never reaches it. It trusts Kratos for
// whether a password or code is right. It never passes on a header about the
// client that the client set, an answer of Kratos about its own failures, or a
// session of which no audit entry could be written.
package identitygate
