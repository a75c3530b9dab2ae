package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/internal/client"
	"github.com/caresphere/caresphere/internal/devstack"
	"github.com/caresphere/caresphere/internal/isolation"
)

// What ends the commands with status 1; what is wrong was printed before.
var (
	errNotProven            = errors.New("isolation is not proven")
	errNotMended            = errors.New("there are differences")
	errIsolationNotVerified = errors.New("the report does not verify")
)

func isolationCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "isolation", Short: "Prove that tenants are apart, mend what drifted, check reports"}
	cmd.AddCommand(isolationProveCmd(), isolationRepairCmd(), isolationVerifyCmd())
	return cmd
}

// operatorFlags say which operators' origin to ask, and as whom.
type operatorFlags struct {
	origin, ca, operator, tokenFile string
	limit                           time.Duration
}

func (f *operatorFlags) on(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.origin, "origin", "", "the operators' `origin`, if not the local stack's")
	cmd.Flags().StringVar(&f.ca, "ca", "", "the certificate authority's PEM `file`, if not the local stack's")
	cmd.Flags().StringVar(&f.operator, "operator", "", "the operator's credentials `file`, if not the local stack's")
	cmd.Flags().StringVar(&f.tokenFile, "token-file", "", "a `file` with an operator's session token, instead of signing in")
	cmd.Flags().DurationVar(&f.limit, "timeout", 20*time.Minute, "give up after this long")
}

// signIn returns a client with an operator's session.
func (f *operatorFlags) signIn(ctx context.Context) (*client.Client, error) {
	layout, err := devstack.LayoutFromEnv()
	if err != nil {
		return nil, usageError{err}
	}
	if f.ca == "" {
		f.ca = layout.CA()
	}
	roots, err := rootsFrom(f.ca)
	if err != nil {
		return nil, usageError{fmt.Errorf("%w (is the stack of %s running? `make run` starts it)", err, layout.State)}
	}
	if f.tokenFile != "" {
		token, err := os.ReadFile(f.tokenFile)
		if err != nil {
			return nil, usageError{fmt.Errorf("reading the token: %w", err)}
		}
		if f.origin == "" {
			f.origin = layout.URL(devstack.PortOperators)
		}
		return client.New(f.origin, client.Options{Roots: roots, Token: oneWord(token)}), nil
	}
	o, err := operatorOf(layout, f.operator)
	if err != nil {
		return nil, usageError{err}
	}
	if f.origin == "" {
		f.origin = o.Origin
	}
	c := client.New(f.origin, client.Options{Roots: roots})
	if err := c.SignIn(ctx, o.Email, o.Password, o.TOTPSecret); err != nil {
		return nil, fmt.Errorf("signing in as an operator: %w", err)
	}
	return c, nil
}

func oneWord(b []byte) string {
	var word string
	_, _ = fmt.Sscan(string(b), &word)
	return word
}

func isolationProveCmd() *cobra.Command {
	var (
		flags             operatorFlags
		all, asJSON       bool
		tenant, cell, out string
	)
	cmd := &cobra.Command{
		Use:   "prove --all | --tenant SLUG",
		Short: "Prove that tenants are apart: every refusal beside a success",
		Long: `Ask the provisioner for a proof that tenants are apart, wait for it and show it:
route, sessions, SQL as each tenant's login role against the others, keys, storage,
and the catalog compared with what the migrations make. A tenant that fails is
quarantined at once. The report is signed; isolation verify checks it offline.

Exit status: 0 all proven, 1 not, 2 wrong use.`,
		Example: "  caresphere isolation prove --all\n  caresphere isolation prove --tenant willow --out isolation.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if all == (tenant != "") {
				return usageError{errors.New("say --all or --tenant SLUG")}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), flags.limit)
			defer cancel()
			c, err := flags.signIn(ctx)
			if err != nil {
				return err
			}
			defer c.Close()
			file, err := c.ProveIsolation(ctx, tenant, cell)
			if err != nil {
				return err
			}
			if out != "" {
				if err := os.WriteFile(out, file, 0o600); err != nil {
					return fmt.Errorf("writing the report: %w", err)
				}
			}
			var signed struct {
				Report isolation.Report `json:"report"`
			}
			if err := json.Unmarshal(file, &signed); err != nil {
				return fmt.Errorf("reading the report: %w", err)
			}
			if asJSON {
				_, err = cmd.OutOrStdout().Write(file)
			} else {
				err = printIsolation(cmd.OutOrStdout(), signed.Report)
			}
			if err == nil && !signed.Report.OK {
				err = errNotProven
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "prove all tenants of the cell")
	cmd.Flags().StringVar(&tenant, "tenant", "", "prove one tenant, by its `short name`")
	cmd.Flags().StringVar(&cell, "cell", "", "the `cell`, if there are several")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the signed report")
	cmd.Flags().StringVar(&out, "out", "", "leave the signed report in this `file`")
	flags.on(cmd)
	return cmd
}

