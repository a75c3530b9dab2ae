package phi_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"strings"
	"testing"

	"github.com/caresphere/caresphere/internal/phi"
)

var value = strings.Repeat("a", 40)

// BenchmarkField puts the cipher beside the bare AES-GCM that it is made of.
func BenchmarkField(b *testing.B) {
	r := newRig(b)
	c, tenant := r.cipher(b, phi.Options{}), r.tenant(b)
	p, text, ctx := place(tenant), phi.NewText(value), context.Background()
	sealed := seal(b, c, p, value)
	raw := make([]byte, 32)
	_, _ = rand.Read(raw)
	block, err := aes.NewCipher(raw)
	if err != nil {
		b.Fatal(err)
	}
	bare, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		b.Fatal(err)
	}
	plain, additional := []byte(value), make([]byte, 70)
	bareSealed := bare.Seal(nil, nil, plain, additional)
	for name, run := range map[string]func() error{
		"seal":      func() error { _, err := c.Seal(ctx, p, text); return err },
		"seal/bare": func() error { bare.Seal(nil, nil, plain, additional); return nil },
		"open":      func() error { _, err := c.Open(ctx, p, sealed); return err },
		"open/bare": func() error { _, err := bare.Open(nil, nil, bareSealed, additional); return err },
		"index":     func() error { _, err := c.BlindIndex(ctx, tenant, "client.family", text); return err },
		"name":      func() error { phi.NormalizeName(text); return nil },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkEncode puts the revealing encoder beside encoding/json with strings.
func BenchmarkEncode(b *testing.B) {
	type bare struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}
	type protected struct {
		Name phi.Text   `json:"name"`
		Tags []phi.Text `json:"tags"`
	}
	text := phi.NewText(value)
	for name, run := range map[string]func() error{
		"reveal": func() error { _, err := phi.EncodeJSON(protected{text, []phi.Text{text, text}}); return err },
		"bare":   func() error { _, err := json.Marshal(bare{value, []string{value, value}}); return err },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
