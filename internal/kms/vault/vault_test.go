package vault_test

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"

	"github.com/caresphere/caresphere/internal/kms/driver"
	"github.com/caresphere/caresphere/internal/kms/kmstest"
	"github.com/caresphere/caresphere/internal/kms/vault"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/tenants"
)

// cell is a cell of the test's own in a Vault.
type cell struct {
	id          string
	server      *testkit.VaultServer
	admin       *api.Client
	credentials map[string]vault.Credentials
	// address is where the drivers connect, the server's own or a proxy's.
	address string
}

func newCell(t testing.TB, server *testkit.VaultServer) *cell {
	t.Helper()
	c := &cell{id: "c" + strings.ToLower(rand.Text()[:10]), server: server, admin: server.Admin(t), address: server.Address}
	var err error
	if c.credentials, err = vault.Setup(t.Context(), c.admin, c.id); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *cell) config(t testing.TB, role string) vault.Config {
	t.Helper()
	dir := t.TempDir()
	cfg := vault.Config{
		Address: c.address, Cell: c.id, CAFile: c.server.CA,
		RoleIDFile: filepath.Join(dir, "role"), SecretIDFile: filepath.Join(dir, "secret"),
	}
	for path, text := range map[string]string{cfg.RoleIDFile: c.credentials[role].RoleID, cfg.SecretIDFile: c.credentials[role].SecretID} {
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cfg
}

func (c *cell) open(t testing.TB, role string) *vault.Vault {
	t.Helper()
	return openWith(t, c.config(t, role))
}

func openWith(t testing.TB, cfg vault.Config) *vault.Vault {
	t.Helper()
	v, err := vault.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	return v
}

// made returns a key with one data key of it.
func (c *cell) made(t testing.TB, worker *vault.Vault) (key string, id tenants.ID, dk driver.DataKey) {
	t.Helper()
	key, id = driver.KeyName(tenants.NewID()), tenants.NewID()
	if err := c.open(t, vault.RoleProvisioner).Ensure(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	dk, err := worker.NewDataKey(t.Context(), key, "field", id)
	if err != nil {
		t.Fatal(err)
	}
	return key, id, dk
}

func TestConformance(t *testing.T) {
	t.Parallel()
	c := newCell(t, testkit.Vault(t))
	kmstest.Run(t, kmstest.Handles{
		Provisioner: c.open(t, vault.RoleProvisioner), SecondProvisioner: c.open(t, vault.RoleProvisioner),
		Worker: c.open(t, vault.RoleWorker), SecondWorker: c.open(t, vault.RoleWorker),
		Rewrapper: c.open(t, vault.RoleRewrapper), Shredder: c.open(t, vault.RoleShredder),
	})
}

func TestConfigurationIsChecked(t *testing.T) {
	c := newCell(t, testkit.Vault(t))
	good := c.config(t, vault.RoleWorker)
	_ = openWith(t, good)
	for name, spoil := range map[string]func(*vault.Config){
		"plain http":       func(cfg *vault.Config) { cfg.Address = strings.Replace(cfg.Address, "https", "http", 1) },
		"no address":       func(cfg *vault.Config) { cfg.Address = "" },
		"no cell":          func(cfg *vault.Config) { cfg.Cell = "" },
		"a cell with path": func(cfg *vault.Config) { cfg.Cell = "a/b" },
		"no authority":     func(cfg *vault.Config) { cfg.CAFile = "" },
		"an empty authority": func(cfg *vault.Config) {
			cfg.CAFile = filepath.Join(t.TempDir(), "ca.pem")
			if err := os.WriteFile(cfg.CAFile, []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"no role id":   func(cfg *vault.Config) { cfg.RoleIDFile = "" },
		"no secret id": func(cfg *vault.Config) { cfg.SecretIDFile += "x" },
	} {
		cfg := good
		spoil(&cfg)
		if _, err := vault.Open(t.Context(), cfg); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

func TestEnvironmentOfTheVaultCLIIsIgnored(t *testing.T) {
	c := newCell(t, testkit.Vault(t))
	for name, value := range map[string]string{
		"VAULT_ADDR": "https://127.0.0.1:1", "VAULT_TOKEN": "other", "VAULT_NAMESPACE": "other", "VAULT_SKIP_VERIFY": "true",
		"VAULT_MAX_RETRIES": "9", "VAULT_CLIENT_TIMEOUT": "1ms", "VAULT_PROXY_ADDR": "http://127.0.0.1:1",
	} {
		t.Setenv(name, value)
	}
	if err := c.open(t, vault.RoleWorker).Health(t.Context()); err != nil {
		t.Fatal(err)
	}
	stranger := c.config(t, vault.RoleWorker)
	stranger.CAFile = testkit.Other(t).Path()
	if err := openWith(t, stranger).Health(t.Context()); !errors.Is(err, driver.ErrUnavailable) {
		t.Fatalf("a server of another authority: %v", err)
	}
}

func TestSetupMayBeRepeated(t *testing.T) {
	c := newCell(t, testkit.Vault(t))
	worker, provisioner := c.open(t, vault.RoleWorker), c.open(t, vault.RoleProvisioner)
	key, id, dk := c.made(t, worker)
	closed, closedID, closedKey := c.made(t, worker)
	if err := provisioner.Disable(t.Context(), closed); err != nil {
		t.Fatal(err)
	}
	again, err := vault.Setup(t.Context(), c.admin, c.id)
	if err != nil {
		t.Fatal(err)
	}
	c.credentials = again
	fresh := c.open(t, vault.RoleWorker)
	for _, w := range []*vault.Vault{worker, fresh} {
		if _, err := w.Unwrap(t.Context(), key, "field", id, dk.Wrapped); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Unwrap(t.Context(), closed, "field", closedID, closedKey.Wrapped); !errors.Is(err, driver.ErrKeyDisabled) {
			t.Fatalf("a closed key after another setup: %v", err)
		}
	}
	if _, err := vault.Setup(t.Context(), c.admin, "Bad/Cell"); !errors.Is(err, driver.ErrInvalid) {
		t.Fatalf("a bad cell id: %v", err)
	}
}

// TestEnsureRefusesAKeyOfAnotherKind plants keys that an administrator could make.
func TestEnsureRefusesAKeyOfAnotherKind(t *testing.T) {
	c := newCell(t, testkit.Vault(t))
	provisioner := c.open(t, vault.RoleProvisioner)
	for name, settings := range map[string]map[string]any{
		"not derived": {"type": "aes256-gcm96"},
		"exportable":  {"type": "aes256-gcm96", "derived": true, "exportable": true},
		"backup":      {"type": "aes256-gcm96", "derived": true, "allow_plaintext_backup": true},
		"other type":  {"type": "chacha20-poly1305", "derived": true},
	} {
		key := driver.KeyName(tenants.NewID())
		if _, err := c.admin.Logical().Write("cell/"+c.id+"/keys/"+key, settings); err != nil {
			t.Fatal(err)
		}
		if err := provisioner.Ensure(t.Context(), key); !errors.Is(err, driver.ErrIntegrity) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPolicyThatLostAKeyIsRepaired plants the loss that two writers of one
// policy can cause when the last one dies before it looks again.
func TestPolicyThatLostAKeyIsRepaired(t *testing.T) {
	c := newCell(t, testkit.Vault(t))
	worker, provisioner := c.open(t, vault.RoleWorker), c.open(t, vault.RoleProvisioner)
	key, id, dk := c.made(t, worker)
	if err := provisioner.Disable(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if err := c.admin.Sys().PutPolicyWithContext(t.Context(), "cell-"+c.id+"-closed-"+key[len(key)-1:], "# emptied\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := worker.Unwrap(t.Context(), key, "field", id, dk.Wrapped); err != nil {
		t.Fatalf("the planted loss does not show: %v", err)
	}
	for _, want := range []int{1, 0} {
		if mended, err := provisioner.Reconcile(t.Context()); err != nil || mended != want {
			t.Fatalf("%d policies mended, want %d: %v", mended, want, err)
		}
	}
	if _, err := worker.Unwrap(t.Context(), key, "field", id, dk.Wrapped); !errors.Is(err, driver.ErrKeyDisabled) {
		t.Fatalf("after the repair: %v", err)
	}
}

// TestSettingUpAgainKeepsKeysClosed sets a cell up whose policies are gone, as an earlier
// release's are under their new names: who was closed is, before any provisioner runs.
func TestSettingUpAgainKeepsKeysClosed(t *testing.T) {
	c := newCell(t, testkit.Vault(t))
	worker, provisioner := c.open(t, vault.RoleWorker), c.open(t, vault.RoleProvisioner)
	key, id, dk := c.made(t, worker)
	other, otherID, otherKey := c.made(t, worker)
	if err := provisioner.Disable(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	for _, part := range strings.Split("0123456789abcdef", "") {
		if err := c.admin.Sys().DeletePolicyWithContext(t.Context(), "cell-"+c.id+"-closed-"+part); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := worker.Unwrap(t.Context(), key, "field", id, dk.Wrapped); err != nil {
		t.Fatalf("the planted loss does not show: %v", err)
	}
	if _, err := vault.Setup(t.Context(), c.admin, c.id); err != nil {
		t.Fatal(err)
	}
	if _, err := worker.Unwrap(t.Context(), key, "field", id, dk.Wrapped); !errors.Is(err, driver.ErrKeyDisabled) {
		t.Fatalf("after setting up again: %v", err)
	}
	if _, err := worker.Unwrap(t.Context(), other, "field", otherID, otherKey.Wrapped); err != nil {
		t.Fatalf("one that is not closed: %v", err)
	}
}

func BenchmarkUnwrap(b *testing.B) {
	server := testkit.Vault(b)
	admin := server.Admin(b)
	made, err := vault.Setup(b.Context(), admin, "bench")
	if err != nil {
		b.Fatal(err)
	}
	open := func(role string) *vault.Vault {
		dir := b.TempDir()
		cfg := vault.Config{Address: server.Address, Cell: "bench", CAFile: server.CA, RoleIDFile: filepath.Join(dir, "r"), SecretIDFile: filepath.Join(dir, "s")}
		if err := errors.Join(os.WriteFile(cfg.RoleIDFile, []byte(made[role].RoleID), 0o600), os.WriteFile(cfg.SecretIDFile, []byte(made[role].SecretID), 0o600)); err != nil {
			b.Fatal(err)
		}
		v, err := vault.Open(context.Background(), cfg)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = v.Close() })
		return v
	}
	key, id := driver.KeyName(tenants.NewID()), tenants.NewID()
	if err := open(vault.RoleProvisioner).Ensure(b.Context(), key); err != nil {
		b.Fatal(err)
	}
	worker := open(vault.RoleWorker)
	dk, err := worker.NewDataKey(b.Context(), key, "field", id)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := worker.Unwrap(b.Context(), key, "field", id, dk.Wrapped); err != nil {
			b.Fatal(err)
		}
	}
}
