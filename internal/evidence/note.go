package evidence

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// sign returns text as a signed note with exactly one signature.
func sign(text []byte, signer note.Signer) ([]byte, error) {
	if signer.Name() != KeyName {
		return nil, fmt.Errorf("evidence: signing with the key %q, want %q", signer.Name(), KeyName)
	}
	n, err := note.Sign(&note.Note{Text: string(text)}, signer)
	if err != nil {
		return nil, fmt.Errorf("sealing evidence: %w", err)
	}
	return n, nil
}

// open returns the text of a note that carries one valid signature of the key
// and is written exactly as sign writes it: base64 leaves unused bits that a
// verifier of signatures alone would not look at.
func open(sealed []byte, verifier note.Verifier) ([]byte, error) {
	n, err := note.Open(sealed, note.VerifierList(verifier))
	if err != nil {
		return nil, fmt.Errorf("the platform's signature is not valid: %w", err)
	}
	if len(n.Sigs) != 1 || len(n.UnverifiedSigs) != 0 {
		return nil, errors.New("more than one signature")
	}
	if !bytes.Equal(sealed, []byte(n.Text+"\n"+signatureLine(n.Sigs[0]))) {
		return nil, errors.New("the signature is not in canonical form")
	}
	return []byte(n.Text), nil
}

func signatureLine(s note.Signature) string {
	raw, err := base64.StdEncoding.DecodeString(s.Base64)
	if err != nil {
		return ""
	}
	return "— " + s.Name + " " + base64.StdEncoding.EncodeToString(raw) + "\n"
}

// ParseKey reads a verifier key: the encoded form of sumdb/note, as
// "caresphere-baa+1a2b3c4d+…", possibly among other lines. It refuses text in which
// no key, or more than one, is named caresphere-baa.
func ParseKey(text string) (encoded string, verifier note.Verifier, err error) {
	for _, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, KeyName+"+") {
			continue
		}
		v, err := note.NewVerifier(line)
		if err != nil {
			return "", nil, fmt.Errorf("reading the key: %w", err)
		}
		if hash := strings.Split(line, "+")[1]; hash != fmt.Sprintf("%08x", v.KeyHash()) {
			return "", nil, errors.New("the key's hash is not in lower case")
		}
		if verifier != nil && encoded != line {
			return "", nil, fmt.Errorf("more than one key named %s", KeyName)
		}
		encoded, verifier = line, v
	}
	if verifier == nil {
		return "", nil, fmt.Errorf("no key named %s", KeyName)
	}
	return encoded, verifier, nil
}

// Fingerprint returns a key's SHA-256, by which people compare keys: over its
// encoded form, so that it can be recomputed with any tool.
func Fingerprint(encodedKey string) string { return Hash([]byte(encodedKey)) }
