// Package placement decides whether an organization may be served and tells
// routers and workers where.
//
// It owns the gate's stored decision, the route table with its version, the feed
// that publishes it, and the registry of workers. The rule itself is
// tenants.DecideGate; this package runs it in the transaction of whatever changed,
// and a reconciler runs it again over everything, so that a missed change is
// repaired within seconds. It trusts the database's clock and the mutual TLS of
// the listener for who a worker is. It holds no PHI and opens no tenant's schema.
package placement
