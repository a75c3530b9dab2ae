package provisioning_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/provisioning"
	"github.com/caresphere/caresphere/internal/kms"
	"github.com/caresphere/caresphere/internal/kms/vault"
	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/internal/testkit"
)

// TestAKeyInVaultIsRotatedUnderTheRewrappersRole rotates in a real Vault with each
// process's own rights: the rewrapper's token rotates and unwraps nothing, the
// provisioner's does neither, and the worker's only unwraps.
func TestAKeyInVaultIsRotatedUnderTheRewrappersRole(t *testing.T) {
	ctx, b, dir := context.Background(), setup(t), t.TempDir()
	server, cell := testkit.Vault(t), "rotating"
	made, err := vault.Setup(ctx, server.Admin(t), cell)
	require.NoError(t, err)
	as := func(role string) kms.KMS {
		c := kms.Config{URL: "vault:" + server.Address, CellID: cell, CAFile: server.CA,
			RoleIDFile: filepath.Join(dir, role+".role"), SecretIDFile: filepath.Join(dir, role+".secret")}
		require.NoError(t, os.WriteFile(c.RoleIDFile, []byte(made[role].RoleID), 0o600))
		require.NoError(t, os.WriteFile(c.SecretIDFile, []byte(made[role].SecretID), 0o600))
		k, err := kms.Open(ctx, c)
		require.NoError(t, err)
		t.Cleanup(func() { _ = k.Close() })
		return k
	}
	provisioner, rewrapper, worker := as(vault.RoleProvisioner), as(vault.RoleRewrapper), as(vault.RoleWorker)
	b.keys = worker
	b.config.Keys, b.config.Rewrapper, b.config.LeaseLife = provisioner, rewrapper, 12*time.Second
	b.p, err = provisioning.New(b.config)
	require.NoError(t, err)
	o := b.provisioned(t)
	records := b.worker().Seal(t, o.id, 2)
	key := kms.KeyName(o.id)
	old, err := tenantdb.LoadCredential(ctx, b.cellAdmin, o.id)
	require.NoError(t, err)
	unwrap := func(k kms.KMS, row tenantdb.Row) error {
		_, err := k.Unwrap(ctx, key, tenantdb.Purpose, row.DataKeyID, row.WrappedKey)
		return err
	}

	// What would let the provisioner, or whoever has its token, rotate is refused.
	_, err = provisioner.Rotate(ctx, key)
	require.ErrorIs(t, err, kms.ErrAuth)
	require.ErrorIs(t, provisioner.Retire(ctx, key, 1), kms.ErrAuth)
	_, err = worker.Rotate(ctx, key)
	require.ErrorIs(t, err, kms.ErrAuth)

	b.asked(t, o.id)
	require.NoError(t, rotated(ctx, b.impatient(t), o.id), "and the rewrapper's does")
	require.NoError(t, b.worker().Turned(ctx, o.id, 2, records))

	fresh, err := tenantdb.LoadCredential(ctx, b.cellAdmin, o.id)
	require.NoError(t, err)
	require.NoError(t, unwrap(worker, fresh), "the worker unwraps the new wrap")
	require.ErrorIs(t, unwrap(worker, old), kms.ErrVersionRetired, "and the old one is retired for it too")
	require.ErrorIs(t, unwrap(rewrapper, fresh), kms.ErrAuth, "the rewrapper unwraps nothing")
	require.ErrorIs(t, unwrap(provisioner, fresh), kms.ErrAuth)
	_, _, err = rewrapper.Rewrap(ctx, key, tenantdb.Purpose, fresh.DataKeyID, fresh.WrappedKey)
	require.NoError(t, err, "it rewraps what it cannot read")
	_, err = rewrapper.NewDataKey(ctx, key, tenantdb.Purpose, fresh.DataKeyID)
	require.ErrorIs(t, err, kms.ErrAuth, "it makes no data key, for that would show one")
	require.ErrorIs(t, rewrapper.Shred(ctx, key), kms.ErrAuth)
	require.ErrorIs(t, rewrapper.Disable(ctx, key), kms.ErrAuth)
}
