// Package scale measures a whole stack as its tenants grow in number: what a request
// takes, what each program and PostgreSQL hold in memory, how long it takes to make,
// prove, seal and migrate all of them. `make scale` runs it; docs/scale.md has what
// it gave.
//
// It owns no code of the product. Tenants are made in bulk, from agreements that are
// planted as executed, but provisioned by the running provisioner. People are copies
// of one real session in Kratos' database, each of its own organization, so that
// every request is judged as any other is. It trusts the machine to do nothing else
// meanwhile, and never runs as part of the usual tests.
package scale
