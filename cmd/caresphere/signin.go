package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"text/tabwriter"
	"time"

	"github.com/pquerna/otp/totp"
	"github.com/spf13/cobra"

	"github.com/caresphere/caresphere/internal/demo"
	"github.com/caresphere/caresphere/internal/devstack"
)

// peopleFile is where a local stack keeps its demonstration people's credentials.
func peopleFile(l devstack.Layout) string { return l.Path("people.json") }

// seed makes the demonstration organization once a stack is ready.
func seed(ctx context.Context, stack *devstack.Stack, out io.Writer) error {
	l := stack.Layout()
	roots, err := rootsFrom(l.CA())
	if err != nil {
		return err
	}
	operator, err := operatorOf(l, "")
	if err != nil {
		return err
	}
	if _, err := demo.ReadSeeded(peopleFile(l)); errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintln(out, "seeding      one demonstration organization, through the public interfaces")
	}
	_, err = demo.Seed(ctx, demo.Options{Origin: l.URL(devstack.PortPublic), Operator: operator, Roots: roots}, peopleFile(l))
	if err != nil && ctx.Err() == nil {
		// The stack itself is whole: it serves, and the next start tries again.
		fmt.Fprintln(out, "not seeded:", err)
	}
	return nil
}

// signIn is one row: how somebody signs in at this moment.
type signIn struct {
	Role     string `json:"role"`
	Name     string `json:"name"`
	Origin   string `json:"origin"`
	Email    string `json:"email"`
	Password string `json:"password"`
	// Code is the one-time password of the moment (RFC 6238); Seconds how long it lasts.
	Code    string `json:"code"`
	Seconds int    `json:"seconds"`
}

func signInCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "sign-in",
		Short: "Show how to sign in to the local stack, with the one-time codes of the moment",
		Long: `Show the local stack's operator and demonstration people: e-mail, password and the
one-time code of the moment. A code counts once; wait for the next after using it.`,
		Example: "  caresphere sign-in\n  caresphere sign-in --json | jq -r '.[] | select(.role == \"nurse\") | .code'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			layout, err := devstack.LayoutFromEnv()
			if err != nil {
				return usageError{err}
			}
			rows, err := signIns(layout, time.Now())
			if err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(rows) //nolint:gosec // G117: showing the local stack's passwords is what it is for
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "WHO\tORIGIN\tE-MAIL\tPASSWORD\tCODE\tFOR")
			for _, r := range rows {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d s\n", r.Role, r.Origin, r.Email, r.Password, r.Code, r.Seconds)
			}
			return w.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

func signIns(l devstack.Layout, now time.Time) ([]signIn, error) {
	operator, err := operatorOf(l, "")
	if err != nil {
		return nil, fmt.Errorf("%w (has the stack of %s run? `make run` starts it)", err, l.State)
	}
	people, err := demo.ReadSeeded(peopleFile(l))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	all := append([]demo.SignIn{{Role: "operator", Email: operator.Email, Password: operator.Password, TOTPSecret: operator.TOTPSecret}}, people.People...)
	rows := make([]signIn, 0, len(all))
	for _, p := range all {
		code, err := totp.GenerateCode(p.TOTPSecret, now)
		if err != nil {
			return nil, fmt.Errorf("the code of %s: %w", p.Email, err)
		}
		// Not the origins in the files: they may be from a run at another port base.
		origin := l.URL(devstack.PortPublic)
		if p.Role == "operator" {
			origin = l.URL(devstack.PortOperators)
		}
		rows = append(rows, signIn{Role: p.Role, Name: p.Name, Origin: origin, Email: p.Email, Password: p.Password,
			Code: code, Seconds: 30 - int(now.Unix()%30)})
	}
	return rows, nil
}
