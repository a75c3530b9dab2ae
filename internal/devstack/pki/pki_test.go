package pki

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(b)
}

func TestCertificatesAreUsedAgainUntilNearTheirEnd(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	clock := func() time.Time { return now }
	ca, err := open(dir, "ca", "Test CA", clock)
	require.NoError(t, err)
	pair, err := ca.Issue("router", "router", "127.0.0.1")
	require.NoError(t, err)
	first, authority := read(t, pair.Cert), read(t, ca.CertPath())

	again := func() string {
		ca, err := open(dir, "ca", "Test CA", clock)
		require.NoError(t, err)
		pair, err := ca.Issue("router", "router", "127.0.0.1")
		require.NoError(t, err)
		_, err = pair.TLS()
		require.NoError(t, err)
		return read(t, pair.Cert)
	}
	now = now.Add(leafLife - renewBefore - time.Hour)
	require.Equal(t, first, again(), "more than the margin is left")
	now = now.Add(2 * time.Hour)
	renewed := again()
	require.NotEqual(t, first, renewed, "the margin is reached")
	require.Equal(t, authority, read(t, ca.CertPath()), "the authority stays: browsers trust it")
	now = now.Add(authorityLife - 3*leafLife)
	again()
	require.Equal(t, authority, read(t, ca.CertPath()), "a year and more is left to it")
	now = now.Add(2 * leafLife)
	again()
	require.NotEqual(t, authority, read(t, ca.CertPath()), "an authority near its end is replaced, and everything under it")
}

func TestOtherNamesMakeAnotherCertificate(t *testing.T) {
	ca, err := Open(t.TempDir(), "ca", "Test CA")
	require.NoError(t, err)
	pair, err := ca.Issue("router", "router")
	require.NoError(t, err)
	first := read(t, pair.Cert)
	_, err = ca.Issue("router", "router", "localhost")
	require.NoError(t, err)
	require.NotEqual(t, first, read(t, pair.Cert))
}

func TestATornPairIsMadeAnew(t *testing.T) {
	ca, err := Open(t.TempDir(), "ca", "Test CA")
	require.NoError(t, err)
	pair, err := ca.Issue("router", "router")
	require.NoError(t, err)
	other, err := ca.Issue("worker", "worker")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(pair.Key, []byte(read(t, other.Key)), 0o600))
	_, err = ca.Issue("router", "router")
	require.NoError(t, err)
	_, err = pair.TLS()
	require.NoError(t, err)
}

func TestKeysAreSecret(t *testing.T) {
	ca, err := Open(filepath.Join(t.TempDir(), "tls"), "ca", "Test CA")
	require.NoError(t, err)
	pair, err := ca.Issue("router", "router")
	require.NoError(t, err)
	for _, path := range []string{ca.KeyPath(), pair.Key} {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	}
	info, err := os.Stat(filepath.Dir(ca.KeyPath()))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
}

func TestADamagedAuthorityIsNotReplaced(t *testing.T) {
	dir := t.TempDir()
	ca, err := Open(dir, "ca", "Test CA")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(ca.KeyPath(), []byte("garbage"), 0o600))
	_, err = Open(dir, "ca", "Test CA")
	require.ErrorContains(t, err, "certificate authority ca")
}

func TestServerAndClientKnowEachOther(t *testing.T) {
	ca, err := Open(t.TempDir(), "ca", "Test CA")
	require.NoError(t, err)
	stranger, err := Open(t.TempDir(), "ca", "Test CA")
	require.NoError(t, err)
	serverPair, err := ca.Issue("worker", "worker", "127.0.0.1")
	require.NoError(t, err)
	clientPair, err := ca.Issue("router", "router")
	require.NoError(t, err)
	server, err := serverPair.TLS()
	require.NoError(t, err)
	client, err := clientPair.TLS()
	require.NoError(t, err)

	dial := func(roots *x509.CertPool, host string) error {
		l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{server}, ClientCAs: ca.Pool(), ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12})
		require.NoError(t, err)
		defer func() { _ = l.Close() }()
		go func() {
			c, err := l.Accept()
			if err == nil {
				_, _ = io.WriteString(c, "hello")
				_ = c.Close()
			}
		}()
		raw, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		c := tls.Client(raw, &tls.Config{RootCAs: roots, ServerName: host, Certificates: []tls.Certificate{client}, MinVersion: tls.VersionTLS12})
		defer func() { _ = c.Close() }()
		_, err = io.ReadAll(c)
		return err
	}
	require.NoError(t, dial(ca.Pool(), "worker"))
	require.NoError(t, dial(ca.Pool(), "127.0.0.1"))
	require.Error(t, dial(ca.Pool(), "elsewhere"))
	require.Error(t, dial(stranger.Pool(), "worker"))
}
