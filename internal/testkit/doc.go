// Package testkit gives tests the real servers: PostgreSQL, Kratos, Vault, S3,
// stripe-mock, toxiproxy, and the whole running stack. Each is started once a
// run, when the first test asks for it: by the harness (`make test` runs
// `go run ./internal/testkit/cmd/harness -- go test ./...`) for all packages
// together, else by the test process for itself. Nothing is mocked and nothing
// is skipped: a server that does not start fails the test with its log.
//
// The code under test gets application roles' connections only; a superuser is
// there for planting faults. Only tests import this package.
package testkit
