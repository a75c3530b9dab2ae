package devstack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/caresphere/caresphere/internal/devstack/pki"
	"github.com/caresphere/caresphere/internal/devstack/proc"
	"github.com/caresphere/caresphere/internal/kms/vault"
)

// VaultConfig says how a Vault server is run: TLS, raft storage, sealed at
// start, never in its development mode.
type VaultConfig struct {
	// Bin is the server's binary; Dir holds its storage and, in init.json, the
	// unseal key and root token; Log is its log.
	Bin, Dir, Log string
	// Port serves the API; ClusterPort is what raft insists on.
	Port, ClusterPort int
	Server            pki.Pair
	CA                string
}

// VaultServer is a running, unsealed Vault.
type VaultServer struct {
	cfg     VaultConfig
	root    string
	process *proc.Process
}

// vaultKeys is what initialization gives once.
type vaultKeys struct {
	Unseal    string `json:"unseal_key"`
	RootToken string `json:"root_token"`
}

// StartVault starts the server, initializes it if it is new, unseals it and
// waits until it is active.
func StartVault(ctx context.Context, cfg VaultConfig) (*VaultServer, error) {
	for _, port := range []int{cfg.Port, cfg.ClusterPort} {
		if err := CheckPort("vault", port); err != nil {
			return nil, err
		}
	}
	storage := filepath.Join(cfg.Dir, "raft")
	if err := os.MkdirAll(storage, 0o700); err != nil {
		return nil, fmt.Errorf("making Vault's storage: %w", err)
	}
	settings, err := json.MarshalIndent(object{
		"disable_mlock": true, "ui": false, "log_level": "warn",
		"api_addr":     loopbackURL(cfg.Port),
		"cluster_addr": loopbackURL(cfg.ClusterPort),
		"storage":      object{"raft": object{"path": storage, "node_id": "local", "performance_multiplier": 1}},
		"listener": object{"tcp": object{
			"address": "127.0.0.1:" + strconv.Itoa(cfg.Port), "cluster_address": "127.0.0.1:" + strconv.Itoa(cfg.ClusterPort),
			"tls_cert_file": cfg.Server.Cert, "tls_key_file": cfg.Server.Key, "tls_min_version": "tls12",
		}},
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("writing Vault's settings: %w", err)
	}
	file := filepath.Join(cfg.Dir, "vault.json")
	if err := writeSecret(file, settings); err != nil {
		return nil, err
	}
	v := &VaultServer{cfg: cfg}
	v.process, err = proc.Start(proc.Spec{
		Name: "vault", Path: cfg.Bin, Args: []string{"server", "-config", file},
		Env: plainEnv("HOME=" + cfg.Dir), Dir: cfg.Dir, Log: cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	if err := v.open(ctx); err != nil {
		return nil, errors.Join(err, v.process.Stop(context.WithoutCancel(ctx)))
	}
	return v, nil
}

func (v *VaultServer) open(ctx context.Context) error {
	client, err := vault.NewClient(v.Address(), v.cfg.CA)
	if err != nil {
		return err
	}
	client.SetClientTimeout(30 * time.Second) // initialization syncs the disk a few times
	var initialized bool
	err = v.process.Ready(ctx, func(ctx context.Context) error {
		initialized, err = client.Sys().InitStatusWithContext(ctx)
		return err
	})
	if err != nil {
		return err
	}
	keys, err := v.keys(ctx, client, initialized)
	if err != nil {
		return err
	}
	v.root = keys.RootToken
	if _, err := client.Sys().UnsealWithContext(ctx, keys.Unseal); err != nil {
		return fmt.Errorf("unsealing Vault: %w", err)
	}
	client.SetToken(v.root)
	err = v.process.Ready(ctx, func(ctx context.Context) error {
		_, err := client.Auth().Token().LookupSelfWithContext(ctx)
		return err
	})
	if err != nil {
		return err
	}
	return v.audit(ctx, client)
}

// keys initializes a new server and writes down what cannot be had again before
// anything else happens.
func (v *VaultServer) keys(ctx context.Context, client *api.Client, initialized bool) (vaultKeys, error) {
	file := filepath.Join(v.cfg.Dir, "init.json")
	var keys vaultKeys
	if initialized {
		content, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			return keys, fmt.Errorf("the Vault in %s is initialized and its unseal key is lost: run `make clean-state`", v.cfg.Dir)
		}
		if err != nil {
			return keys, fmt.Errorf("reading the unseal key: %w", err)
		}
		if err := json.Unmarshal(content, &keys); err != nil {
			return keys, fmt.Errorf("reading the unseal key in %s: %w", file, err)
		}
		return keys, nil
	}
	made, err := client.Sys().InitWithContext(ctx, &api.InitRequest{SecretShares: 1, SecretThreshold: 1})
	if err != nil {
		return keys, fmt.Errorf("initializing Vault: %w", err)
	}
	if len(made.KeysB64) != 1 {
		return keys, fmt.Errorf("initializing Vault: %d unseal keys instead of one", len(made.KeysB64))
	}
	keys = vaultKeys{Unseal: made.KeysB64[0], RootToken: made.RootToken}
	content, err := json.Marshal(keys)
	if err != nil {
		return keys, fmt.Errorf("writing the unseal key: %w", err)
	}
	return keys, writeSecret(file, content)
}

func (v *VaultServer) audit(ctx context.Context, client *api.Client) error {
	devices, err := client.Sys().ListAuditWithContext(ctx)
	if err != nil {
		return fmt.Errorf("listing Vault's audit devices: %w", err)
	}
	if _, ok := devices["file/"]; ok {
		return nil
	}
	err = client.Sys().EnableAuditWithOptionsWithContext(ctx, "file", &api.EnableAuditOptions{
		Type: "file", Options: map[string]string{"file_path": filepath.Join(v.cfg.Dir, "audit.log"), "mode": "0600"},
	})
	if err != nil {
		return fmt.Errorf("enabling Vault's audit log: %w", err)
	}
	return nil
}

// SetUpCell prepares a cell's mount, policies and AppRoles, and writes each
// role's credentials to dir/<role>.role-id and dir/<role>.secret-id.
func (v *VaultServer) SetUpCell(ctx context.Context, cell, dir string) error {
	client, err := vault.NewClient(v.Address(), v.cfg.CA)
	if err != nil {
		return err
	}
	client.SetToken(v.root)
	credentials, err := vault.Setup(ctx, client, cell)
	if err != nil {
		return fmt.Errorf("setting up cell %s in Vault: %w", cell, err)
	}
	for role, c := range credentials {
		if err := errors.Join(
			writeSecret(filepath.Join(dir, role+".role-id"), []byte(c.RoleID)),
			writeSecret(filepath.Join(dir, role+".secret-id"), []byte(c.SecretID)),
		); err != nil {
			return err
		}
	}
	return nil
}

// Address is the API's base URL.
func (v *VaultServer) Address() string { return loopbackURL(v.cfg.Port) }

// RootToken is the administrator's: for setting up and for planting faults.
func (v *VaultServer) RootToken() string { return v.root }

// UnsealKey opens the server after it was sealed.
func (v *VaultServer) UnsealKey() (string, error) {
	content, err := os.ReadFile(filepath.Join(v.cfg.Dir, "init.json"))
	if err != nil {
		return "", fmt.Errorf("reading the unseal key: %w", err)
	}
	var keys vaultKeys
	if err := json.Unmarshal(content, &keys); err != nil {
		return "", fmt.Errorf("reading the unseal key: %w", err)
	}
	return keys.Unseal, nil
}

// Process is the server, to be watched or stopped.
func (v *VaultServer) Process() *proc.Process { return v.process }
