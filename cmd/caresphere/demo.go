package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/caresphere/caresphere/internal/demo"
	"github.com/caresphere/caresphere/internal/devstack"
)

// errPromise ends the command with status 1; the step at fault was printed before.
var errPromise = errors.New("a step was not as promised")

func demoCmd() *cobra.Command {
	var (
		asJSON           bool
		keep, origin, ca string
		operator         string
		isolationPub     string
		limit            time.Duration
	)
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Drive the main job of a running stack through its public interfaces",
		Long: `Drive the main job against a running stack: two organizations sign up, sign their
agreements and are provisioned, their people enrol a second factor, write and read
protected health information, are refused what is not theirs, one agreement is
terminated, and the evidence verifies offline.

The stack is the one of CARESPHERE_STATE and CARESPHERE_PORT_BASE, unless flags say otherwise.
Exit status: 0 every step as promised, 1 not, 2 wrong use.`,
		Example: `  caresphere demo
  caresphere demo --json | jq '.steps[] | select(.ok | not)'
  caresphere demo --keep /tmp/proof && caresphere audit verify /tmp/proof/audit.jsonl --key /tmp/proof/audit.pub`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			layout, err := devstack.LayoutFromEnv()
			if err != nil {
				return usageError{err}
			}
			o := demo.Options{Origin: layout.URL(devstack.PortPublic), Keep: keep}
			if origin != "" {
				o.Origin = origin
			}
			if ca == "" {
				ca = layout.CA()
			}
			if o.Roots, err = rootsFrom(ca); err != nil {
				return usageError{fmt.Errorf("%w (is the stack of %s running? `make run` starts it)", err, layout.State)}
			}
			if o.Operator, err = operatorOf(layout, operator); err != nil {
				return usageError{err}
			}
			if isolationPub == "" {
				isolationPub = layout.Path("keys", "isolation.pub")
			}
			key, err := os.ReadFile(isolationPub)
			if err != nil {
				return usageError{fmt.Errorf("reading the isolation reports' public key: %w", err)}
			}
			o.IsolationKey = string(key)
			if !asJSON {
				o.Out = cmd.OutOrStdout()
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), limit)
			defer cancel()
			report, err := demo.Run(ctx, o)
			if err != nil {
				return err
			}
			return printDemo(cmd.OutOrStdout(), report, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	cmd.Flags().StringVar(&keep, "keep", "", "leave audit.jsonl, audit.csv, audit.pub, baa.bundle, isolation.json and isolation.pub in this `directory`")
	cmd.Flags().StringVar(&origin, "origin", "", "the public `origin`, if not the local stack's")
	cmd.Flags().StringVar(&ca, "ca", "", "the certificate authority's PEM `file`, if not the local stack's")
	cmd.Flags().StringVar(&operator, "operator", "", "the operator's credentials `file`, if not the local stack's")
	cmd.Flags().StringVar(&isolationPub, "isolation-key", "", "the isolation reports' public key `file`, if not the local stack's")
	cmd.Flags().DurationVar(&limit, "timeout", 3*time.Minute, "give up after this long")
	return cmd
}

// operatorOf reads an operator's credentials from a file, or without one those of the
// local stack, whose own file may be from a run at another port base.
func operatorOf(l devstack.Layout, file string) (demo.Operator, error) {
	if file != "" {
		return demo.ReadOperator(file)
	}
	o, err := demo.ReadOperator(l.OperatorFile())
	o.Origin = l.URL(devstack.PortOperators)
	return o, err
}

func rootsFrom(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate authority: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", path)
	}
	return roots, nil
}

func printDemo(w io.Writer, r demo.Report, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		if err := enc.Encode(r); err != nil {
			return fmt.Errorf("writing the report: %w", err)
		}
	} else if r.OK {
		fmt.Fprintf(w, "every step as promised, %.1f s\n", float64(r.Ms)/1000)
	}
	if !r.OK {
		return errPromise
	}
	return nil
}
