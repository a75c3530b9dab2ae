package vault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/hashicorp/vault/api"

	"github.com/caresphere/caresphere/internal/kms/driver"
)

// errToken: Vault does not know our token; a login may help.
var errToken = fmt.Errorf("vault: the token is not valid: %w", driver.ErrAuth)

// typed gives an error of the client library one of the driver's errors. Vault
// tells most faults by status and the rest only by text; the texts are those of
// Vault 1.21, and the conformance suite fails when a release changes them.
func typed(err error) error {
	if err == nil {
		return nil
	}
	var answer *api.ResponseError
	if !errors.As(err, &answer) {
		// No answer: refused, reset, timed out, or an untrusted certificate.
		return fmt.Errorf("vault: %w: %w", driver.ErrUnavailable, err)
	}
	said := strings.Join(answer.Errors, "; ")
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(said, p) {
				return true
			}
		}
		return false
	}
	var kind error
	switch {
	case answer.StatusCode == http.StatusForbidden && has("invalid token"):
		return errToken
	case answer.StatusCode == http.StatusForbidden, answer.StatusCode == http.StatusUnauthorized:
		kind = driver.ErrAuth
	case answer.StatusCode == http.StatusNotFound, answer.StatusCode == http.StatusTooManyRequests,
		answer.StatusCode >= 500, answer.StatusCode == 472, answer.StatusCode == 473:
		// Sealed (503), not active yet (500), no such mount (404), a rate limit.
		kind = driver.ErrUnavailable
	case has("key not found", "no existing key named", "could not be found"):
		kind = driver.ErrKeyGone
	case has("disallowed by policy (too old)", "ciphertext version is no longer available"):
		kind = driver.ErrVersionRetired
	case has("ciphertext", "authentication failed", "decrypt", "key derivation"):
		kind = driver.ErrIntegrity
	default:
		kind = driver.ErrInvalid
	}
	return fmt.Errorf("vault: %w (status %d: %s)", kind, answer.StatusCode, said)
}

// explain tells why a worker's call was refused: a deny by the closed policy and
// a missing permission look the same to the token, and the ledger tells them apart.
func (v *Vault) explain(ctx context.Context, key string, err error) error {
	if !errors.Is(err, driver.ErrAuth) {
		return err
	}
	for _, marker := range []struct {
		path string
		err  error
	}{{v.cell.shredded(key), driver.ErrKeyGone}, {v.cell.closed(key), driver.ErrKeyDisabled}} {
		if s, lookErr := v.read(ctx, marker.path); lookErr == nil && s != nil {
			return fmt.Errorf("vault: %w", marker.err)
		}
	}
	return err
}
