// Package kms keeps the tenants' keys: Open gives the driver that the
// configuration names, either the embedded keyring or HashiCorp Vault's transit
// engine. Both pass one conformance suite, kmstest.
//
// It trusts the driver's store for the tenants' keys, and callers for the name
// of the key that they may use. It never returns a tenant's key, never logs key
// material, and never makes up a key that was shredded.
package kms

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/caresphere/caresphere/internal/kms/driver"
	"github.com/caresphere/caresphere/internal/kms/keyring"
	"github.com/caresphere/caresphere/internal/kms/vault"
	"github.com/caresphere/caresphere/tenants"
)

// The types of package driver under the names that users know.
type (
	// KMS holds one versioned key a tenant and wraps data keys with it.
	KMS = driver.KMS
	// Reconciler is a KMS that keeps in two places which keys are disabled.
	Reconciler = driver.Reconciler
	// DataKey is a fresh data key, plain and wrapped.
	DataKey = driver.DataKey
	// Status is what anybody may know of a key.
	Status = driver.Status
	// State is the life of a tenant's key.
	State = driver.State
)

// The states of a key.
const (
	StateAbsent   = driver.StateAbsent
	StateAlive    = driver.StateAlive
	StateDisabled = driver.StateDisabled
	StateShredded = driver.StateShredded
)

// What can go wrong, for errors.Is; see package driver.
var (
	ErrUnavailable    = driver.ErrUnavailable
	ErrKeyGone        = driver.ErrKeyGone
	ErrKeyDisabled    = driver.ErrKeyDisabled
	ErrAuth           = driver.ErrAuth
	ErrIntegrity      = driver.ErrIntegrity
	ErrVersionRetired = driver.ErrVersionRetired
	ErrInvalid        = driver.ErrInvalid
)

// KeyName returns the opaque name of the tenant's key.
func KeyName(tenant tenants.ID) string { return driver.KeyName(tenant) }

// Config says which driver and where.
type Config struct {
	// URL is `keyring:DIR` or `vault:https://host:port`.
	URL string `env:"CARESPHERE_KMS" required:"true"`
	// CellID names the Vault mount, `cell/<cell id>`.
	CellID string `env:"CARESPHERE_CELL_ID"`
	// CAFile is the PEM file that Vault's certificate is verified with.
	CAFile string `env:"CARESPHERE_TLS_CA"`
	// RoleIDFile and SecretIDFile hold the AppRole credentials of this process.
	RoleIDFile   string `env:"CARESPHERE_VAULT_ROLE_ID"`
	SecretIDFile string `env:"CARESPHERE_VAULT_SECRET_ID"`
	// ShredLedger is a file outside the keyring's directory that remembers which
	// keys were shredded, so that a restored directory does not revive them.
	ShredLedger string `env:"CARESPHERE_SHRED_LEDGER"`
}

// Open returns the configured driver. A Vault that is down or sealed is not an
// error here: calls give ErrUnavailable until it is back. A wrong configuration,
// or a keyring whose files are readable by others, is.
func Open(ctx context.Context, cfg Config) (KMS, error) {
	scheme, rest, _ := strings.Cut(cfg.URL, ":")
	switch scheme {
	case "keyring":
		if rest == "" {
			return nil, errors.New("kms: keyring needs a directory, as keyring:/var/lib/caresphere/keys")
		}
		return keyring.Open(rest, keyring.Options{ShredLedger: cfg.ShredLedger})
	case "vault":
		return vault.Open(ctx, vault.Config{
			Address: rest, Cell: cfg.CellID, CAFile: cfg.CAFile,
			RoleIDFile: cfg.RoleIDFile, SecretIDFile: cfg.SecretIDFile,
		})
	default:
		return nil, fmt.Errorf("kms: unknown driver %q: use keyring:DIR or vault:https://host:port", scheme)
	}
}
