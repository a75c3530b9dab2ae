package provisioning_test

import (
	"context"
	"io/fs"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/provisioning"
	"github.com/caresphere/caresphere/migrations"
	"github.com/caresphere/caresphere/tenants"
)

// withMigration returns this build's tenant migrations and one more.
func withMigration(t *testing.T, number, sql string) fs.FS {
	t.Helper()
	set := fstest.MapFS{"tenant/" + number + "_test.sql": {Data: []byte("-- +goose Up\n" + sql)}}
	require.NoError(t, fs.WalkDir(migrations.Tenant, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(migrations.Tenant, path)
		set[path] = &fstest.MapFile{Data: data}
		return err
	}))
	return set
}

func TestTenantsAreMigratedCanaryFirstAndAgainAfterAFailure(t *testing.T) {
	ctx, b := context.Background(), setup(t)
	var all []*tenant
	for range 5 {
		all = append(all, b.provisioned(t))
	}
	fan := provisioning.Fanout{Control: b.config.Control, Cell: b.config.Migrator, CellID: "main"}
	migrated := func() (n int) {
		for _, o := range all {
			if b.cellText(t, `SELECT count(*)::text FROM pg_attribute WHERE attrelid = to_regclass($1) AND attname = 'note'`, tenants.SchemaName(o.id)+".facility") == "1" {
				n++
			}
		}
		return n
	}

	// A migration that is wrong stops at the first tenant.
	fan.Migrations = withMigration(t, "9000", `ALTER TABLE nowhere ADD COLUMN note text;`)
	var seen []provisioning.Progress
	require.ErrorContains(t, fan.MigrateTenants(ctx, func(p provisioning.Progress) { seen = append(seen, p) }), "no other was touched")
	require.Len(t, seen, 1)
	require.Error(t, seen[0].Err)

	// One tenant's table is busy: the migration waits for it and the rest goes on.
	fan.Migrations = withMigration(t, "9000", `ALTER TABLE facility ADD COLUMN note text;`)
	busy, err := b.cellAdmin.Begin(ctx)
	require.NoError(t, err)
	_, err = busy.Exec(ctx, `SELECT 1 FROM `+tenants.SchemaName(all[4].id)+`.facility`)
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- fan.MigrateTenants(ctx, nil) }()
	require.Eventually(t, func() bool { return migrated() == 4 }, 20*time.Second, 20*time.Millisecond)
	select {
	case err := <-done:
		t.Fatalf("it gave the busy one up: %v", err)
	default:
	}
	require.NoError(t, busy.Rollback(ctx))
	require.NoError(t, <-done)
	require.Equal(t, 5, migrated())

	// Again: everything is done already, and each tenant is still isolated.
	var reports []provisioning.Progress
	require.NoError(t, fan.MigrateTenants(ctx, func(p provisioning.Progress) { reports = append(reports, p) }))
	require.Equal(t, []provisioning.Progress{{Done: 5, Total: 5}}, reports, "nobody was touched")
	// One that lacks an earlier migration is not current for having the last one.
	_, err = b.cellAdmin.Exec(ctx, `DELETE FROM `+tenants.SchemaName(all[2].id)+`.schema_version WHERE version_id = 4`)
	require.NoError(t, err)
	reports = nil
	_ = fan.MigrateTenants(ctx, func(p provisioning.Progress) { reports = append(reports, p) })
	require.Len(t, reports, 2)
	require.Equal(t, all[2].id, reports[1].Tenant)
	_, err = b.cellAdmin.Exec(ctx, `INSERT INTO `+tenants.SchemaName(all[2].id)+`.schema_version (version_id, is_applied) SELECT 4, true
		WHERE NOT EXISTS (SELECT FROM `+tenants.SchemaName(all[2].id)+`.schema_version WHERE version_id = 4)`)
	require.NoError(t, err)
	for _, o := range all {
		findings, err := provisioning.CheckIsolation(ctx, b.config.Cell, o.id)
		require.NoError(t, err)
		require.Empty(t, findings)
	}

	// Ended in the middle, it goes on where it stopped.
	fan.Migrations = withMigration(t, "9001", `SELECT 1;`)
	short, cancel := context.WithCancel(ctx)
	err = fan.MigrateTenants(short, func(provisioning.Progress) { cancel() })
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, fan.MigrateTenants(ctx, nil))
}
