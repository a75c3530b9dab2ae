// Package obs is what a process says about itself: structured log lines,
// Prometheus metrics and OpenTelemetry spans.
//
// It owns the shape of all three and nothing else. It trusts the names of routes
// and statements, which are ours, and no value that came with a request: a log
// line, a label or a span never carries a URL, a query, a body, a header of the
// client, an SQL argument or the text of a database error, because each of them
// may hold PHI. What identifies a request is its id and its tenant's id.
package obs
