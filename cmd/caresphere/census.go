package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/caresphere/caresphere/controlplane/census"
	"github.com/caresphere/caresphere/internal/blob"
	"github.com/caresphere/caresphere/internal/config"
	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/internal/identity"
	"github.com/caresphere/caresphere/internal/kms"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/routes"
)

// What ends the command with status 1; what is wrong was printed before.
var errUnaccounted = errors.New("not everything is accounted for")

type censusSettings struct {
	Control string `env:"CARESPHERE_CONTROL_DSN" required:"true"`
	Cell    string `env:"CARESPHERE_CELL_OWNER_DSN" required:"true"`
	CellID  string `env:"CARESPHERE_CELL_ID" required:"true"`
	KMS     kms.Config
	Blob    blob.Config
	// Kratos is the admin address of the customers' identity server; CA verifies it.
	Kratos string `env:"CARESPHERE_KRATOS_ADMIN_URL"`
	CA     string `env:"CARESPHERE_TLS_CA"`
	// ControlPlane hands out the route table; RoutePub verifies it, Cert and Key are shown to it.
	ControlPlane string `env:"CARESPHERE_CONTROLPLANE_URL"`
	RoutePub     string `env:"CARESPHERE_ROUTE_PUB"`
	Cert         string `env:"CARESPHERE_TLS_CERT"`
	Key          string `env:"CARESPHERE_TLS_KEY"`
}

func censusCmd() *cobra.Command {
	var (
		asJSON bool
		limit  time.Duration
		settle time.Duration
	)
	cmd := &cobra.Command{
		Use:   "census",
		Short: "Account for every schema, role, credential, key, prefix, identity and route",
		Long: `Account for everything that a cell holds of organizations: schemas, login roles,
credentials, keys and storage prefixes. What belongs to nobody and what a live
organization lacks is printed; nothing is changed.

It reads the environment of the provisioner: CARESPHERE_CONTROL_DSN,
CARESPHERE_CELL_OWNER_DSN, CARESPHERE_CELL_ID, CARESPHERE_KMS, CARESPHERE_BLOB.
With CARESPHERE_KRATOS_ADMIN_URL and CARESPHERE_TLS_CA it also compares the customers'
identities with the accounts; one that a sign-up made less than --settle ago may have
none yet. With CARESPHERE_CONTROLPLANE_URL, CARESPHERE_ROUTE_PUB and the provisioner's
certificate it holds the route table against what each organization's state, agreement
and key allow.

Exit status: 0 all accounted for, 1 not, 2 wrong use.`,
		Example: "  caresphere census\n  caresphere census --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := config.Load[censusSettings]()
			if err != nil {
				return usageError{err}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), limit)
			defer cancel()
			report, err := takeCensus(ctx, s, settle)
			if err != nil {
				return err
			}
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				err = e.Encode(report)
			} else {
				printCensus(cmd.OutOrStdout(), report)
			}
			if err == nil && len(report.Findings) > 0 {
				err = errUnaccounted
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	cmd.Flags().DurationVar(&settle, "settle", census.DefaultSettle, "how old an identity without an account must be to count")
	cmd.Flags().DurationVar(&limit, "timeout", 5*time.Minute, "give up after this long")
	return cmd
}

func takeCensus(ctx context.Context, s censusSettings, settle time.Duration) (census.Report, error) {
	o := pg.Options{ApplicationName: "caresphere-census", MaxConns: 1}
	control, err := pg.Open(ctx, s.Control, o)
	if err != nil {
		return census.Report{}, fmt.Errorf("control database: %w", err)
	}
	defer control.Close()
	cell, err := pg.Open(ctx, s.Cell, o)
	if err != nil {
		return census.Report{}, fmt.Errorf("cell database: %w", err)
	}
	defer cell.Close()
	keys, err := kms.Open(ctx, s.KMS)
	if err != nil {
		return census.Report{}, err
	}
	defer func() { _ = keys.Close() }()
	objects, err := blob.Open(s.Blob)
	if err != nil {
		return census.Report{}, err
	}
	c := census.Config{Control: control, Cell: cell, CellID: s.CellID, Keys: keys, Objects: objects, Settle: settle}
	if s.Kratos != "" {
		conf, err := httpx.ClientTLS(s.CA, "", "")
		if err != nil {
			return census.Report{}, err
		}
		// Of what a census asks, the admin API answers all.
		people, err := identity.Open(identity.Config{PublicURL: s.Kratos, AdminURL: s.Kratos, TLS: conf})
		if err != nil {
			return census.Report{}, err
		}
		c.Identities = people
	}
	if s.ControlPlane != "" {
		conf, err := httpx.ClientTLS(s.CA, s.Cert, s.Key, "controlplane")
		if err != nil {
			return census.Report{}, err
		}
		if c.Routes, err = routes.Reader(s.ControlPlane, s.RoutePub, conf); err != nil {
			return census.Report{}, err
		}
	}
	return census.Take(ctx, c)
}

// lookedAtWith names the variable without which a kind is passed over.
var lookedAtWith = map[census.Kind]string{census.Identity: "CARESPHERE_KRATOS_ADMIN_URL", census.Route: "CARESPHERE_CONTROLPLANE_URL"}

func printCensus(w io.Writer, r census.Report) {
	fmt.Fprintf(w, "cell %s: %d organizations", r.Cell, r.Organizations)
	for _, kind := range slices.Sorted(maps.Keys(r.Things)) {
		fmt.Fprintf(w, ", %s: %d", kind, r.Things[kind])
	}
	fmt.Fprintln(w)
	for _, kind := range r.Skipped {
		fmt.Fprintf(w, "NOT LOOKED AT %s: %s is not set\n", kind, lookedAtWith[kind])
	}
	for _, f := range r.Findings {
		fmt.Fprintln(w, "UNACCOUNTED", f)
	}
	if len(r.Findings) == 0 {
		fmt.Fprintln(w, "ACCOUNTED FOR: each belongs to an organization, and none lacks any")
	}
}
