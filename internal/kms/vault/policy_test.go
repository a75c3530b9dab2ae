package vault_test

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/vault/api"

	"github.com/caresphere/caresphere/internal/kms/driver"
	"github.com/caresphere/caresphere/internal/kms/vault"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/tenants"
)

// as returns a bare client with a token of the role, to try what the driver
// would never ask for.
func (c *cell) as(t *testing.T, role string) *api.Client {
	t.Helper()
	client, err := vault.NewClient(c.server.Address, c.server.CA)
	if err != nil {
		t.Fatal(err)
	}
	s, err := client.Logical().Write("auth/approle/login", map[string]any{
		"role_id": c.credentials[role].RoleID, "secret_id": c.credentials[role].SecretID,
	})
	if err != nil {
		t.Fatal(err)
	}
	client.SetToken(s.Auth.ClientToken)
	return client
}

// TestRolesMayDoNoMore tries, with each role's token, what another role or
// nobody may do. The administrator's client does each of them afterwards, so
// that a wrong path cannot pass for a refusal.
func TestRolesMayDoNoMore(t *testing.T) {
	server := testkit.Vault(t)
	c, other := newCell(t, server), newCell(t, server)
	worker := c.open(t, vault.RoleWorker)
	key, id, dk := c.made(t, worker)
	bound, err := driver.Context(key, "field", id)
	if err != nil {
		t.Fatal(err)
	}
	decrypt := map[string]any{"ciphertext": string(dk.Wrapped), "context": base64.StdEncoding.EncodeToString(bound)}
	foreignWorker := other.open(t, vault.RoleWorker)
	foreign, foreignID, foreignKey := other.made(t, foreignWorker)
	bound, err = driver.Context(foreign, "field", foreignID)
	if err != nil {
		t.Fatal(err)
	}
	foreignDecrypt := map[string]any{"ciphertext": string(foreignKey.Wrapped), "context": base64.StdEncoding.EncodeToString(bound)}

	mount, foreignMount := "cell/"+c.id, "cell/"+other.id
	fresh := func() string { return driver.KeyName(tenants.NewID()) }
	put := func(path string, body map[string]any) func(*api.Client) error {
		return func(client *api.Client) error {
			_, err := client.Logical().Write(path, body)
			return err
		}
	}
	get := func(path string) func(*api.Client) error {
		return func(client *api.Client) error {
			_, err := client.Logical().Read(path)
			return err
		}
	}
	derived := map[string]any{"type": "aes256-gcm96", "derived": true}
	exportable := map[string]any{"type": "aes256-gcm96", "derived": true, "exportable": true}
	// A key that an administrator made exportable, and one that may be deleted.
	open := fresh()
	if err := put(mount+"/keys/"+open, map[string]any{"type": "aes256-gcm96", "derived": true, "exportable": true, "allow_plaintext_backup": true})(c.admin); err != nil {
		t.Fatal(err)
	}
	if err := put(mount+"/keys/"+open+"/config", map[string]any{"deletion_allowed": true})(c.admin); err != nil {
		t.Fatal(err)
	}
	grab := map[string]any{"policy": `path "*" { capabilities = ["read"] }`}
	all := []string{vault.RoleProvisioner, vault.RoleWorker, vault.RoleRewrapper, vault.RoleShredder}
	but := func(allowed ...string) (rest []string) {
		for _, role := range all {
			if !strings.Contains(strings.Join(allowed, " "), role) {
				rest = append(rest, role)
			}
		}
		return rest
	}
	tries := []struct {
		what  string
		roles []string // those that must be refused
		call  func(*api.Client) error
	}{
		{"export a key", all, get(mount + "/export/encryption-key/" + open)},
		{"back up a key", all, get(mount + "/backup/" + open)},
		{"encrypt by hand", all, put(mount+"/encrypt/"+key, map[string]any{"plaintext": "", "context": "AAAA"})},
		{"make a key", but(vault.RoleProvisioner), put(mount+"/keys/"+fresh(), derived)},
		{"make an exportable key", all, put(mount+"/keys/"+fresh(), exportable)},
		{"make a data key", but(vault.RoleWorker, vault.RoleProvisioner), put(mount+"/datakey/plaintext/"+key, map[string]any{"context": "AAAA"})},
		{"decrypt", but(vault.RoleWorker), put(mount+"/decrypt/"+key, decrypt)},
		{"rewrap", but(vault.RoleRewrapper, vault.RoleProvisioner), put(mount+"/rewrap/"+key, decrypt)},
		{"rotate", but(vault.RoleRewrapper), put(mount+"/keys/"+key+"/rotate", nil)},
		{"raise the minimum", but(vault.RoleRewrapper), put(mount+"/keys/"+key+"/config", map[string]any{"min_decryption_version": 1})},
		{"allow deletion", but(vault.RoleShredder), put(mount+"/keys/"+fresh()+"/config", map[string]any{"deletion_allowed": true})},
		{"make a key exportable", all, put(mount+"/keys/"+key+"/config", map[string]any{"exportable": true})},
		{"list keys", but(vault.RoleProvisioner), func(client *api.Client) error { _, err := client.Logical().List(mount + "/keys"); return err }},
		{"turn upsert on", all, put(mount+"/config/keys", map[string]any{"disable_upsert": false})},
		{"close a key", but(vault.RoleProvisioner), put("cell-ledger/"+c.id+"/closed/"+fresh(), map[string]any{"at": "now"})},
		{"mark a key as shredded", but(vault.RoleShredder), put("cell-ledger/"+c.id+"/shredded/"+fresh(), map[string]any{"at": "now"})},
		{"write its own policy", all, put("sys/policies/acl/cell-"+c.id+"-worker", grab)},
		{"write another policy", all, put("sys/policies/acl/grab-"+c.id, grab)},
		{"write the other cell's closed policy", all, put("sys/policies/acl/cell-"+other.id+"-closed-0", grab)},
		{"write the closed policy of a cell that is named alike", all, put("sys/policies/acl/cell-"+c.id+"-closed-worker", grab)},
		{"decrypt in the other cell", all, put(foreignMount+"/decrypt/"+foreign, foreignDecrypt)},
		{"make a data key in the other cell", all, put(foreignMount+"/datakey/plaintext/"+foreign, map[string]any{"context": "AAAA"})},
		{"look at the other cell's key", all, get(foreignMount + "/keys/" + foreign)},
		{"make a secret id", all, put("auth/approle/role/cell-"+c.id+"-worker/secret-id", nil)},
		{"delete a key", but(vault.RoleShredder), func(client *api.Client) error {
			_, err := client.Logical().Delete(mount + "/keys/" + open)
			return err
		}},
	}
	for _, try := range tries {
		for _, role := range try.roles {
			err := try.call(c.as(t, role))
			var answer *api.ResponseError
			if !errors.As(err, &answer) || answer.StatusCode != http.StatusForbidden {
				t.Errorf("%s could %s: %v", role, try.what, err)
			}
		}
	}
	if _, err := worker.Unwrap(t.Context(), key, "field", id, dk.Wrapped); err != nil {
		t.Fatal(err)
	}
	if _, err := foreignWorker.Unwrap(t.Context(), foreign, "field", foreignID, foreignKey.Wrapped); err != nil {
		t.Fatal(err)
	}
	for _, try := range tries {
		var answer *api.ResponseError
		if err := try.call(c.admin); errors.As(err, &answer) && answer.StatusCode != http.StatusBadRequest {
			t.Errorf("not even the administrator could %s: %v", try.what, err)
		}
	}
}

