package provisioning_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/provisioning"
	"github.com/caresphere/caresphere/internal/blob"
	"github.com/caresphere/caresphere/internal/kms"
	"github.com/caresphere/caresphere/internal/kms/vault"
	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/internal/testkit"
)

// TestProvisioningWithVaultAndS3 provisions with the provisioner's own rights in
// Vault, and a worker with its own logs in with what came out.
func TestProvisioningWithVaultAndS3(t *testing.T) {
	ctx, b, dir := context.Background(), setup(t), t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	server, cell := testkit.Vault(t), "provisioning"
	made, err := vault.Setup(ctx, server.Admin(t), cell)
	require.NoError(t, err)
	as := func(role string) kms.KMS {
		k, err := kms.Open(ctx, kms.Config{URL: "vault:" + server.Address, CellID: cell, CAFile: server.CA,
			RoleIDFile: write(role+".role", made[role].RoleID), SecretIDFile: write(role+".secret", made[role].SecretID)})
		require.NoError(t, err)
		t.Cleanup(func() { _ = k.Close() })
		return k
	}
	s3 := testkit.S3(t)
	objects, err := blob.Open(blob.Config{URL: s3.URL(), CAFile: s3.CA,
		AccessKeyFile: write("access", s3.AccessKey), SecretKeyFile: write("secret", s3.SecretKey)})
	require.NoError(t, err)

	c := b.config
	c.Keys, c.Rewrapper, c.Objects = as(vault.RoleProvisioner), as(vault.RoleRewrapper), objects
	b.keys = as(vault.RoleWorker)
	b.p, err = provisioning.New(c)
	require.NoError(t, err)
	o := b.provisioned(t)
	marker, err := objects.Get(ctx, provisioning.Prefix(o.id)+blob.Marker)
	require.NoError(t, err)
	require.NoError(t, marker.Close())

	// What the provisioner sealed it cannot open.
	row, err := tenantdb.LoadCredential(ctx, b.config.Cell, o.id)
	require.NoError(t, err)
	unwrapper, ok := c.Keys.(tenantdb.Unwrapper)
	require.True(t, ok)
	_, _, err = tenantdb.OpenCredential(ctx, unwrapper, row)
	require.ErrorIs(t, err, kms.ErrAuth)
	o.login(t)

	b.exec(t, `UPDATE organization SET gate_mode = 'closed', gate_version = gate_version + 1 WHERE id = $1`, o.id)
	require.NoError(t, b.p.ApplyGate(ctx, o.id))
	_, _, err = b.login(ctx, o.id)
	require.ErrorIs(t, err, kms.ErrKeyDisabled)
	b.exec(t, `UPDATE organization SET gate_mode = 'open', gate_version = gate_version + 1 WHERE id = $1`, o.id)
	require.NoError(t, b.p.ApplyGate(ctx, o.id))
	o.login(t)
}
