package vault

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/vault/api"

	"github.com/caresphere/caresphere/internal/kms/driver"
)

// paths are the places of one cell in Vault, named by its id.
type paths string

func (c paths) mount() string             { return "cell/" + string(c) }
func (c paths) ledger() string            { return "cell-ledger/" + string(c) }
func (c paths) key(key string) string     { return c.mount() + "/keys/" + key }
func (c paths) dataKey(key string) string { return c.mount() + "/datakey/plaintext/" + key }
func (c paths) decrypt(key string) string { return c.mount() + "/decrypt/" + key }
func (c paths) rewrap(key string) string  { return c.mount() + "/rewrap/" + key }
func (c paths) closed(key string) string  { return c.ledger() + "/closed/" + key }
func (c paths) shredded(key string) string {
	return c.ledger() + "/shredded/" + key
}
func (c paths) policy(role string) string { return "cell-" + string(c) + "-" + role }
func (c paths) closedPolicy(part string) string {
	return c.policy("closed-" + part)
}
func (c paths) policyPath(part string) string { return "sys/policies/acl/" + c.closedPolicy(part) }

// parts are those of the list of closed keys: a key's is its last digit. A policy of
// them all would be longer than Vault takes from some 4,700 keys on, and be written
// whole with each.
var parts = strings.Split("0123456789abcdef", "")

func partOf(key string) string { return key[len(key)-1:] }

// The roles, each an AppRole `cell-<cell>-<role>`.
const (
	// RoleProvisioner ensures, lists, disables and enables keys, and makes data keys, to
	// seal a tenant's credential; it unwraps none. It rewraps, to prove that a wrap
	// is bound to its tenant.
	RoleProvisioner = "provisioner"
	// RoleWorker makes and unwraps data keys of keys that are not closed.
	RoleWorker = "worker"
	// RoleRewrapper rotates, rewraps and retires; it sees no data key. The provisioner
	// logs in with it beside its own role.
	RoleRewrapper = "rewrapper"
	// RoleShredder destroys keys.
	RoleShredder = "shredder"
)

// policyTexts are the grants of each role; CELL stands for the cell's id. A plus
// matches one whole path segment. What is not listed is refused: no role may
// export or back up a key, encrypt by hand, or reach another cell's mount.
var policyTexts = map[string]string{
	RoleProvisioner: `
path "cell/CELL/keys/+" {
  capabilities       = ["create", "read", "update"]
  allowed_parameters = { "type" = ["aes256-gcm96"], "derived" = [true] }
}
path "cell/CELL/keys"                { capabilities = ["list"] }
path "cell/CELL/keys/"               { capabilities = ["list"] }
path "cell/CELL/datakey/plaintext/+" { capabilities = ["create", "update"] }
path "cell/CELL/rewrap/+"            { capabilities = ["create", "update"] }
path "cell-ledger/CELL/closed"     { capabilities = ["list"] }
path "cell-ledger/CELL/closed/"    { capabilities = ["list"] }
path "cell-ledger/CELL/closed/+"   { capabilities = ["create", "read", "update", "delete"] }
path "cell-ledger/CELL/shredded"   { capabilities = ["list"] }
path "cell-ledger/CELL/shredded/"  { capabilities = ["list"] }
path "cell-ledger/CELL/shredded/+" { capabilities = ["read"] }
` + closedGrants(),
	RoleWorker: `
path "cell/CELL/datakey/plaintext/+" { capabilities = ["create", "update"] }
path "cell/CELL/decrypt/+"           { capabilities = ["create", "update"] }
path "cell/CELL/keys/+"              { capabilities = ["read"] }
path "cell-ledger/CELL/closed/+"     { capabilities = ["read"] }
path "cell-ledger/CELL/shredded/+"   { capabilities = ["read"] }
`,
	RoleRewrapper: `
path "cell/CELL/rewrap/+"      { capabilities = ["create", "update"] }
path "cell/CELL/keys/+"        { capabilities = ["read"] }
path "cell/CELL/keys/+/rotate" { capabilities = ["create", "update"] }
path "cell/CELL/keys/+/config" {
  capabilities       = ["create", "update"]
  allowed_parameters = { "min_decryption_version" = [], "min_encryption_version" = [] }
}
path "cell/CELL/keys/+/trim"       { capabilities = ["create", "update"] }
path "cell-ledger/CELL/closed/+"   { capabilities = ["read"] }
path "cell-ledger/CELL/shredded/+" { capabilities = ["read"] }
`,
	RoleShredder: `
path "cell/CELL/keys/+" { capabilities = ["read", "delete"] }
path "cell/CELL/keys/+/config" {
  capabilities       = ["create", "update"]
  allowed_parameters = { "deletion_allowed" = [true] }
}
path "cell-ledger/CELL/closed/+"   { capabilities = ["read"] }
path "cell-ledger/CELL/shredded/+" { capabilities = ["create", "read"] }
`,
}

