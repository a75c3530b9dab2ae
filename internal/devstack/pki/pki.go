// Package pki is the local certificate authority of a development stack. It
// makes and renews certificates for the roles of one machine and nothing else:
// it trusts whoever can read its folder, and its keys never leave that folder.
// A real deployment brings certificates of its own.
package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	authorityLife = 10 * 365 * 24 * time.Hour
	leafLife      = 180 * 24 * time.Hour
	// A certificate with less than this left is made anew at the next start.
	renewBefore = 60 * 24 * time.Hour
)

// Authority signs certificates. Make one with Open.
type Authority struct {
	dir  string
	name string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	now  func() time.Time
}

// Pair names the PEM files of a certificate and its private key.
type Pair struct {
	Cert string
	Key  string
}

// Open loads the authority dir/name.crt, dir/name.key, or makes it where it is
// missing or near its end. The folder is made with mode 0700, keys with 0600.
func Open(dir, name, commonName string) (*Authority, error) {
	return open(dir, name, commonName, time.Now)
}

func open(dir, name, commonName string, now func() time.Time) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the certificate folder: %w", err)
	}
	a := &Authority{dir: dir, name: name, now: now}
	cert, key, err := load(a.files(name))
	switch {
	case err == nil && now().Before(cert.NotAfter.Add(-leafLife)):
		a.cert, a.key = cert, key
		return a, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("reading the certificate authority %s: %w", name, err)
	}
	key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the key of authority %s: %w", name, err)
	}
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: commonName, Organization: []string{"CareSphere local development"}},
		NotBefore:             now().Add(-5 * time.Minute),
		NotAfter:              now().Add(authorityLife),
		IsCA:                  true,
		MaxPathLenZero:        true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("signing authority %s: %w", name, err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("signing authority %s: %w", name, err)
	}
	a.key = key
	return a, store(a.files(name), der, key)
}

// CertPath is the authority's own certificate, what clients trust; KeyPath its key.
func (a *Authority) CertPath() string { return a.files(a.name).Cert }

// KeyPath is the authority's private key, for a process that issues on its behalf.
func (a *Authority) KeyPath() string { return a.files(a.name).Key }

// Pool returns a pool that trusts this authority alone.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// Issue returns dir/commonName.crt and .key: the ones there if they are still
// good for the same names, else new ones, for use as server and as client. The
// hosts are DNS names or IP addresses.
func (a *Authority) Issue(commonName string, hosts ...string) (Pair, error) {
	return a.IssueAs(commonName, commonName, hosts...)
}

// IssueAs is Issue with a file name of its own, for a second certificate of the
// same common name.
func (a *Authority) IssueAs(file, commonName string, hosts ...string) (Pair, error) {
	return a.issue(a.files(file), commonName, hosts)
}

// IssueIn is Issue into another folder than the authority's.
func (a *Authority) IssueIn(dir, commonName string, hosts ...string) (Pair, error) {
	return a.issue(filesIn(dir, commonName), commonName, hosts)
}

func (a *Authority) issue(pair Pair, commonName string, hosts []string) (Pair, error) {
	cert, _, err := load(pair)
	if err == nil && a.current(cert, commonName, hosts) {
		return pair, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("making the key of %s: %w", commonName, err)
	}
	template := a.leaf(commonName, hosts)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return Pair{}, fmt.Errorf("signing the certificate of %s: %w", commonName, err)
	}
	return pair, store(pair, der, key)
}

func (a *Authority) leaf(commonName string, hosts []string) *x509.Certificate {
	names, ips := split(hosts)
	return &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: commonName},
		NotBefore:    a.now().Add(-5 * time.Minute),
		NotAfter:     a.now().Add(leafLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:     names,
		IPAddresses:  ips,
	}
}

func (a *Authority) current(cert *x509.Certificate, commonName string, hosts []string) bool {
	names, ips := split(hosts)
	return a.now().Before(cert.NotAfter.Add(-renewBefore)) &&
		cert.Subject.CommonName == commonName &&
		slices.Equal(cert.DNSNames, names) &&
		slices.EqualFunc(cert.IPAddresses, ips, net.IP.Equal) &&
		cert.CheckSignatureFrom(a.cert) == nil
}

func (a *Authority) files(name string) Pair {
	return filesIn(a.dir, name)
}

func filesIn(dir, name string) Pair {
	return Pair{Cert: filepath.Join(dir, name+".crt"), Key: filepath.Join(dir, name+".key")}
}

// TLS loads the pair for use in a TLS configuration.
func (p Pair) TLS() (tls.Certificate, error) { return tls.LoadX509KeyPair(p.Cert, p.Key) }

func split(hosts []string) (names []string, ips []net.IP) {
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			ips = append(ips, ip)
		} else {
			names = append(names, host)
		}
	}
	return names, ips
}

func serial() *big.Int {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b)
}

func load(p Pair) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	certPEM, err := os.ReadFile(p.Cert)
	if err != nil {
		return nil, nil, err
	}
	keyPEM, err := os.ReadFile(p.Key)
	if err != nil {
		return nil, nil, err
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, nil, err
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, nil, errors.New("the key is not an ECDSA key")
	}
	return pair.Leaf, key, nil
}

// store writes the key first: a certificate on disk always has its key.
func store(p Pair, der []byte, key *ecdsa.PrivateKey) error {
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encoding a private key: %w", err)
	}
	if err := writePEM(p.Key, "PRIVATE KEY", keyDER, 0o600); err != nil {
		return err
	}
	return writePEM(p.Cert, "CERTIFICATE", der, 0o644)
}

func writePEM(path, kind string, der []byte, mode fs.FileMode) error {
	var b bytes.Buffer
	if err := pem.Encode(&b, &pem.Block{Type: kind, Bytes: der}); err != nil {
		return fmt.Errorf("encoding %s: %w", path, err)
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, b.Bytes(), mode); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
