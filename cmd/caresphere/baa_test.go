package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/internal/evidence"
	"github.com/caresphere/caresphere/tenants"
)

// baaBundle writes a bundle and its public key and returns both paths.
func baaBundle(t *testing.T) (bundle, key string) {
	t.Helper()
	private, public, err := note.GenerateKey(rand.Reader, evidence.KeyName)
	require.NoError(t, err)
	signer, err := note.NewSigner(private)
	require.NoError(t, err)
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	doc := []byte("AGREEMENT\n")
	s := evidence.Signature{Party: evidence.PartyCustomer, AgreementID: tenants.NewID(), OrganizationID: tenants.NewID(),
		TemplateVersion: "v1", DocumentSHA256: evidence.Hash(doc), Signer: evidence.Signer{IdentityID: tenants.NewID(), Email: "a@b.example", Name: "N", Title: "T", Authority: "A"},
		Consent: evidence.Statement{Affirmed: true, Text: "c"}, Intent: evidence.Statement{Affirmed: true, Text: "i"},
		Authentication: evidence.Authentication{SessionID: tenants.NewID(), Methods: []string{"password", "totp"}, SecondFactorAt: at}, SignedAt: at}
	customer, err := evidence.Seal(s, signer)
	require.NoError(t, err)
	s.Party, s.CountersignsSHA256 = evidence.PartyOperator, evidence.Hash(customer)
	operator, err := evidence.Seal(s, signer)
	require.NoError(t, err)
	b, err := evidence.Build(evidence.Agreement{AgreementID: s.AgreementID, OrganizationID: s.OrganizationID, LegalName: "Haven", TemplateVersion: "v1",
		ExecutedAt: at, ExpiresAt: at.AddDate(3, 0, 0), Document: doc, PDF: []byte("%PDF"), Customer: customer, Operator: operator}, signer, public)
	require.NoError(t, err)
	dir := t.TempDir()
	bundle, key = filepath.Join(dir, "baa.bundle"), filepath.Join(dir, "baa.pub")
	require.NoError(t, os.WriteFile(bundle, b, 0o600))
	require.NoError(t, os.WriteFile(key, []byte(public+"\n"), 0o600))
	return bundle, key
}

func runBAA(args ...string) (string, error) {
	cmd := baaCmd()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	err := cmd.Execute()
	return out.String(), err
}

func TestBAAVerify(t *testing.T) {
	bundle, key := baaBundle(t)
	_, otherKey := baaBundle(t)
	whole, err := os.ReadFile(bundle)
	require.NoError(t, err)
	touched := filepath.Join(t.TempDir(), "touched.bundle")
	spoiled := bytes.Replace(whole, []byte("AGREEMENT"), []byte("agreement"), 1)
	require.NoError(t, os.WriteFile(touched, spoiled, 0o600))
	public, err := os.ReadFile(key)
	require.NoError(t, err)

	cases := []struct {
		name  string
		args  []string
		code  int
		wants []string
	}{
		{"pinned by file", []string{"verify", bundle, "--key", key}, 0, []string{"VERIFIED", "Haven", "compared with the one"}},
		{"pinned by value", []string{"verify", bundle, "--key", string(bytes.TrimSpace(public))}, 0, []string{"VERIFIED"}},
		{"not pinned", []string{"verify", bundle}, 0, []string{"VERIFIED", "NOT PINNED", "fingerprint"}},
		{"another key", []string{"verify", bundle, "--key", otherKey}, 1, []string{"NOT VERIFIED", "key "}},
		{"a changed byte", []string{"verify", touched, "--key", key}, 1, []string{"NOT VERIFIED", "document"}},
		{"no file", []string{"verify", bundle + "x"}, 2, nil},
		{"no such key", []string{"verify", bundle, "--key", bundle + "x"}, 2, nil},
		{"not a key", []string{"verify", bundle, "--key", bundle + ".."}, 2, nil},
		{"no argument", []string{"verify"}, 2, nil},
		{"two arguments", []string{"verify", bundle, bundle}, 2, nil},
		{"unknown flag", []string{"verify", bundle, "--nope"}, 2, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			out, err := runBAA(c.args...)
			assert.Equal(t, c.code, exitCode(err), "%v", err)
			for _, want := range c.wants {
				assert.Contains(t, out, want)
			}
		})
	}

	out, err := runBAA("verify", touched, "--json")
	require.ErrorIs(t, err, errNotVerified)
	var report evidence.Report
	require.NoError(t, json.Unmarshal([]byte(out), &report))
	assert.False(t, report.OK)
	require.NotEmpty(t, report.Problems)
	assert.Equal(t, evidence.PartDocument, report.Problems[0].Part)
}
