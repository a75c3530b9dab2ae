package kms_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/caresphere/caresphere/internal/kms"
	"github.com/caresphere/caresphere/internal/kms/kmstest"
	"github.com/caresphere/caresphere/internal/kms/vault"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/tenants"
)

func open(t *testing.T, cfg kms.Config) kms.KMS {
	t.Helper()
	k, err := kms.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	return k
}

// TestConfiguredDriversConform opens both drivers as a process does, by its settings.
func TestConfiguredDriversConform(t *testing.T) {
	t.Run("keyring", func(t *testing.T) {
		root := t.TempDir()
		cfg := kms.Config{URL: "keyring:" + filepath.Join(root, "ring"), ShredLedger: filepath.Join(root, "shredded")}
		one, two := open(t, cfg), open(t, cfg)
		kmstest.Run(t, kmstest.Handles{Provisioner: one, SecondProvisioner: two, Worker: one, SecondWorker: two, Rewrapper: two, Shredder: one})
		if _, err := os.Stat(cfg.ShredLedger); err != nil {
			t.Error("the ledger was not written")
		}
	})
	t.Run("vault", func(t *testing.T) {
		server := testkit.Vault(t)
		made, err := vault.Setup(t.Context(), server.Admin(t), "configured")
		if err != nil {
			t.Fatal(err)
		}
		role := func(name string) kms.KMS {
			dir := t.TempDir()
			cfg := kms.Config{URL: "vault:" + server.Address, CellID: "configured", CAFile: server.CA, RoleIDFile: filepath.Join(dir, "r"), SecretIDFile: filepath.Join(dir, "s")}
			for path, text := range map[string]string{cfg.RoleIDFile: made[name].RoleID, cfg.SecretIDFile: made[name].SecretID} {
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			return open(t, cfg)
		}
		kmstest.Run(t, kmstest.Handles{
			Provisioner: role(vault.RoleProvisioner), SecondProvisioner: role(vault.RoleProvisioner), Worker: role(vault.RoleWorker),
			SecondWorker: role(vault.RoleWorker), Rewrapper: role(vault.RoleRewrapper), Shredder: role(vault.RoleShredder),
		})
	})
}

func TestWrongConfigurationIsRefused(t *testing.T) {
	for _, url := range []string{"", "keyring:", "file:x", "vault:", "vault:http://h", "vault:https://h"} {
		if _, err := kms.Open(t.Context(), kms.Config{URL: url, CellID: "main"}); err == nil {
			t.Errorf("%q was opened", url)
		}
	}
}

func TestKeyNamesAreOpaqueAndStable(t *testing.T) {
	tenant, err := tenants.ParseID("01890a5d-ac96-774b-bcce-b302099a8057")
	if err != nil {
		t.Fatal(err)
	}
	// A changed name would orphan every key that exists.
	if got, want := kms.KeyName(tenant), "kf529f2d0d4c07dcc331af6ccda87dcf1"; got != want {
		t.Errorf("the key's name is %s", got)
	}
	if kms.KeyName(tenant) == kms.KeyName(tenants.NewID()) {
		t.Error("two tenants share a name")
	}
}
