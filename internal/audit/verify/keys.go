package verify

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// The names that keys carry: what a key may sign.
const (
	auditKey  = "caresphere-audit"
	exportKey = "caresphere-export"
)

// Keys are the public keys that a file must be signed by.
type Keys struct{ audit, export []note.Verifier }

// ParseKeys reads a key file: one note verifier a line (C2SP signed-note), blank
// lines and lines that begin with # aside. It needs at least one key named
// caresphere-audit and one named caresphere-export; former keys stand beside the
// current ones.
func ParseKeys(text string) (Keys, error) {
	var k Keys
	for i, l := range strings.Split(text, "\n") {
		l = strings.TrimSpace(l)
		if l == "" || strings.HasPrefix(l, "#") {
			continue
		}
		v, err := note.NewVerifier(l)
		if err != nil {
			return Keys{}, fmt.Errorf("line %d is not a public key: %w", i+1, err)
		}
		switch v.Name() {
		case auditKey:
			k.audit = append(k.audit, v)
		case exportKey:
			k.export = append(k.export, v)
		}
	}
	if len(k.audit) == 0 {
		return Keys{}, errors.New("there is no key named " + auditKey)
	}
	if len(k.export) == 0 {
		return Keys{}, errors.New("there is no key named " + exportKey)
	}
	return k, nil
}

// openNote returns the text of a note that has one signature, by one of the keys,
// and is spelled in the one way; else the kind of what is wrong with it.
func openNote(signed string, keys []note.Verifier) (text string, wrong Kind, message string) {
	n, err := note.Open([]byte(signed), note.VerifierList(keys...))
	var unknown *note.UnverifiedNoteError
	var invalid *note.InvalidSignatureError
	switch {
	case errors.As(err, &unknown):
		return "", ForeignKey, "is signed by a key that is not among the given ones"
	case errors.As(err, &invalid):
		return "", BadSignature, "has a signature that does not fit it"
	case err != nil:
		return "", Malformed, "is not a signed note"
	case len(n.Sigs) != 1 || len(n.UnverifiedSigs) != 0:
		return "", ForeignKey, "has more than the one signature"
	}
	// Base64 can spell the same bytes in several ways: only the usual one counts.
	raw, err := base64.StdEncoding.Strict().DecodeString(n.Sigs[0].Base64)
	if err != nil || n.Text+"\n— "+n.Sigs[0].Name+" "+base64.StdEncoding.EncodeToString(raw)+"\n" != signed {
		return "", Changed, "has a signature in another spelling"
	}
	return n.Text, "", ""
}