// closedGrants names each part: a pattern would take in policies of another cell
// whose id begins like this one's.
func closedGrants() string {
	var b strings.Builder
	for _, part := range parts {
		fmt.Fprintf(&b, "path \"sys/policies/acl/cell-CELL-closed-%s\" { capabilities = [\"create\", \"read\", \"update\"] }\n", part)
	}
	return b.String()
}

// Policies returns the cell's policies by name, without those that close keys:
// their texts change with every gate.
func Policies(cell string) map[string]string {
	texts := map[string]string{}
	for role, text := range policyTexts {
		texts[paths(cell).policy(role)] = strings.TrimSpace(strings.ReplaceAll(text, "CELL", cell)) + "\n"
	}
	return texts
}

// closedText returns a policy that refuses the keys to workers. Vault takes
// the most specific path, so an exact deny wins over the worker's plus.
func closedText(cell string, keys []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Keys of cell %s that are closed to its workers. Written by the provisioner.\n", cell)
	for _, key := range keys {
		for _, path := range []string{paths(cell).dataKey(key), paths(cell).decrypt(key)} {
			fmt.Fprintf(&b, "path %q { capabilities = [\"deny\"] }\n", path)
		}
	}
	return b.String()
}

// Credentials let a process log in as a role.
type Credentials struct{ RoleID, SecretID string }

// Setup prepares a cell with an administrator's client: the transit mount, which
// never makes a key by accident, the ledger, the policies, and an AppRole for
// each role. It returns fresh credentials by role and may be repeated: keys,
// ledger and closed keys stay as they are.
func Setup(ctx context.Context, admin *api.Client, cell string) (map[string]Credentials, error) {
	if !cellForm.MatchString(cell) {
		return nil, fmt.Errorf("vault: not a cell id: %w", driver.ErrInvalid)
	}
	c := paths(cell)
	if err := mount(ctx, admin, c.mount(), "transit"); err != nil {
		return nil, err
	}
	if err := mount(ctx, admin, c.ledger(), "kv"); err != nil {
		return nil, err
	}
	if err := enableAppRole(ctx, admin); err != nil {
		return nil, err
	}
	// Without this, encrypting with an unknown name makes a key of that name.
	if _, err := admin.Logical().WriteWithContext(ctx, c.mount()+"/config/keys", map[string]any{"disable_upsert": true}); err != nil {
		return nil, fmt.Errorf("vault: configuring the mount: %w", err)
	}
	texts := Policies(cell)
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		if err := admin.Sys().PutPolicyWithContext(ctx, name, texts[name]); err != nil {
			return nil, fmt.Errorf("vault: writing policy %s: %w", name, err)
		}
	}
	ledger, err := admin.Logical().ListWithContext(ctx, c.ledger()+"/closed")
	if err != nil {
		return nil, fmt.Errorf("vault: reading the ledger of closed keys: %w", err)
	}
	// A shredded key among them stays until the provisioner writes its part anew.
	keys, closed := ledgerKeys(ledger), make([]string, 0, len(parts))
	for _, part := range parts {
		name := c.closedPolicy(part)
		closed = append(closed, name)
		if have, err := admin.Sys().GetPolicyWithContext(ctx, name); err != nil {
			return nil, fmt.Errorf("vault: reading policy: %w", err)
		} else if have != "" {
			continue
		}
		if err := admin.Sys().PutPolicyWithContext(ctx, name, closedText(cell, inPart(keys, part))); err != nil {
			return nil, fmt.Errorf("vault: writing policy: %w", err)
		}
	}
	made := map[string]Credentials{}
	for _, role := range slices.Sorted(maps.Keys(policyTexts)) {
		policies := []string{c.policy(role)}
		if role == RoleWorker {
			policies = append(policies, closed...)
		}
		access, err := appRole(ctx, admin, c.policy(role), policies)
		if err != nil {
			return nil, err
		}
		made[role] = access
	}
	return made, nil
}

