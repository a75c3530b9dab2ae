package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/caresphere/caresphere/internal/config"
	"github.com/caresphere/caresphere/internal/schema"
)

type migrateSettings struct {
	Control string `env:"CARESPHERE_CONTROL_OWNER_DSN"`
	Cell    string `env:"CARESPHERE_CELL_OWNER_DSN"`
}

func migrateCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Bring the control database and a cell's database to the current schema",
		Long: `Bring the control database and a cell's database to the current schema.

CARESPHERE_CONTROL_OWNER_DSN connects as platform_owner to the control database,
CARESPHERE_CELL_OWNER_DSN as cell_owner to a cell's. Set one or both. It may be
repeated: what is current stays as it is. For tenants' schemas see migrate tenants.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			settings, err := config.Load[migrateSettings]()
			if err != nil {
				return err
			}
			if settings.Control == "" && settings.Cell == "" {
				return errors.New("set CARESPHERE_CONTROL_OWNER_DSN, CARESPHERE_CELL_OWNER_DSN, or both")
			}
			if settings.Control != "" {
				n, err := schema.Control(cmd.Context(), settings.Control)
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "control database: %d migrations applied\n", n)
			}
			if settings.Cell != "" {
				n, err := schema.Cell(cmd.Context(), settings.Cell)
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "cell database: %d migrations applied\n", n)
			}
			return nil
		},
	}
	cmd.AddCommand(migrateTenantsCmd())
	return cmd
}
