//go:build testssl

package e2e_test

import (
	"crypto/tls"
	"encoding/json"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/testkit"
)

// remark is a line of testssl's report.
type remark struct{ ID, Severity, Finding string }

// accepted are what testssl remarks of a listener that is as it should be, and why.
var accepted = map[string]string{
	"cert_revocation":    "the local authority keeps no list; a public certificate names one",
	"HTTP_status_code":   "the operators' root leads to the sign-in",
	"TLS_session_ticket": "Go changes the keys of tickets daily and takes none after seven days",
}

// severe are the severities that testssl gives to what should be changed.
var severe = []string{"LOW", "MEDIUM", "HIGH", "CRITICAL", "WARN", "FATAL"}

// testssl runs the scanner that `make tls` gives in CARESPHERE_TESTSSL against a listener
// of this machine, and returns what should be changed: of everything, or of what is named.
func testssl(t *testing.T, ca, address string, only ...string) (found []remark) {
	t.Helper()
	program := os.Getenv("CARESPHERE_TESTSSL")
	require.NotEmpty(t, program, "make tls runs this test")
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "report.json")
	args := append([]string{"--quiet", "--color", "0", "--warnings", "off", "--nodns", "none", "--ip", "127.0.0.1", "--add-ca", ca, "--jsonfile", file}, only...)
	cmd := exec.CommandContext(within(t, 20*time.Minute), program, append(args, "https://localhost:"+port)...)
	out, _ := cmd.CombinedOutput() // its status counts what it found
	report, err := os.ReadFile(file)
	require.NoError(t, err, "%s", out)
	var all []remark
	require.NoError(t, json.Unmarshal(report, &all), "%s", report)
	if len(only) == 0 {
		require.Greater(t, len(all), 80, "%s", out)
	}
	for _, r := range all {
		if slices.Contains(severe, r.Severity) {
			t.Logf("%s: %s %s: %s", address, r.Severity, r.ID, r.Finding)
			found = append(found, r)
		}
	}
	return found
}

// TestTestsslFindsNothing has both public listeners scanned from outside.
func TestTestsslFindsNothing(t *testing.T) {
	w := here(t)
	for _, origin := range []string{w.Origin(), w.OperatorOrigin()} {
		u, err := url.Parse(origin)
		require.NoError(t, err)
		for _, r := range testssl(t, w.Layout().CA(), u.Host) {
			require.Contains(t, accepted, r.ID, "%s: %s", origin, r.Finding)
		}
	}
}

// TestTestsslFindsAnOldProtocol has a listener scanned that speaks what nobody should.
func TestTestsslFindsAnOldProtocol(t *testing.T) {
	ca := testkit.CA(t)
	pair := ca.Issue(t, "localhost")
	cert, err := tls.LoadX509KeyPair(pair.Cert, pair.Key)
	require.NoError(t, err)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS12, //nolint:gosec // planted
		CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}}) //nolint:gosec // planted
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				_ = c.SetDeadline(time.Now().Add(10 * time.Second))
				buf := make([]byte, 4096)
				if _, err := c.Read(buf); err == nil {
					_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
				}
			}()
		}
	}()
	var ids []string
	for _, r := range testssl(t, ca.Path(), ln.Addr().String(), "--protocols") {
		ids = append(ids, r.ID)
	}
	require.Contains(t, ids, "TLS1")
	require.Contains(t, ids, "TLS1_1")
}
