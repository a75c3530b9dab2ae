// Package devstack runs the local stack: it finds or installs PostgreSQL, builds
// the other servers, makes certificates, keys and secrets, starts everything in
// order and stops it in reverse. `caresphere up` and the tests stand on it.
//
// It owns the state folder and the processes it starts. It trusts the machine's
// user and listens on the loopback alone. It is no way to run CareSphere for
// real, and no other package may depend on it but testkit and the command line.
package devstack
