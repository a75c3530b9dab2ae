package main

import (
	"context"
	"fmt"
	"io"

	"github.com/caresphere/caresphere/controlplane/provisioning"
	"github.com/caresphere/caresphere/internal/devstack"
	"github.com/caresphere/caresphere/internal/pg"
)

// bringTenants brings the schemas of the tenants that an earlier release left in the
// state folder to the current version, as `caresphere migrate tenants` does for a
// cell: a worker refuses a tenant whose schema is older than it needs.
func bringTenants(ctx context.Context, stack *devstack.Stack, out io.Writer) error {
	control, err := pg.Open(ctx, stack.DSN(devstack.ControlDatabase, "provisioner"), pg.Options{ApplicationName: "caresphere-migrate", MaxConns: 2})
	if err != nil {
		return err
	}
	defer control.Close()
	owner, err := pg.OpenMigrator(ctx, stack.DSN(devstack.CellDatabase, "cell_owner"), provisioning.MigrationsAtOnce)
	if err != nil {
		return err
	}
	defer owner.Close()
	fan := provisioning.Fanout{Control: control, Cell: owner, CellID: devstack.CellID}
	current := 0
	if err := fan.MigrateTenants(ctx, func(p provisioning.Progress) { current = p.Done }); err != nil {
		return fmt.Errorf("migrating tenants: %w", err)
	}
	if current > 0 {
		fmt.Fprintf(out, "tenants      current (%d)\n", current)
	}
	return nil
}
