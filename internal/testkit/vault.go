package testkit

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/caresphere/caresphere/internal/devstack"
	"github.com/caresphere/caresphere/internal/devstack/tools"
	"github.com/caresphere/caresphere/internal/kms/vault"
)

// VaultServer is the run's Vault: TLS, raft storage, initialized and unsealed,
// without any mount. Tests use cells of their own in it.
type VaultServer struct {
	// Address is the API's base URL; CA the file of its certificate's authority.
	Address, CA string
	// RootToken is the administrator's; UnsealKey opens the server again after a
	// test sealed it. Only a test that runs alone may seal it.
	RootToken, UnsealKey string
}

// Vault returns the run's Vault.
func Vault(t testing.TB) *VaultServer {
	t.Helper()
	v := ask[VaultServer](t, "vault", nil)
	return &v
}

// OwnVault starts a Vault for this test alone, which may seal or stop it.
func OwnVault(t testing.TB) (*VaultServer, *devstack.VaultServer) {
	t.Helper()
	h := ownHost(t)
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	v, err := h.newVault(ctx, strings.ReplaceAll(t.Name(), "/", "-"))
	if err != nil {
		t.Fatalf("starting Vault: %v", err)
	}
	t.Cleanup(func() { stopAtCleanup(t, v.Process().Stop) })
	info, err := vaultInfo(v, h.ca.CertPath())
	if err != nil {
		t.Fatalf("starting Vault: %v", err)
	}
	return &info, v
}

// Admin returns a client with the root token.
func (v *VaultServer) Admin(t testing.TB) *api.Client {
	t.Helper()
	client, err := vault.NewClient(v.Address, v.CA)
	if err != nil {
		t.Fatalf("making a Vault client: %v", err)
	}
	client.SetClientTimeout(20 * time.Second)
	client.SetToken(v.RootToken)
	return client
}

func (h *Host) startVault(ctx context.Context) (any, error) {
	v, err := h.newVault(ctx, "shared")
	if err != nil {
		return nil, err
	}
	h.onClose(v.Process().Stop)
	return vaultInfo(v, h.ca.CertPath())
}

func vaultInfo(v *devstack.VaultServer, ca string) (VaultServer, error) {
	unseal, err := v.UnsealKey()
	return VaultServer{Address: v.Address(), CA: ca, RootToken: v.RootToken(), UnsealKey: unseal}, err
}

func (h *Host) newVault(ctx context.Context, name string) (*devstack.VaultServer, error) {
	built, err := h.builder.Build(ctx, tools.Vault)
	if err != nil {
		return nil, err
	}
	ports, err := h.ports(2)
	if err != nil {
		return nil, err
	}
	name = "vault-" + name
	return devstack.StartVault(ctx, devstack.VaultConfig{
		Bin: built[tools.Vault], Dir: filepath.Join(h.dir, name), Log: h.log(name),
		Port: ports[0], ClusterPort: ports[1], Server: h.server, CA: h.ca.CertPath(),
	})
}
