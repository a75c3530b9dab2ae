package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/caresphere/caresphere/internal/kms"
)

// rotationSettings shape the rotation of tenants' keys.
type rotationSettings struct {
	// Every is the age at which a key is rotated by itself.
	Every time.Duration `env:"CARESPHERE_KEY_ROTATE_EVERY" default:"8760h"`
	// Grace is how long a key's old version still unwraps after all was rewrapped.
	Grace time.Duration `env:"CARESPHERE_KEY_ROTATE_GRACE" default:"840h"`
	// RoleID and SecretID are the files of the rewrapper's credentials in Vault.
	RoleID   string `env:"CARESPHERE_VAULT_REWRAPPER_ROLE_ID"`
	SecretID string `env:"CARESPHERE_VAULT_REWRAPPER_SECRET_ID"`
}

// openRewrapper opens the KMS for rotations. In Vault it is under a role of its own:
// the provisioner's may not rotate, and the rewrapper's may not open or close a key.
func openRewrapper(ctx context.Context, s settings) (kms.KMS, error) {
	if strings.HasPrefix(s.KMS.URL, "vault:") {
		if s.Rotation.RoleID == "" || s.Rotation.SecretID == "" {
			return nil, errors.New("keys in Vault are rotated under the rewrapper's role: set CARESPHERE_VAULT_REWRAPPER_ROLE_ID and CARESPHERE_VAULT_REWRAPPER_SECRET_ID")
		}
		s.KMS.RoleIDFile, s.KMS.SecretIDFile = s.Rotation.RoleID, s.Rotation.SecretID
	}
	return kms.Open(ctx, s.KMS)
}
