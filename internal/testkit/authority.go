package testkit

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"

	"github.com/caresphere/caresphere/internal/devstack/pki"
)

type authorityInfo struct {
	Dir, CA string
}

// Authority issues certificates of the run's service CA.
type Authority struct {
	ca *pki.Authority
}

// CA returns the run's service CA, which all shared servers' certificates come
// from.
func CA(t testing.TB) *Authority {
	t.Helper()
	info := ask[authorityInfo](t, "authority", nil)
	ca, err := pki.Open(info.Dir, "ca", "CareSphere test CA")
	if err != nil {
		t.Fatalf("opening the test authority: %v", err)
	}
	return &Authority{ca: ca}
}

// TenantCA returns the run's CA for tenants' client certificates.
func TenantCA(t testing.TB) *Authority {
	t.Helper()
	info := ask[authorityInfo](t, "authority", nil)
	ca, err := pki.Open(info.Dir, "tenant-ca", "CareSphere test tenant CA")
	if err != nil {
		t.Fatalf("opening the tenants' test authority: %v", err)
	}
	return &Authority{ca: ca}
}

// Path is the authority's certificate file; Pool trusts it alone.
func (a *Authority) Path() string { return a.ca.CertPath() }

// KeyPath is the authority's private key file.
func (a *Authority) KeyPath() string { return a.ca.KeyPath() }

// Pool returns a pool that trusts this authority alone.
func (a *Authority) Pool() *x509.CertPool { return a.ca.Pool() }

// Issue returns the files of a certificate with this common name, for localhost,
// 127.0.0.1 and the name itself, good as server and as client.
func (a *Authority) Issue(t testing.TB, commonName string) pki.Pair {
	t.Helper()
	dir := t.TempDir()
	pair, err := a.ca.IssueIn(dir, commonName, commonName, "localhost", "127.0.0.1")
	if err != nil {
		t.Fatalf("issuing a certificate for %s: %v", commonName, err)
	}
	return pair
}

// Other returns an authority of the test's own that nobody else trusts.
func Other(t testing.TB) *Authority {
	t.Helper()
	ca, err := pki.Open(filepath.Join(t.TempDir(), "other"), "ca", "Somebody else's CA")
	if err != nil {
		t.Fatalf("making another authority: %v", err)
	}
	if _, err := os.Stat(ca.CertPath()); err != nil {
		t.Fatalf("making another authority: %v", err)
	}
	return &Authority{ca: ca}
}
