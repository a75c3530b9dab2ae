package main

import (
	"encoding/json"
	"fmt"
	"math"
	"time"

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

// migrated is a line of progress, for machines.
type migrated struct {
	Tenant  string  `json:"tenant,omitempty"`
	Done    int     `json:"done"`
	Total   int     `json:"total"`
	Rate    float64 `json:"per_second"`
	Problem string  `json:"problem,omitempty"`
}

func migrateTenantsCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "tenants",
		Short: "Bring the schemas of all tenants of a cell to the current version",
		Long: `Bring the schemas of all tenants of a cell to the current version: one alone
first, whose failure stops everything, then four at a time. A busy table is waited
for without holding up its readers. It may be ended and run again: who is current
is found out first, fifty tenants at a time, and not touched. With --json, a line
for each tenant says how far it is and how many are done a second.

CARESPHERE_CONTROL_DSN connects as provisioner to the control database,
CARESPHERE_CELL_OWNER_DSN as cell_owner to the cell CARESPHERE_CELL_ID.`,
		Example: `  caresphere migrate tenants
  caresphere migrate tenants --json | tail -1`,
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
			owner, err := pg.OpenMigrator(cmd.Context(), s.Cell, provisioning.MigrationsAtOnce)
			if err != nil {
				return err
			}
			defer owner.Close()
			fan := provisioning.Fanout{Control: control, Cell: owner, CellID: s.CellID}
			begun, current := time.Now(), 0
			return fan.MigrateTenants(cmd.Context(), func(p provisioning.Progress) {
				if p.Tenant.IsZero() {
					current = p.Done
				}
				rate := float64(p.Done-current) / time.Since(begun).Seconds()
				switch {
				case asJSON:
					line := migrated{Tenant: p.Tenant.String(), Done: p.Done, Total: p.Total, Rate: math.Round(rate*10) / 10}
					if p.Tenant.IsZero() {
						line.Tenant = ""
					}
					if p.Err != nil {
						line.Problem = p.Err.Error()
					}
					_ = json.NewEncoder(cmd.OutOrStdout()).Encode(line)
				case p.Err != nil:
					fmt.Fprintln(cmd.ErrOrStderr(), p.Err)
				case p.Tenant.IsZero():
					fmt.Fprintf(cmd.OutOrStdout(), "%d of %d are current already\n", p.Done, p.Total)
				default:
					fmt.Fprintf(cmd.OutOrStdout(), "%s is current (%d of %d, %.1f/s)\n", p.Tenant, p.Done, p.Total, rate)
				}
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object a line")
	return cmd
}
