package isolation_test

import (
	"bytes"
	"crypto/rand"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/internal/isolation"
	"github.com/caresphere/caresphere/tenants"
)

func keys(t *testing.T, name string) (note.Signer, note.Verifier) {
	t.Helper()
	private, public, err := note.GenerateKey(rand.Reader, name)
	require.NoError(t, err)
	signer, err := note.NewSigner(private)
	require.NoError(t, err)
	verifier, err := note.NewVerifier(public)
	require.NoError(t, err)
	return signer, verifier
}

func sample() isolation.Report {
	at := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	return isolation.Report{Version: isolation.Version, ID: tenants.NewID(), Number: 7, Cell: "main", Scope: "all", StartedAt: at, FinishedAt: at.Add(time.Second),
		Attempts: []isolation.Attempt{{Layer: isolation.LayerSQL, Refused: "another's table", Allowed: "its own"}}, Shared: []isolation.Finding{},
		Tenants: []isolation.Tenant{{ID: tenants.NewID(), Slug: "willow", State: "live", Gate: "open", Verdict: isolation.Failed, Peers: []tenants.ID{},
			Layers: []isolation.Layer{{Layer: isolation.LayerSQL, Refused: 3, Allowed: 2}}, Unproven: []string{},
			Findings: []isolation.Finding{{Layer: isolation.LayerDeclared, Object: "client", Problem: "policy", Declared: "a <b> & c", Found: "ü\u2028"}}}}}
}

func TestEveryChangedByteIsRefused(t *testing.T) {
	signer, verifier := keys(t, isolation.KeyName)
	report := sample()
	file, err := isolation.Sign(report, signer)
	require.NoError(t, err)
	back, err := isolation.Verify(file, verifier)
	require.NoError(t, err)
	require.Equal(t, report, back)

	for i := range file {
		for _, bit := range []byte{1, 0x20, 0x80} {
			bad := bytes.Clone(file)
			bad[i] ^= bit
			_, err := isolation.Verify(bad, verifier)
			require.ErrorIs(t, err, isolation.ErrNotVerified, "byte %d %q", i, file[i])
		}
		_, err := isolation.Verify(file[:i], verifier)
		require.ErrorIs(t, err, isolation.ErrNotVerified, "cut at %d", i)
	}
	for name, bad := range map[string][]byte{
		"a space":     append(bytes.Clone(file), ' '),
		"twice":       append(bytes.Clone(file), file...),
		"another key": bytes.Replace(file, []byte(`"key":"`), []byte(`"key":"x`), 1),
		"a field":     bytes.Replace(file, []byte(`{"report"`), []byte(`{"x":1,"report"`), 1),
	} {
		_, err := isolation.Verify(bad, verifier)
		require.ErrorIs(t, err, isolation.ErrNotVerified, name)
	}
}

func TestOnlyThePlatformsKeyCounts(t *testing.T) {
	signer, verifier := keys(t, isolation.KeyName)
	forger, _ := keys(t, isolation.KeyName)
	other, otherVerifier := keys(t, "caresphere-audit")
	file, err := isolation.Sign(sample(), signer)
	require.NoError(t, err)
	forged, err := isolation.Sign(sample(), forger)
	require.NoError(t, err)
	_, err = isolation.Verify(forged, verifier)
	require.ErrorIs(t, err, isolation.ErrNotVerified)
	_, err = isolation.Verify(file, otherVerifier)
	require.ErrorIs(t, err, isolation.ErrNotVerified)
	_, err = isolation.Sign(sample(), other)
	require.Error(t, err)

	_, public, err := note.GenerateKey(rand.Reader, isolation.KeyName)
	require.NoError(t, err)
	_, err = isolation.ParseKey("caresphere-audit+1+x\n" + public + "\n")
	require.NoError(t, err)
	_, err = isolation.ParseKey("caresphere-audit+1+x\n")
	require.Error(t, err)
	_, err = isolation.ParseKey(isolation.KeyName + "+zz")
	require.Error(t, err)
}
