package tenantdb

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/caresphere/caresphere/tenants"
)

// CertificateLife is how long a tenant's client certificate holds. It is renewed
// at half of it, so that a provisioner may be away for days.
const CertificateLife = 7 * 24 * time.Hour

// CA signs the tenants' client certificates. Only the provisioner holds one.
type CA struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// LoadCA reads the authority's certificate and key, both PEM.
func LoadCA(certPEM, keyPEM []byte) (*CA, error) {
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("reading the tenant authority: %w", err)
	}
	cert, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return nil, fmt.Errorf("reading the tenant authority: %w", err)
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok || !cert.IsCA {
		return nil, errors.New("tenantdb: the tenant authority's certificate is not an authority's")
	}
	return &CA{cert: cert, key: key}, nil
}

// Issue returns a fresh client certificate for the tenant's login role: ECDSA
// P-256, common name = role name, CertificateLife from now.
func (ca *CA) Issue(tenant tenants.ID, now time.Time) (tls.Certificate, error) {
	if tenant.IsZero() {
		return tls.Certificate{}, errors.New("tenantdb: a certificate needs a tenant")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making a client key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making a serial number: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: tenants.RoleName(tenant)},
		// Clocks of two machines may differ by minutes.
		NotBefore:   now.Add(-5 * time.Minute),
		NotAfter:    now.Add(CertificateLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("signing a client certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("reading back a client certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}
