package main

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// line reads a file of one line.
func line(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("reading a key: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// verifier reads a public key file (C2SP signed note).
func verifier(path string) (note.Verifier, error) {
	text, err := line(path)
	if err != nil {
		return nil, err
	}
	v, err := note.NewVerifier(text)
	if err != nil {
		return nil, fmt.Errorf("reading the public key %s: %w", path, err)
	}
	return v, nil
}

// publicLine returns the verifier line of a signing key. The key's form is
// PRIVATE+KEY+name+hash+base64(algorithm, seed); see golang.org/x/mod/sumdb/note.
func publicLine(private string) (string, error) {
	parts := strings.SplitN(private, "+", 5)
	if len(parts) != 5 {
		return "", errors.New("the export key is not a signing key")
	}
	seed, err := base64.StdEncoding.DecodeString(parts[4])
	if err != nil || len(seed) != 1+ed25519.SeedSize {
		return "", errors.New("the export key is not an Ed25519 signing key")
	}
	public, ok := ed25519.NewKeyFromSeed(seed[1:]).Public().(ed25519.PublicKey)
	if !ok {
		return "", errors.New("the export key has no public half")
	}
	text, err := note.NewEd25519VerifierKey(parts[2], public)
	if err != nil {
		return "", fmt.Errorf("deriving the export key's public line: %w", err)
	}
	return text, nil
}
