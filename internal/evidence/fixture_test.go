package evidence

import (
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/tenants"
)

type platformKey struct {
	signer   note.Signer
	verifier note.Verifier
	encoded  string
}

func newKey(t testing.TB, name string) platformKey {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	require.NoError(t, err)
	s, err := note.NewSigner(skey)
	require.NoError(t, err)
	v, err := note.NewVerifier(vkey)
	require.NoError(t, err)
	return platformKey{s, v, vkey}
}

var signedAt = time.Date(2026, 3, 4, 5, 6, 7, 890123000, time.UTC)

func customerSignature() Signature {
	return Signature{
		Party: PartyCustomer, AgreementID: tenants.NewID(), OrganizationID: tenants.NewID(),
		TemplateVersion: "v1", DocumentSHA256: Hash([]byte(document)),
		Signer:  Signer{tenants.NewID(), "owner@hôpital.example", "Zoë \"Z\" Ångström", "Director", "I may bind it"},
		Consent: Statement{true, "I consent."}, Intent: Statement{true, "I sign."},
		Authentication: Authentication{SessionID: tenants.NewID(), Methods: []string{"password", "totp"},
			SessionIssuedAt: signedAt, AuthenticatedAt: signedAt, SecondFactorAt: signedAt},
		IP: "192.0.2.7", UserAgent: "Browser/1 <x>\t&", RequestID: "r1", SignedAt: signedAt,
	}
}

const document = "AGREEMENT\n\nbetween A and B\n"

// agreement returns a consistent agreement with both signatures sealed by the key.
func agreement(t testing.TB, k platformKey) Agreement {
	t.Helper()
	c := customerSignature()
	customer, err := Seal(c, k.signer)
	require.NoError(t, err)
	o := c
	o.Party, o.CountersignsSHA256, o.SignedAt = PartyOperator, Hash(customer), signedAt.Add(time.Hour)
	operator, err := Seal(o, k.signer)
	require.NoError(t, err)
	return Agreement{AgreementID: c.AgreementID, OrganizationID: c.OrganizationID, LegalName: "Hôpital A",
		TemplateVersion: "v1", ExecutedAt: o.SignedAt, ExpiresAt: o.SignedAt.AddDate(3, 0, 0),
		Document: []byte(document), PDF: []byte("%PDF-1.3\n" + strings.Repeat("x", 300)),
		Customer: customer, Operator: operator}
}

func bundle(t testing.TB, k platformKey) ([]byte, Agreement) {
	t.Helper()
	a := agreement(t, k)
	b, err := Build(a, k.signer, k.encoded)
	require.NoError(t, err)
	return b, a
}
