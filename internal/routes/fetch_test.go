package routes_test

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/internal/routes"
)

// TestAReaderBelievesTheKeyAlone reads a table that was signed, one that another key
// signed, and none.
func TestAReaderBelievesTheKeyAlone(t *testing.T) {
	private, public, err := note.GenerateKey(rand.Reader, "caresphere-route")
	require.NoError(t, err)
	signer, err := note.NewSigner(private)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "route.pub")
	require.NoError(t, os.WriteFile(file, []byte(public+"\n"), 0o600))
	good, forged := sign(t, key{signer: signer}, table(7, "oak")), sign(t, newKey(t, "caresphere-route"), table(8, "oak"))
	var answer []byte
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != routes.Path || answer == nil {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		_, _ = w.Write(answer)
	}))
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	read, err := routes.Reader(server.URL, file, &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})
	require.NoError(t, err)

	answer = good
	got, err := read(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 7, got.Version)
	answer = forged
	_, err = read(t.Context())
	require.ErrorIs(t, err, routes.ErrNotAuthentic)
	answer = nil
	_, err = read(t.Context())
	require.ErrorContains(t, err, "no route table")
	_, err = routes.Reader(server.URL, file+".absent", &tls.Config{MinVersion: tls.VersionTLS12})
	require.Error(t, err, "without a key nothing is believed")
}
