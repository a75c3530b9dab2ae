package routes_test

import (
	"bytes"
	"crypto/rand"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/internal/routes"
	"github.com/caresphere/caresphere/tenants"
)

// FuzzVerify: no bytes but a signed document are taken for a route table.
func FuzzVerify(f *testing.F) {
	private, public, err := note.GenerateKey(rand.Reader, "caresphere-route")
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
	good, err := routes.Sign(tenants.RouteTable{Version: 7, IssuedAt: time.Unix(1_700_000_000, 0).UTC()}, signer)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add(append(bytes.Clone(good), '\n'))
	f.Add([]byte("{}\n\n— caresphere-route AAAA\n"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, doc []byte) {
		table, err := routes.Verify(doc, verifier)
		if err == nil && !bytes.Equal(doc, good) {
			t.Fatalf("a table that nobody signed is taken: %+v", table)
		}
	})
}
