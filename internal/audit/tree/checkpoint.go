package tree

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Checkpoint is a tree head: which log, how many leaves, which root.
type Checkpoint struct {
	Origin string
	Size   int64
	Root   tlog.Hash
}

// Sign returns the checkpoint as a signed note (C2SP tlog-checkpoint).
func (c Checkpoint) Sign(signer note.Signer) (string, error) {
	text := fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]))
	signed, err := note.Sign(&note.Note{Text: text}, signer)
	if err != nil {
		return "", fmt.Errorf("signing the checkpoint of %s: %w", c.Origin, err)
	}
	return string(signed), nil
}

var errNotCheckpoint = errors.New("not a checkpoint")

// Open verifies a signed checkpoint and reads it.
func Open(signed string, verifier note.Verifier) (Checkpoint, error) {
	n, err := note.Open([]byte(signed), note.VerifierList(verifier))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("verifying a checkpoint: %w", err)
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return Checkpoint{}, errNotCheckpoint
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return Checkpoint{}, errNotCheckpoint
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return Checkpoint{}, errNotCheckpoint
	}
	return Checkpoint{Origin: lines[0], Size: size, Root: root}, nil
}

// ParseVerifiers reads the audit keys among public lines, one a line, blank lines and
// comments aside. Errors: a line that is no public key.
func ParseVerifiers(lines string) (note.Verifiers, error) {
	var known []note.Verifier
	for l := range strings.Lines(lines) {
		if l = strings.TrimSpace(l); l == "" || strings.HasPrefix(l, "#") {
			continue
		}
		v, err := note.NewVerifier(l)
		if err != nil {
			return nil, fmt.Errorf("reading the audit log's public keys: %w", err)
		}
		if v.Name() == keyName {
			known = append(known, v)
		}
	}
	return note.VerifierList(known...), nil
}

// keyName is what the keys that sign checkpoints are named.
const keyName = "caresphere-audit"

// ParseSigner reads an encoded signing key and returns it with its verifier, and
// the verifier's public line for those who check.
func ParseSigner(encoded string) (note.Signer, note.Verifier, string, error) {
	fail := func(err error) (note.Signer, note.Verifier, string, error) {
		return nil, nil, "", fmt.Errorf("reading a note signing key: %w", err)
	}
	encoded = strings.TrimSpace(encoded)
	signer, err := note.NewSigner(encoded)
	if err != nil {
		return fail(err)
	}
	// PRIVATE+KEY+<name>+<hash>+<base64 of algorithm and seed>: NewSigner checked it.
	// The base64 may hold a plus of its own.
	parts := strings.SplitN(encoded, "+", 5)
	key, err := base64.StdEncoding.DecodeString(parts[4])
	if err != nil || len(key) != 1+ed25519.SeedSize {
		return fail(errors.New("not an Ed25519 key"))
	}
	public, _ := ed25519.NewKeyFromSeed(key[1:]).Public().(ed25519.PublicKey)
	line, err := note.NewEd25519VerifierKey(signer.Name(), public)
	if err != nil {
		return fail(err)
	}
	verifier, err := note.NewVerifier(line)
	if err != nil {
		return fail(err)
	}
	return signer, verifier, line, nil
}
