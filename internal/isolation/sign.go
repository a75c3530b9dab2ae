package isolation

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// KeyName is the name of the platform's key that signs reports (C2SP signed-note).
const KeyName = "caresphere-isolation"

// ErrNotVerified means that the file is not, to the last byte, what the key signed.
var ErrNotVerified = errors.New("the report does not verify")

// signed is the file: the report, and the signature over its bytes.
type signed struct {
	Report    json.RawMessage `json:"report"`
	Key       string          `json:"key"`
	Signature string          `json:"signature"`
}

// Sign returns the file of a report: one line of JSON. The signature is that of a
// signed note (C2SP signed-note, Ed25519) whose text is the report's JSON and a
// line's end.
func Sign(r Report, signer note.Signer) ([]byte, error) {
	if signer.Name() != KeyName {
		return nil, fmt.Errorf("isolation: signing with the key %q, want %q", signer.Name(), KeyName)
	}
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encoding the report: %w", err)
	}
	raw, err := note.Sign(&note.Note{Text: string(body) + "\n"}, signer)
	if err != nil {
		return nil, fmt.Errorf("signing the report: %w", err)
	}
	line := strings.TrimPrefix(string(raw), string(body)+"\n\n")
	word := strings.Fields(line)
	if len(word) != 3 {
		return nil, errors.New("isolation: the signature has an unknown form")
	}
	return encode(signed{Report: body, Key: word[1], Signature: word[2]})
}

func encode(s signed) ([]byte, error) {
	out, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encoding the signed report: %w", err)
	}
	return append(out, '\n'), nil
}

// Verify returns the report of a file that the key signed. A file that differs
// from the one that Sign made in any byte is ErrNotVerified, with what is wrong.
func Verify(file []byte, verifier note.Verifier) (Report, error) {
	refuse := func(why string) (Report, error) { return Report{}, fmt.Errorf("%w: %s", ErrNotVerified, why) }
	if verifier.Name() != KeyName {
		return refuse("the key is not one of " + KeyName)
	}
	var s signed
	if err := strictly(file, &s); err != nil {
		return refuse("it is not a signed report")
	}
	if again, err := encode(s); err != nil || !bytes.Equal(again, file) {
		return refuse("it is not in canonical form")
	}
	sig, err := base64.StdEncoding.Strict().DecodeString(s.Signature)
	if err != nil || s.Key != KeyName {
		return refuse("its signature cannot be read")
	}
	text := string(s.Report) + "\n"
	n, err := note.Open([]byte(text+"\n— "+s.Key+" "+base64.StdEncoding.EncodeToString(sig)+"\n"), note.VerifierList(verifier))
	if err != nil || len(n.Sigs) != 1 || n.Text != text {
		return refuse("the signature is not of this key over these bytes")
	}
	var r Report
	if err := strictly(s.Report, &r); err != nil || r.Version != Version {
		return refuse("it is of a form that this program does not know")
	}
	// The same report in other words would be signed as well, but never by us.
	if again, err := json.Marshal(r); err != nil || !bytes.Equal(again, s.Report) {
		return refuse("the report is not in canonical form")
	}
	return r, nil
}

func strictly(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if d.More() {
		return errors.New("more than one value")
	}
	return nil
}

// ParseKey reads a verifier key, as "caresphere-isolation+1a2b3c4d+…", possibly
// among other lines.
func ParseKey(text string) (note.Verifier, error) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, KeyName+"+") {
			v, err := note.NewVerifier(line)
			if err != nil {
				return nil, fmt.Errorf("reading the key: %w", err)
			}
			return v, nil
		}
	}
	return nil, fmt.Errorf("no key named %s", KeyName)
}
