package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/caresphere/caresphere/internal/audit/verify"
)

// errAuditNotVerified ends the command with status 1; what is wrong was printed before.
var errAuditNotVerified = errors.New("the export does not verify")

// auditCmd is `caresphere audit`: verify is what anyone can do with an export,
// with no account and no network; reconcile is for whoever runs a cell.
func auditCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "audit",
		Short: "Check exports of an audit trail, and its completeness",
	}
	c.AddCommand(auditVerifyCmd(), auditReconcileCmd())
	return c
}

func auditVerifyCmd() *cobra.Command {
	var keyFile, log, earlier string
	var asJSON bool
	c := &cobra.Command{
		Use:   "verify FILE",
		Short: "Verify an export of an audit trail with the public keys",
		Long: `Verify an export of an audit trail (JSON Lines or CSV) with the public keys.

It reads nothing but the two files. Every entry is held against the signed Merkle
tree, every line against the one before it and the whole against the exporter's
signature. What was changed, removed, inserted, repeated, moved or cut off is
named by its line, its leaf and its entry. An export alone cannot show that the
whole log was rewritten or cut back and signed again with the right key: keep an
earlier export, or a checkpoint of it, and give it with --extends.

Exit status: 0 verified, 1 not verified, 2 wrong usage or a file that cannot be read.`,
		Example: `  caresphere audit verify audit.jsonl --key audit.pub
  caresphere audit verify audit.csv --key audit.pub --json
  caresphere audit verify november.jsonl --key audit.pub --extends october.jsonl
  caresphere audit verify - --key audit.pub --log 0199c2f4-7c1e-7b7e-8a52-0d9a5c1f3e77 < audit.csv`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{errors.New("name one export, or - for standard input")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			report, err := verifyFile(cmd.InOrStdin(), args[0], keyFile, log, earlier)
			if err != nil {
				return usageError{err}
			}
			if asJSON {
				out := json.NewEncoder(cmd.OutOrStdout())
				out.SetIndent("", "  ")
				err = out.Encode(report)
			} else {
				err = printReport(cmd.OutOrStdout(), report)
			}
			if err != nil {
				return fmt.Errorf("writing the report: %w", err)
			}
			if !report.OK {
				return errAuditNotVerified
			}
			return nil
		},
	}
	c.Flags().StringVar(&keyFile, "key", "", "file with the public keys, one a line (required)")
	c.Flags().StringVar(&log, "log", "", "demand that the export is of this log: a tenant's id, or control")
	c.Flags().StringVar(&earlier, "extends", "", "demand that the log continues the one of this earlier export or checkpoint (`file`)")
	c.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	return c
}

func verifyFile(stdin io.Reader, name, keyFile, log, earlier string) (verify.Report, error) {
	if keyFile == "" {
		return verify.Report{}, errors.New("name the file with the public keys: --key PUB")
	}
	text, err := os.ReadFile(keyFile)
	if err != nil {
		return verify.Report{}, fmt.Errorf("reading the keys: %w", err)
	}
	keys, err := verify.ParseKeys(string(text))
	if err != nil {
		return verify.Report{}, fmt.Errorf("reading the keys in %s: %w", keyFile, err)
	}
	in := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return verify.Report{}, fmt.Errorf("opening the export: %w", err)
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	var options []verify.Option
	if log != "" {
		options = append(options, verify.ForLog(log))
	}
	if earlier != "" {
		f, err := os.Open(earlier)
		if err != nil {
			return verify.Report{}, fmt.Errorf("opening the earlier export: %w", err)
		}
		defer func() { _ = f.Close() }()
		kept, err := verify.ReadEarlier(f, keys)
		if err != nil {
			return verify.Report{}, err
		}
		options = append(options, verify.Extends(kept))
	}
	return verify.File(in, keys, options...)
}

// printReport renders the report for people.
func printReport(w io.Writer, r verify.Report) error {
	var b strings.Builder
	fmt.Fprintf(&b, "log        %s\n", r.Log)
	if r.Epoch > 1 {
		fmt.Fprintf(&b, "epoch      %d (the log was restored from an older state)\n", r.Epoch)
	}
	fmt.Fprintf(&b, "entries    %d shown, %d withheld by the filter, of %d sealed\n", r.Entries, r.Withheld, r.TreeSize)
	if r.First != nil && r.Last != nil {
		fmt.Fprintf(&b, "time       %s to %s\n", r.First.Format(time.RFC3339), r.Last.Format(time.RFC3339))
	}
	fmt.Fprintf(&b, "exported   %s, %d lines of %s\n", r.MadeAt, r.Lines, r.Format)
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "PROBLEM    %s\n", p)
	}
	if more := r.Found - len(r.Problems); more > 0 {
		fmt.Fprintf(&b, "           and %d more\n", more)
	}
	if r.OK {
		b.WriteString("VERIFIED   every byte is as it was sealed and signed\n")
	} else {
		fmt.Fprintf(&b, "NOT VERIFIED: %d problems\n", r.Found)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
