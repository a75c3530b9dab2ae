package httpx

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/caresphere/caresphere/internal/obs"
)

// recheckEvery is how often a certificate's files are looked at, at most.
const recheckEvery = time.Second

// suites are what TLS 1.2 may use: forward secrecy and authenticated encryption.
// Go's own default still holds the CBC suites. TLS 1.3 has none to choose from.
var suites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// ServerTLS returns a server's configuration (TLS 1.2 and up, AEAD suites alone,
// HTTP/1.1) for a certificate and key in PEM files. A changed file is taken up
// within seconds; a broken one is logged and the last good pair stays.
func ServerTLS(certFile, keyFile string) (*tls.Config, error) {
	src, err := newCertSource(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		CipherSuites: suites,
		NextProtos:   []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return src.current(), nil
		},
	}, nil
}

// MutualTLS is ServerTLS that demands a client certificate of the CA. With
// allowed names given, the certificate's common name must be one of them, or the
// handshake fails.
func MutualTLS(caFile, certFile, keyFile string, allowedCNs ...string) (*tls.Config, error) {
	cfg, err := ServerTLS(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	if cfg.ClientCAs, err = loadPool(caFile); err != nil {
		return nil, err
	}
	cfg.ClientAuth = tls.RequireAndVerifyClientCert
	cfg.VerifyConnection = verifyCN(allowedCNs)
	return cfg, nil
}

// ClientTLS returns a client's configuration that trusts the CA alone. With a
// certificate and key it shows them. With names given, the server's common name
// must be one of them, beside the usual check of its host name.
func ClientTLS(caFile, certFile, keyFile string, serverCNs ...string) (*tls.Config, error) {
	pool, err := loadPool(caFile)
	if err != nil {
		return nil, err
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, VerifyConnection: verifyCN(serverCNs)}
	if certFile != "" {
		src, err := newCertSource(certFile, keyFile)
		if err != nil {
			return nil, err
		}
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return src.current(), nil
		}
	}
	return cfg, nil
}

func verifyCN(allowed []string) func(tls.ConnectionState) error {
	if len(allowed) == 0 {
		return nil
	}
	return func(state tls.ConnectionState) error {
		if len(state.VerifiedChains) == 0 {
			return errors.New("the peer's certificate was not verified")
		}
		if cn := state.PeerCertificates[0].Subject.CommonName; !slices.Contains(allowed, cn) {
			return fmt.Errorf("the peer %q is not one of %q", cn, allowed)
		}
		return nil
	}
}

func loadPool(caFile string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("reading the CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", caFile)
	}
	return pool, nil
}

// certSource holds a certificate and takes up a changed file.
type certSource struct {
	certFile, keyFile string

	mu      sync.Mutex
	cert    *tls.Certificate
	seen    [2]fileMark
	checked time.Time
}

type fileMark struct {
	mod  time.Time
	size int64
}

func newCertSource(certFile, keyFile string) (*certSource, error) {
	s := &certSource{certFile: certFile, keyFile: keyFile}
	s.seen = s.marks()
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("loading the certificate: %w", err)
	}
	s.cert, s.checked = &cert, time.Now()
	return s, nil
}

func (s *certSource) marks() (m [2]fileMark) {
	for i, f := range []string{s.certFile, s.keyFile} {
		if info, err := os.Stat(f); err == nil {
			m[i] = fileMark{info.ModTime(), info.Size()}
		}
	}
	return m
}

func (s *certSource) current() *tls.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.checked) < recheckEvery {
		return s.cert
	}
	s.checked = time.Now()
	now := s.marks()
	if now == s.seen {
		return s.cert
	}
	cert, err := tls.LoadX509KeyPair(s.certFile, s.keyFile)
	if err != nil {
		// Half a renewal: look again on the next handshake after the pause.
		slog.Error("the renewed certificate cannot be used; the last good one stays", "file", s.certFile, obs.Err(err))
		return s.cert
	}
	slog.Info("certificate renewed", "file", s.certFile)
	s.cert, s.seen = &cert, now
	return s.cert
}