// inPart returns those of the keys that are of the part.
func inPart(keys []string, part string) []string {
	return slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return partOf(key) != part })
}

// ledgerKeys returns the names in an administrator's list of the ledger, in order.
func ledgerKeys(list *api.Secret) (keys []string) {
	if list == nil {
		return nil
	}
	all, _ := list.Data["keys"].([]any)
	for _, one := range all {
		if key, ok := one.(string); ok {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// mount mounts an engine that is not there. Of two that do so at once, the one
// that comes too late finds the other's.
func mount(ctx context.Context, admin *api.Client, path, kind string) error {
	var failed error
	for range 2 {
		mounts, err := admin.Sys().ListMountsWithContext(ctx)
		if err != nil {
			return fmt.Errorf("vault: listing mounts: %w", err)
		}
		if have, ok := mounts[path+"/"]; ok {
			if have.Type != kind {
				return fmt.Errorf("vault: %s is a %s mount and must be %s", path, have.Type, kind)
			}
			return nil
		}
		if failed = admin.Sys().MountWithContext(ctx, path, &api.MountInput{Type: kind}); failed == nil {
			return nil
		}
	}
	return fmt.Errorf("vault: mounting %s: %w", path, failed)
}

// enableAppRole is mount for the way of logging in.
func enableAppRole(ctx context.Context, admin *api.Client) error {
	var failed error
	for range 2 {
		auths, err := admin.Sys().ListAuthWithContext(ctx)
		if err != nil {
			return fmt.Errorf("vault: listing auth methods: %w", err)
		}
		if _, ok := auths["approle/"]; ok {
			return nil
		}
		if failed = admin.Sys().EnableAuthWithOptionsWithContext(ctx, "approle", &api.EnableAuthOptions{Type: "approle"}); failed == nil {
			return nil
		}
	}
	return fmt.Errorf("vault: enabling approle: %w", failed)
}

func appRole(ctx context.Context, admin *api.Client, name string, policies []string) (Credentials, error) {
	path := "auth/approle/role/" + name
	if _, err := admin.Logical().WriteWithContext(ctx, path, map[string]any{
		"token_policies": policies, "token_ttl": "1h", "token_max_ttl": "24h", "token_type": "service",
	}); err != nil {
		return Credentials{}, fmt.Errorf("vault: making AppRole %s: %w", name, err)
	}
	role, err := admin.Logical().ReadWithContext(ctx, path+"/role-id")
	if err != nil {
		return Credentials{}, fmt.Errorf("vault: reading AppRole %s: %w", name, err)
	}
	secret, err := admin.Logical().WriteWithContext(ctx, path+"/secret-id", nil)
	if err != nil {
		return Credentials{}, fmt.Errorf("vault: making a secret id for %s: %w", name, err)
	}
	var made Credentials
	if role != nil && secret != nil {
		made.RoleID, _ = role.Data["role_id"].(string)
		made.SecretID, _ = secret.Data["secret_id"].(string)
	}
	if made.RoleID == "" || made.SecretID == "" {
		return Credentials{}, fmt.Errorf("vault: AppRole %s has no credentials", name)
	}
	return made, nil
}
