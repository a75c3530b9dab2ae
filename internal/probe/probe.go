// Package probe is the token by which the provisioner proves to a worker, through
// the public route, that a request is its probe of one tenant.
//
// It owns the token's form. It trusts the two keys that it is given (C2SP note
// keys, Ed25519) and nothing in a token before its signature is checked. A token
// carries no right but to write, read and delete a probe row, and no data.
package probe

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/caresphere/caresphere/tenants"

	"golang.org/x/mod/sumdb/note"
)

// Life is how long a token holds.
const Life = 60 * time.Second

// domain keeps a signature over a token from being one over anything else that
// the same key may sign.
const domain = "caresphere probe v1\n"

const maxToken = 1024

// ErrInvalid is the one answer to a token that does not hold here: malformed,
// signed by another key, for another tenant, expired or not yet valid.
var ErrInvalid = errors.New("probe: the token is not valid here")

// Claims are what a valid token says.
type Claims struct {
	TenantID tenants.ID `json:"tenant_id"`
	// Nonce is unique a token: a worker that remembers the nonces of the last
	// Life refuses a replay.
	Nonce   tenants.ID `json:"nonce"`
	Expires int64      `json:"expires"` // Unix seconds
}

// Mint returns a token for one probe of the tenant, valid for Life from now.
func Mint(signer note.Signer, tenant tenants.ID, now time.Time) (string, error) {
	if tenant.IsZero() {
		return "", errors.New("probe: a token needs a tenant")
	}
	payload, err := json.Marshal(Claims{TenantID: tenant, Nonce: tenants.NewID(), Expires: now.Add(Life).Unix()})
	if err != nil {
		return "", fmt.Errorf("encoding a probe token: %w", err)
	}
	body := base64.RawURLEncoding.EncodeToString(payload)
	signature, err := signer.Sign([]byte(domain + body))
	if err != nil {
		return "", fmt.Errorf("signing a probe token: %w", err)
	}
	return body + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// Verify checks a token for the tenant of the request's path and returns what it
// says; ErrInvalid for any token that does not hold here and now.
func Verify(verifier note.Verifier, token string, tenant tenants.ID, now time.Time) (Claims, error) {
	body, encoded, ok := strings.Cut(token, ".")
	if !ok || len(token) > maxToken {
		return Claims{}, ErrInvalid
	}
	signature, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil || !verifier.Verify([]byte(domain+body), signature) {
		return Claims{}, ErrInvalid
	}
	payload, err := base64.RawURLEncoding.Strict().DecodeString(body)
	if err != nil {
		return Claims{}, ErrInvalid
	}
	var c Claims
	if err := json.Unmarshal(payload, &c); err != nil {
		return Claims{}, ErrInvalid
	}
	expires := time.Unix(c.Expires, 0)
	if tenant.IsZero() || c.TenantID != tenant || c.Nonce.IsZero() ||
		!now.Before(expires) || expires.After(now.Add(2*Life)) {
		return Claims{}, ErrInvalid
	}
	return c, nil
}