func printIsolation(w io.Writer, r isolation.Report) error {
	for _, t := range r.Tenants {
		refused, allowed := 0, 0
		for _, l := range t.Layers {
			refused, allowed = refused+l.Refused, allowed+l.Allowed
		}
		fmt.Fprintf(w, "%-9s %s (%s, gate %s): %d refused, %d allowed or as declared, against %d others\n", t.Verdict, t.Slug, t.State, t.Gate, refused, allowed, len(t.Peers))
		for _, f := range t.Findings {
			fmt.Fprintln(w, "  FOUND    ", f)
		}
		for _, u := range t.Unproven {
			fmt.Fprintln(w, "  UNPROVEN ", u)
		}
	}
	how := "every pair of tenants was tried"
	if !r.Pairs.All {
		how = fmt.Sprintf("each tenant was tried against %d of %d others: round %d of %d that try all", r.Pairs.PerTenant, r.Pairs.Tenants-1, r.Pairs.Round, r.Pairs.Rounds)
	}
	_, err := fmt.Fprintf(w, "%d tenants of cell %s, %s; compared with %d facts of version %d, in %.0f s\n", len(r.Tenants), r.Cell, how,
		r.Reference.Facts, r.Reference.TenantVersion, r.FinishedAt.Sub(r.StartedAt).Seconds())
	return err
}

func isolationRepairCmd() *cobra.Command {
	var (
		flags         operatorFlags
		tenant        string
		apply, asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "repair --tenant SLUG [--apply]",
		Short: "Show how a tenant differs from what is declared, and mend it",
		Long: `Show how a tenant's schema, role, key and storage differ from what is declared and
the statements that mend it; with --apply run them and prove the tenant again. A
repair never opens a gate: once the proof is green, an operator resumes the
organization. What only a superuser may run is printed for one.

Exit status: 0 nothing differs (any more), 1 something does, 2 wrong use.`,
		Example: "  caresphere isolation repair --tenant willow\n  caresphere isolation repair --tenant willow --apply",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if tenant == "" {
				return usageError{errors.New("name one tenant: --tenant SLUG")}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), flags.limit)
			defer cancel()
			c, err := flags.signIn(ctx)
			if err != nil {
				return err
			}
			defer c.Close()
			r, err := c.RepairIsolation(ctx, tenant, apply)
			if err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				err = enc.Encode(r)
			} else {
				printRepair(cmd.OutOrStdout(), r)
			}
			if err == nil && !r.OK {
				err = errNotMended
			}
			return err
		},
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "the tenant's `short name`")
	cmd.Flags().BoolVar(&apply, "apply", false, "mend it")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	flags.on(cmd)
	return cmd
}

func printRepair(w io.Writer, r client.IsolationRepair) {
	list := func(head string, items []client.IsolationFinding) {
		for _, f := range items {
			fmt.Fprintln(w, head, isolation.Finding(f))
		}
	}
	list("DIFFERS ", r.Result.Differences)
	head := "would run "
	if r.Result.Applied {
		head = "ran       "
	}
	for _, s := range r.Result.Statements {
		fmt.Fprintln(w, head, s)
	}
	for _, s := range r.Result.Steps {
		fmt.Fprintln(w, head, s)
	}
	for _, s := range r.Result.Refused {
		fmt.Fprintln(w, "SUPERUSER ", s)
	}
	list("LEFT    ", r.Result.Left)
	switch {
	case r.Result.Proof != nil:
		fmt.Fprintln(w, "proof after it:", r.Result.Proof.Verdict)
		list("  FOUND  ", r.Result.Proof.Findings)
	case r.OK:
		fmt.Fprintln(w, "nothing differs from what is declared")
	}
}

func isolationVerifyCmd() *cobra.Command {
	var (
		key    string
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "Check a signed report of isolation offline, to the last byte",
		Long: `Check that a report is, to the last byte, what the platform's key signed, and show
what it says. Nothing but the two files is needed, and no network. Without --key the
local stack's public key is used.

Exit status: 0 verified, 1 not verified, 2 wrong use or unreadable file.`,
		Example: "  caresphere isolation verify isolation.json --key isolation.pub",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{errors.New("name one report")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := os.ReadFile(args[0])
			if err != nil {
				return usageError{err}
			}
			verifier, err := isolationKey(key)
			if err != nil {
				return usageError{err}
			}
			r, err := isolation.Verify(file, verifier)
			switch {
			case err != nil && asJSON:
				refused := struct {
					Verified bool   `json:"verified"`
					Reason   string `json:"reason"`
				}{Reason: err.Error()}
				return errors.Join(json.NewEncoder(cmd.OutOrStdout()).Encode(refused), errIsolationNotVerified)
			case err != nil:
				fmt.Fprintln(cmd.OutOrStdout(), "NOT VERIFIED:", err)
				return errIsolationNotVerified
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(r)
			}
			if err := printIsolation(cmd.OutOrStdout(), r); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "VERIFIED: proof %d of %s, signed by %s\n", r.Number, r.StartedAt.Format(time.RFC3339), isolation.KeyName)
			return err
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "the platform's public key: a `file` with it")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report, or why it is refused, as JSON")
	return cmd
}

func isolationKey(path string) (note.Verifier, error) {
	if path == "" {
		layout, err := devstack.LayoutFromEnv()
		if err != nil {
			return nil, err
		}
		path = layout.Path("keys", "isolation.pub")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the key: %w", err)
	}
	return isolation.ParseKey(string(text))
}
