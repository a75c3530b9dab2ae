package evidence

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/tenants"
)

// KeyName is the name of the platform key that seals signatures and bundles.
const KeyName = "caresphere-baa"

// The parties that sign.
const (
	PartyCustomer = "customer"
	PartyOperator = "operator"
)

const signatureFormat = "caresphere-signature/1"

// Signature is everything recorded of one person signing one document: what
// attribution, intent and consent of an electronic signature rest on
// (15 USC 7001(c), 7006(5); UETA 9). It holds no PHI.
type Signature struct {
	Format          string     `json:"format"`
	Party           string     `json:"party"`
	AgreementID     tenants.ID `json:"agreement_id"`
	OrganizationID  tenants.ID `json:"organization_id"`
	TemplateVersion string     `json:"template_version"`
	// DocumentSHA256 is the hash of the canonical text that was shown.
	DocumentSHA256 string `json:"document_sha256"`
	// CountersignsSHA256 is the hash of the customer's sealed signature; only the
	// operator's has it.
	CountersignsSHA256 string         `json:"countersigns_sha256,omitempty"`
	Signer             Signer         `json:"signer"`
	Consent            Statement      `json:"consent"`
	Intent             Statement      `json:"intent"`
	Authentication     Authentication `json:"authentication"`
	IP                 string         `json:"ip"`
	UserAgent          string         `json:"user_agent"`
	RequestID          string         `json:"request_id"`
	SignedAt           time.Time      `json:"signed_at"`
}

// Signer is the person, as identified by the session and as they named themselves.
type Signer struct {
	IdentityID tenants.ID `json:"identity_id"`
	Email      string     `json:"email"`
	Name       string     `json:"name"`
	Title      string     `json:"title"`
	// Authority is the signer's statement of why they may bind the party.
	Authority string `json:"authority"`
}

// Statement is a sentence that the signer was shown and affirmed.
type Statement struct {
	Affirmed bool   `json:"affirmed"`
	Text     string `json:"text"`
}

// Authentication is how the session proved who is behind it.
type Authentication struct {
	SessionID       tenants.ID `json:"session_id"`
	Methods         []string   `json:"methods"`
	SessionIssuedAt time.Time  `json:"session_issued_at"`
	AuthenticatedAt time.Time  `json:"authenticated_at"`
	SecondFactorAt  time.Time  `json:"second_factor_at"`
}

// Seal signs the record of a signature with the platform key and returns the note
// that is stored. Times are cut to microseconds in UTC. The error is an
// incomplete record or a key of another name.
func Seal(s Signature, signer note.Signer) ([]byte, error) {
	s.Format = signatureFormat
	for _, t := range []*time.Time{&s.SignedAt, &s.Authentication.SessionIssuedAt,
		&s.Authentication.AuthenticatedAt, &s.Authentication.SecondFactorAt} {
		*t = t.UTC().Truncate(time.Microsecond)
	}
	if s.Authentication.Methods == nil {
		s.Authentication.Methods = []string{}
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	text, err := encode(s)
	if err != nil {
		return nil, err
	}
	return sign(text, signer)
}

// Unseal checks the platform's signature over a sealed record and returns it.
func Unseal(sealed []byte, verifier note.Verifier) (Signature, error) {
	var s Signature
	text, err := open(sealed, verifier)
	if err != nil {
		return s, err
	}
	if err := decode(text, &s); err != nil {
		return s, err
	}
	return s, s.check()
}

// Peek reads a sealed record that this process stored itself, without checking
// its signature: for showing, never for deciding.
func Peek(sealed []byte) (Signature, error) {
	var s Signature
	text, _, ok := bytes.Cut(sealed, []byte("\n\n"))
	if !ok {
		return s, errors.New("evidence: not a sealed record")
	}
	err := decode(append(bytes.Clone(text), '\n'), &s)
	return s, err
}

// check demands what no signature may lack.
func (s Signature) check() error {
	switch {
	case s.Format != signatureFormat:
		return fmt.Errorf("evidence: unknown format of a signature")
	case s.Party != PartyCustomer && s.Party != PartyOperator:
		return errors.New("evidence: unknown party")
	case s.AgreementID.IsZero() || s.OrganizationID.IsZero() || s.Signer.IdentityID.IsZero():
		return errors.New("evidence: a signature without agreement, organization or signer")
	case s.TemplateVersion == "" || !isHash(s.DocumentSHA256):
		return errors.New("evidence: a signature without document")
	case (s.Party == PartyOperator) != isHash(s.CountersignsSHA256):
		return errors.New("evidence: the operator's signature, and only it, countersigns another")
	case s.Signer.Email == "" || s.Signer.Name == "" || s.Signer.Title == "" || s.Signer.Authority == "":
		return errors.New("evidence: a signer without e-mail, name, title or authority")
	case !s.Consent.Affirmed || s.Consent.Text == "" || !s.Intent.Affirmed || s.Intent.Text == "":
		return errors.New("evidence: a signature without consent or intent")
	case s.Authentication.SessionID.IsZero() || s.Authentication.SecondFactorAt.IsZero():
		return errors.New("evidence: a signature without a session or a second factor")
	case s.SignedAt.IsZero():
		return errors.New("evidence: a signature without a time")
	}
	return nil
}

// Hash returns the SHA-256 of the bytes in lower case hexadecimal.
func Hash(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

func isHash(s string) bool {
	if len(s) != 64 {
		return false
	}
	for _, c := range s {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// encode is the one way that a record is written: one line of JSON, fields in
// the order of the struct.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encoding evidence: %w", err)
	}
	return b.Bytes(), nil
}

// decode accepts only what encode writes: everything else that JSON would let
// through (other order, unknown or double fields, spaces) is refused.
func decode(text []byte, v any) error {
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("not a record of this format: %w", err)
	}
	again, err := encode(v)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, text) {
		return errors.New("not in canonical form")
	}
	return nil
}