// TestDriverOfAnotherRoleIsRefused: what a role may not do is ErrAuth, and the
// role that may succeeds.
func TestDriverOfAnotherRoleIsRefused(t *testing.T) {
	c := newCell(t, testkit.Vault(t))
	worker, provisioner := c.open(t, vault.RoleWorker), c.open(t, vault.RoleProvisioner)
	key, id, dk := c.made(t, worker)
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, driver.ErrAuth) {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("worker ensures", worker.Ensure(t.Context(), driver.KeyName(tenants.NewID())))
	refused("worker disables", worker.Disable(t.Context(), key))
	refused("worker shreds", worker.Shred(t.Context(), key))
	_, err := worker.Rotate(t.Context(), key)
	refused("worker rotates", err)
	_, err = provisioner.Unwrap(t.Context(), key, "field", id, dk.Wrapped)
	refused("provisioner unwraps", err)
	refused("provisioner shreds", provisioner.Shred(t.Context(), key))
	refused("rewrapper disables", c.open(t, vault.RoleRewrapper).Disable(t.Context(), key))
	if _, err := worker.Unwrap(t.Context(), key, "field", id, dk.Wrapped); err != nil {
		t.Fatal(err)
	}
}

func TestUnknownKeyIsNeverMadeByUse(t *testing.T) {
	c := newCell(t, testkit.Vault(t))
	key := driver.KeyName(tenants.NewID())
	encrypt := func() error {
		_, err := c.admin.Logical().Write("cell/"+c.id+"/encrypt/"+key, map[string]any{"plaintext": "AAAA"})
		return err
	}
	if err := encrypt(); err == nil {
		t.Fatal("encrypting made a key")
	}
	if _, err := c.admin.Logical().Write("cell/"+c.id+"/config/keys", map[string]any{"disable_upsert": false}); err != nil {
		t.Fatal(err)
	}
	if err := encrypt(); err != nil {
		t.Fatalf("without the setting it should: %v", err)
	}
}

func TestManySetupsAtOnce(t *testing.T) {
	t.Parallel()
	server, _ := testkit.OwnVault(t)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if _, err := vault.Setup(t.Context(), server.Admin(t), "shared"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}
