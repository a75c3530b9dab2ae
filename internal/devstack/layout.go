package devstack

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// DefaultPortBase is where the browser finds a local stack.
const DefaultPortBase = 8443

// Layout says where a stack lives: its state folder and its ports.
type Layout struct {
	// State is an absolute path.
	State string
	// Base is the first of the stack's ports; the others follow it.
	Base int
}

// LayoutFromEnv reads CARESPHERE_STATE (default .caresphere) and
// CARESPHERE_PORT_BASE (default 8443).
func LayoutFromEnv() (Layout, error) {
	state := os.Getenv("CARESPHERE_STATE")
	if state == "" {
		state = ".caresphere"
	}
	state, err := filepath.Abs(state)
	if err != nil {
		return Layout{}, fmt.Errorf("locating the state folder: %w", err)
	}
	base := DefaultPortBase
	if text := os.Getenv("CARESPHERE_PORT_BASE"); text != "" {
		base, err = strconv.Atoi(text)
		if err != nil || base < 1024 || base > 65000 {
			return Layout{}, fmt.Errorf("CARESPHERE_PORT_BASE must be a number from 1024 to 65000")
		}
	}
	return Layout{State: state, Base: base}, nil
}

// Port is a part of the stack that listens, as an offset from the base.
type Port int

// The ports.
const (
	PortPublic Port = iota
	PortOperators
	PortControlPlane
	PortKratos
	PortKratosAdmin
	PortOpsKratos
	PortOpsKratosAdmin
	PortPostgres
	PortWorkerA
	PortWorkerB
	PortHealthControlPlane
	PortHealthProvisioner
	PortHealthRouter
	PortHealthWorkerA
	PortHealthWorkerB
	PortVault
	PortS3
	PortStripe
	PortVaultCluster
	PortStripePlain
	portCount
)

var portNames = map[Port]string{
	PortPublic: "the public origin", PortOperators: "the operators' console", PortControlPlane: "the control plane",
	PortKratos: "Kratos", PortKratosAdmin: "Kratos' admin API", PortOpsKratos: "the operators' Kratos",
	PortOpsKratosAdmin: "the operators' Kratos' admin API", PortPostgres: "PostgreSQL",
	PortWorkerA: "worker a", PortWorkerB: "worker b", PortHealthControlPlane: "the control plane's health",
	PortHealthProvisioner: "the provisioner's health", PortHealthRouter: "the router's health",
	PortHealthWorkerA: "worker a's health", PortHealthWorkerB: "worker b's health", PortVault: "Vault",
	PortS3: "S3", PortStripe: "stripe-mock", PortVaultCluster: "Vault's raft", PortStripePlain: "stripe-mock behind its TLS",
}

// String names the part.
func (p Port) String() string { return portNames[p] }

// Ports lists the ports that a stack listens on; full adds Vault, S3 and stripe-mock.
func Ports(full bool) []Port {
	last := PortVault
	if full {
		last = portCount
	}
	ports := make([]Port, 0, last)
	for p := range last {
		ports = append(ports, p)
	}
	return ports
}

// Port returns the part's port number.
func (l Layout) Port(p Port) int { return l.Base + int(p) }

// URL returns the part's base URL on this machine.
func (l Layout) URL(p Port) string { return loopbackURL(l.Port(p)) }

// Address returns the part's host:port to listen on.
func (l Layout) Address(p Port) string { return "127.0.0.1:" + strconv.Itoa(l.Port(p)) }

// Path returns a path in the state folder.
func (l Layout) Path(parts ...string) string {
	return filepath.Join(append([]string{l.State}, parts...)...)
}

// CA is the file of the stack's authority, for browsers and clients to trust.
func (l Layout) CA() string { return l.Path("tls", "ca.crt") }

// Log is a part's log file.
func (l Layout) Log(name string) string { return l.Path("logs", name+".log") }

// Traces is the file of a program's spans, JSON lines, if the stack writes them.
func (l Layout) Traces(name string) string { return l.Path("logs", name+".traces") }

// folders makes the state folder. Others may pass through it, since the database
// may run under another account, and see nothing in it.
func (l Layout) folders() error {
	if err := os.MkdirAll(l.State, 0o711); err != nil { //nolint:gosec // the database's account passes through
		return fmt.Errorf("making the state folder: %w", err)
	}
	if err := os.Chmod(l.State, 0o711); err != nil { //nolint:gosec // the same
		return fmt.Errorf("setting the state folder's mode: %w", err)
	}
	for _, dir := range []string{"tls", "secrets", "keys", "logs", "kratos", "blobs", "router", "worker-a", "worker-b", "vault", "s3"} {
		if err := os.MkdirAll(l.Path(dir), 0o700); err != nil {
			return fmt.Errorf("making %s: %w", l.Path(dir), err)
		}
	}
	return nil
}
