package isolation_test

import (
	"bytes"
	"crypto/rand"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/internal/isolation"
)

// FuzzVerify: no bytes but a signed file are taken for a report.
func FuzzVerify(f *testing.F) {
	private, public, err := note.GenerateKey(rand.Reader, isolation.KeyName)
	if err != nil {
		f.Fatal(err)
	}
	signer, err := note.NewSigner(private)
	if err != nil {
		f.Fatal(err)
	}
	verifier, err := note.NewVerifier(public)
	if err != nil {
		f.Fatal(err)
	}
	good, err := isolation.Sign(sample(), signer)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add(append(bytes.Clone(good), ' '))
	f.Add(bytes.Replace(good, []byte(`"key":`), []byte(`"Key":`), 1))
	f.Add([]byte(`{"report":{},"key":"caresphere-isolation","signature":""}`))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, file []byte) {
		report, err := isolation.Verify(file, verifier)
		if err == nil && !bytes.Equal(file, good) {
			t.Fatalf("a report that nobody signed is taken: %+v", report)
		}
	})
}
