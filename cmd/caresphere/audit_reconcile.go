package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/audit/reconcile"
	"github.com/caresphere/caresphere/internal/devstack"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/tenants"
)

// errUnmatched ends the command with status 1; what is unmatched was printed before.
var errUnmatched = errors.New("the database's record and the audit trail do not agree")

// reconcileFlags are what the user asked for.
type reconcileFlags struct {
	tenant, from, to, record string
	all, asJSON              bool
	since                    time.Duration
}

func auditReconcileCmd() *cobra.Command {
	var f reconcileFlags
	c := &cobra.Command{
		Use:   "reconcile",
		Short: "Compare the database's own record of who reached clinical tables with the audit trail",
		Long: `Compare the database's own record of who reached clinical tables with the audit trail.

The database server logs every statement of superusers and of the tables' owner, and
every statement of a tenant's role on a clinical table leaves a mark with its
transaction's number. A transaction needs its audit entry; a statement of anybody
else on a tenant's tables is unmatched, unless it is word for word a migration's.
Reported too: lines missing from the record, settings of it that changed, superusers'
sessions without a statement, roles that are not recorded, restarts of the server.
It does not see who reads the server's files or a copy of them.

It runs where the server's log can be read. Without these variables it takes the
local stack of CARESPHERE_STATE and CARESPHERE_PORT_BASE:
  CARESPHERE_CELL_SEALER_DSN  the cell's database, as cell_sealer
  CARESPHERE_CONTROL_DSN      the control database, as provisioner, for --tenant SLUG

Exit status: 0 all matched, 1 something unmatched or the record not whole, 2 wrong use.`,
		Example: `  caresphere audit reconcile --all --since 1h
  caresphere audit reconcile --tenant sunrise-gardens --from 2026-11-01T00:00:00Z --to 2026-11-02T00:00:00Z --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, pair := range [][2]string{{"tenant", "all"}, {"since", "from"}} {
				if cmd.Flags().Changed(pair[0]) && cmd.Flags().Changed(pair[1]) {
					return usageError{fmt.Errorf("--%s and --%s exclude each other", pair[0], pair[1])}
				}
			}
			report, err := runReconcile(cmd.Context(), f)
			if err != nil {
				return err
			}
			if err := printReconciled(cmd.OutOrStdout(), report, f.asJSON); err != nil {
				return fmt.Errorf("writing the report: %w", err)
			}
			if !report.OK {
				return errUnmatched
			}
			return nil
		},
	}
	c.Flags().StringVar(&f.tenant, "tenant", "", "one tenant, by its `slug` or id")
	c.Flags().BoolVar(&f.all, "all", false, "all tenants of the cell (the default)")
	c.Flags().DurationVar(&f.since, "since", 24*time.Hour, "from this long ago until now")
	c.Flags().StringVar(&f.from, "from", "", "from this `time` on (RFC 3339), in place of --since")
	c.Flags().StringVar(&f.to, "to", "", "up to this `time` (RFC 3339); now if it is not given")
	c.Flags().StringVar(&f.record, "record", "", "the `folder` of the server's log, if not the local stack's")
	c.Flags().BoolVar(&f.asJSON, "json", false, "print the report as JSON")
	return c
}

// window reads the asked-for time.
func (f reconcileFlags) window() (from, to time.Time, err error) {
	if f.to != "" {
		if to, err = time.Parse(time.RFC3339, f.to); err != nil {
			return from, to, fmt.Errorf("--to: %w", err)
		}
	}
	if f.from != "" {
		if from, err = time.Parse(time.RFC3339, f.from); err != nil {
			return from, to, fmt.Errorf("--from: %w", err)
		}
		return from, to, nil
	}
	if f.since <= 0 {
		return from, to, errors.New("--since is a positive time, as 1h")
	}
	end := to
	if end.IsZero() {
		end = time.Now()
	}
	return end.Add(-f.since), to, nil
}

func runReconcile(ctx context.Context, f reconcileFlags) (reconcile.Report, error) {
	var none reconcile.Report
	from, to, err := f.window()
	if err != nil {
		return none, usageError{err}
	}
	layout, err := devstack.LayoutFromEnv()
	if err != nil {
		return none, usageError{err}
	}
	if f.record == "" {
		if f.record, err = layout.PostgresRecord(); err != nil {
			return none, err
		}
	}
	tenant, err := reconcileTenant(ctx, layout, f.tenant)
	if err != nil {
		return none, err
	}
	dsn, err := stackDSN(layout, "CARESPHERE_CELL_SEALER_DSN", "cell_sealer")
	if err != nil {
		return none, usageError{err}
	}
	cell, err := pg.Open(ctx, dsn, pg.Options{ApplicationName: "caresphere-reconcile", MaxConns: 2, StatementTimeout: 2 * time.Minute})
	if err != nil {
		return none, fmt.Errorf("cell database: %w", err)
	}
	defer cell.Close()
	return reconcile.Run(ctx, reconcile.Options{Cell: cell, Dir: f.record, From: from, To: to, Tenant: tenant})
}

// reconcileTenant finds the id of a slug in the control database.
func reconcileTenant(ctx context.Context, layout devstack.Layout, name string) (tenants.ID, error) {
	if name == "" {
		return tenants.NilID, nil
	}
	if id, err := tenants.ParseID(name); err == nil {
		return id, nil
	}
	dsn, err := stackDSN(layout, "CARESPHERE_CONTROL_DSN", "provisioner")
	if err != nil {
		return tenants.NilID, usageError{err}
	}
	control, err := pg.Open(ctx, dsn, pg.Options{ApplicationName: "caresphere-reconcile", MaxConns: 1})
	if err != nil {
		return tenants.NilID, fmt.Errorf("control database: %w", err)
	}
	defer control.Close()
	place, err := store.New(control).IsolationPlace(ctx, name)
	if errors.Is(err, pgx.ErrNoRows) {
		return tenants.NilID, usageError{fmt.Errorf("there is no tenant %q", name)}
	}
	if err != nil {
		return tenants.NilID, fmt.Errorf("looking for tenant %q: %w", name, err)
	}
	return place.ID, nil
}

// stackDSN is the variable's, else the local stack's for the role.
func stackDSN(layout devstack.Layout, variable, role string) (string, error) {
	if dsn := os.Getenv(variable); dsn != "" {
		return dsn, nil
	}
	secret, err := os.ReadFile(layout.Path("secrets", "postgres-"+role))
	if err != nil {
		return "", fmt.Errorf("%s is not set and there is no local stack: %w", variable, err)
	}
	return devstack.PostgresDSN(layout.Port(devstack.PortPostgres), devstack.DatabaseOf(role), role, strings.TrimSpace(string(secret)), layout.CA()), nil
}

func printReconciled(w io.Writer, r reconcile.Report, asJSON bool) error {
	if asJSON {
		out := json.NewEncoder(w)
		out.SetIndent("", "  ")
		return out.Encode(r)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "database   %s, %d lines of its record\n", r.Database, r.Lines)
	fmt.Fprintf(&b, "time       %s to %s\n", r.From.Format(time.RFC3339), r.To.Format(time.RFC3339))
	for _, t := range r.Tenants {
		fmt.Fprintf(&b, "tenant     %s  %d transactions (%d statements): %d matched, %d refused, %d running; %d unmatched\n",
			t.ID, t.Transactions, t.Marks, t.Matched, t.Refused, t.Running, t.Unmatched)
	}
	for _, file := range slices.Sorted(maps.Keys(r.Declared)) {
		fmt.Fprintf(&b, "declared   %d statements of %s\n", r.Declared[file], file)
	}
	for _, n := range r.Notices {
		fmt.Fprintf(&b, "notice     %s %s\n", n.At.Format(time.RFC3339), n.What)
	}
	for _, g := range r.Gaps {
		fmt.Fprintf(&b, "GAP        %s %s\n", g.At.Format(time.RFC3339), g.What)
	}
	for _, u := range r.Unmatched {
		fmt.Fprintf(&b, "UNMATCHED  %s %s, process %d, %q from %s, database %s: %s", u.At.Format(time.RFC3339Nano), u.Role, u.PID, u.Application, u.From, u.Database, u.Why)
		if len(u.Tables) > 0 {
			fmt.Fprintf(&b, " (%s)", strings.Join(u.Tables, ", "))
		}
		if u.Statement != "" {
			fmt.Fprintf(&b, "\n           %s", u.Statement)
		}
		b.WriteByte('\n')
	}
	if more := r.Found - len(r.Unmatched); more > 0 {
		fmt.Fprintf(&b, "           and %d more\n", more)
	}
	if r.OK {
		b.WriteString("MATCHED    every reach for clinical tables has its audit entry\n")
	} else {
		fmt.Fprintf(&b, "NOT MATCHED: %d unmatched, %d gaps\n", r.Found, len(r.Gaps))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
