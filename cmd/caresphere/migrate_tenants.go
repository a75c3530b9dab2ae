package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/caresphere/caresphere/controlplane/provisioning"
	"github.com/caresphere/caresphere/internal/config"
	"github.com/caresphere/caresphere/internal/pg"
)

type migrateTenantsSettings struct {
	Control string `env:"CARESPHERE_CONTROL_DSN" required:"true"`
	Cell    string `env:"CARESPHERE_CELL_OWNER_DSN" required:"true"`
	CellID  string `env:"CARESPHERE_CELL_ID" required:"true"`
}

func migrateTenantsCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "tenants",
		Short: "Bring the schemas of all tenants of a cell to the current version",
		Long: `Bring the schemas of all tenants of a cell to the current version: one alone
first, whose failure stops everything, then four at a time. A busy table is waited
for without holding up its readers. It may be ended and run again.

CARESPHERE_CONTROL_DSN connects as provisioner to the control database,
CARESPHERE_CELL_OWNER_DSN as cell_owner to the cell CARESPHERE_CELL_ID.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := config.Load[migrateTenantsSettings]()
			if err != nil {
				return err
			}
			control, err := pg.Open(cmd.Context(), s.Control, pg.Options{ApplicationName: "caresphere-migrate", MaxConns: 2})
			if err != nil {
				return err
			}
			defer control.Close()
			fan := provisioning.Fanout{Control: control, CellDSN: s.Cell, CellID: s.CellID}
			return fan.MigrateTenants(cmd.Context(), func(p provisioning.Progress) {
				if p.Err != nil {
					fmt.Fprintln(cmd.ErrOrStderr(), p.Err)
					return
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s is current (%d of %d)\n", p.Tenant, p.Done, p.Total)
			})
		},
	}
}
