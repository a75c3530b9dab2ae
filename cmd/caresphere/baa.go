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
	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/internal/evidence"
)

// errNotVerified ends the command with status 1; what is wrong was printed before.
var errNotVerified = errors.New("the bundle does not verify")

// usageError ends a command with status 2: it was called wrongly, nothing was decided.
type usageError struct{ error }

// ExitCode is the process's status for this error.
func (usageError) ExitCode() int { return 2 }

func baaCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "baa", Short: "Check business associate agreements"}
	cmd.AddCommand(baaVerifyCmd())
	return cmd
}

func baaVerifyCmd() *cobra.Command {
	var (
		key    string
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "verify BUNDLE",
		Short: "Check an agreement's evidence bundle offline, to the last byte",
		Long: `Check an agreement's evidence bundle: the text, both sealed signatures, the PDF,
and that they belong together. Nothing but the file is needed, and no network.

With --key the bundle must be sealed by that platform key. Without it the bundle's
own key is used: the result then says no more than that the holder of the key with
the printed fingerprint made the bundle. Compare the fingerprint by other means.

Exit status: 0 verified, 1 not verified, 2 wrong use or unreadable file.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{errors.New("name one bundle")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return baaVerify(cmd.OutOrStdout(), args[0], key, asJSON)
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "the platform's public key: a file with it, or the key itself")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	return cmd
}

func baaVerify(w io.Writer, path, key string, asJSON bool) error {
	pin, err := baaKey(key)
	if err != nil {
		return usageError{err}
	}
	bundle, err := os.ReadFile(path)
	if err != nil {
		return usageError{fmt.Errorf("reading the bundle: %w", err)}
	}
	report := evidence.Verify(bundle, pin)
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		err = enc.Encode(report)
	} else {
		err = printBAA(w, report)
	}
	if err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	if !report.OK {
		return errNotVerified
	}
	return nil
}

// baaKey reads the pin: the key itself, or the file that holds it.
func baaKey(key string) (note.Verifier, error) {
	if key == "" {
		return nil, nil
	}
	if !strings.HasPrefix(key, evidence.KeyName+"+") {
		text, err := os.ReadFile(key)
		if err != nil {
			return nil, fmt.Errorf("reading the key: %w", err)
		}
		key = string(text)
	}
	_, v, err := evidence.ParseKey(key)
	return v, err
}

func printBAA(w io.Writer, r evidence.Report) error {
	var b strings.Builder
	if r.OK {
		b.WriteString("VERIFIED\n\n")
	} else {
		b.WriteString("NOT VERIFIED\n\n")
		for _, p := range r.Problems {
			fmt.Fprintf(&b, "  %-18s %s\n", p.Part, p.Message)
		}
		b.WriteByte('\n')
	}
	if a := r.Agreement; a != nil {
		row := func(name, value string) { fmt.Fprintf(&b, "  %-18s %s\n", name, value) }
		row("agreement", a.AgreementID)
		row("organization", a.LegalName+" ("+a.OrganizationID+")")
		row("template", a.TemplateVersion)
		row("document SHA-256", a.DocumentSHA256)
		row("in force", a.ExecutedAt.Format(time.RFC3339)+" to "+a.ExpiresAt.Format(time.RFC3339))
		for _, s := range []struct {
			name string
			sig  *evidence.Signature
		}{{"customer", r.Customer}, {"operator", r.Operator}} {
			if s.sig != nil {
				row(s.name, fmt.Sprintf("%q, %q, %s, at %s from %s (%s)", s.sig.Signer.Name, s.sig.Signer.Title, s.sig.Signer.Email,
					s.sig.SignedAt.Format(time.RFC3339), s.sig.IP, strings.Join(s.sig.Authentication.Methods, "+")))
			}
		}
		b.WriteByte('\n')
	}
	if r.KeyFingerprint != "" {
		fmt.Fprintf(&b, "  key fingerprint    %s\n", r.KeyFingerprint)
		if r.Pinned {
			b.WriteString("  key                compared with the one that you gave\n")
		} else {
			b.WriteString("  key                NOT PINNED: taken from the bundle itself. Compare the fingerprint, or use --key.\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
