package probe_test

import (
	"crypto/rand"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/internal/probe"
	"github.com/caresphere/caresphere/tenants"
)

func keys(t testing.TB) (note.Signer, note.Verifier) {
	t.Helper()
	private, public, err := note.GenerateKey(rand.Reader, "caresphere-probe")
	require.NoError(t, err)
	signer, err := note.NewSigner(private)
	require.NoError(t, err)
	verifier, err := note.NewVerifier(public)
	require.NoError(t, err)
	return signer, verifier
}

func TestTokenHoldsForItsTenantAndAMinute(t *testing.T) {
	signer, verifier := keys(t)
	other, otherVerifier := keys(t)
	tenant, now := tenants.NewID(), time.Now()
	token, err := probe.Mint(signer, tenant, now)
	require.NoError(t, err)
	claims, err := probe.Verify(verifier, token, tenant, now)
	require.NoError(t, err)
	require.Equal(t, tenant, claims.TenantID)
	again, err := probe.Mint(signer, tenant, now)
	require.NoError(t, err)
	second, err := probe.Verify(verifier, again, tenant, now)
	require.NoError(t, err)
	require.NotEqual(t, claims.Nonce, second.Nonce)

	foreign, err := probe.Mint(other, tenant, now)
	require.NoError(t, err)
	body, signature, _ := strings.Cut(token, ".")
	payload, err := base64.RawURLEncoding.DecodeString(body)
	require.NoError(t, err)
	longer := base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(payload), `"expires":1`, `"expires":9`, 1)))
	for name, c := range map[string]struct {
		token  string
		tenant tenants.ID
		at     time.Time
		with   note.Verifier
	}{
		"another tenant":    {token, tenants.NewID(), now, verifier},
		"no tenant":         {token, tenants.NilID, now, verifier},
		"expired":           {token, tenant, now.Add(probe.Life + time.Second), verifier},
		"from the future":   {token, tenant, now.Add(-10 * time.Minute), verifier},
		"another's key":     {foreign, tenant, now, verifier},
		"another verifier":  {token, tenant, now, otherVerifier},
		"a longer life":     {longer + "." + signature, tenant, now, verifier},
		"no signature":      {body, tenant, now, verifier},
		"empty":             {"", tenant, now, verifier},
		"a second dot":      {token + ".x", tenant, now, verifier},
		"too long":          {token + strings.Repeat("A", 2000), tenant, now, verifier},
		"padding":           {token + "=", tenant, now, verifier},
		"a signed anything": {"e30." + sign(t, signer, "e30"), tenant, now, verifier},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := probe.Verify(c.with, c.token, c.tenant, c.at)
			require.ErrorIs(t, err, probe.ErrInvalid)
		})
	}
	for i := range len(token) {
		changed := []byte(token)
		changed[i] ^= 1
		_, err := probe.Verify(verifier, string(changed), tenant, now)
		require.Error(t, err, "byte %d", i)
	}
	_, err = probe.Mint(signer, tenants.NilID, now)
	require.Error(t, err)
}

func sign(t *testing.T, s note.Signer, body string) string {
	t.Helper()
	b, err := s.Sign([]byte("caresphere probe v1\n" + body))
	require.NoError(t, err)
	return base64.RawURLEncoding.EncodeToString(b)
}

func FuzzVerify(f *testing.F) {
	signer, verifier := keys(f)
	tenant, now := tenants.NewID(), time.Now()
	token, _ := probe.Mint(signer, tenant, now)
	f.Add(token)
	f.Add("a.b")
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := probe.Verify(verifier, s, tenant, now); err == nil && s != token {
			t.Fatalf("a token that was never minted holds: %q", s)
		}
	})
}
