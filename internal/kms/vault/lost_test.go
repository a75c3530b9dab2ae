package vault_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caresphere/caresphere/internal/kms/driver"
	"github.com/caresphere/caresphere/internal/kms/vault"
	"github.com/caresphere/caresphere/internal/testkit"
)

// TestARotationWhoseAnswerIsLostIsMadeOnce loses the answers of Vault: a rotation is
// not sent again, for it may have been made, and a read is.
func TestARotationWhoseAnswerIsLostIsMadeOnce(t *testing.T) {
	t.Parallel()
	c := newCell(t, testkit.Vault(t))
	key, _, _ := c.made(t, c.open(t, vault.RoleWorker))
	roots := x509.NewCertPool()
	ca, err := os.ReadFile(c.server.CA)
	if err != nil || !roots.AppendCertsFromPEM(ca) {
		t.Fatalf("reading the authority: %v", err)
	}
	upstream, err := url.Parse(c.server.Address)
	if err != nil {
		t.Fatal(err)
	}
	var rotations, reads atomic.Int32
	proxy := httputil.NewSingleHostReverseProxy(upstream)
	proxy.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	proxy.ModifyResponse = func(r *http.Response) error {
		lost := strings.HasSuffix(r.Request.URL.Path, "/rotate")
		if lost {
			rotations.Add(1)
		}
		if r.Request.Method == http.MethodGet && strings.Contains(r.Request.URL.Path, "/shredded/") {
			lost = reads.Add(1) == 1
		}
		if lost {
			_, _ = io.Copy(io.Discard, r.Body)
			return errors.New("the answer is lost")
		}
		return nil
	}
	server := httptest.NewTLSServer(proxy)
	t.Cleanup(server.Close)
	cfg := c.config(t, vault.RoleRewrapper)
	cfg.Address, cfg.CAFile = server.URL, filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(cfg.CAFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	rewrapper := openWith(t, cfg)
	if _, err := rewrapper.Rotate(t.Context(), key); !errors.Is(err, driver.ErrUnavailable) {
		t.Fatalf("the answer was lost, and: %v", err)
	}
	if n := rotations.Load(); n != 1 {
		t.Errorf("a rotation was sent %d times", n)
	}
	status, err := rewrapper.Status(t.Context(), key)
	if err != nil {
		t.Fatalf("a read whose first answer is lost is sent again: %v", err)
	}
	if reads.Load() < 2 || status.Version != 2 {
		t.Errorf("%d reads, version %d", reads.Load(), status.Version)
	}
}
