// Command caresphere is the platform's one command line: it runs a local stack,
// checks a machine, migrates databases, makes signing keys, and verifies what the
// platform signed. What may be done is what its user may do: it holds no rights.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

func main() {
	if err := rootCmd().ExecuteContext(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "caresphere:", err)
		os.Exit(exitCode(err))
	}
}

func rootCmd() *cobra.Command {
	root := &cobra.Command{
		Use:           "caresphere",
		Short:         "CareSphere: run it, check it, verify what it signed",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(upCmd(bringTenants, seed), doctorCmd(), migrateCmd(), keygenCmd(), cleanCmd(), baaCmd(), auditCmd(), isolationCmd(), keyCmd(), censusCmd(), demoCmd(), signInCmd())
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	sayMisuse(root)
	return root
}

// sayMisuse makes every complaint about a command's name or arguments one of wrong
// use: what runs the command tells by the status whether anything was decided.
func sayMisuse(c *cobra.Command) {
	check := c.Args
	if !c.Runnable() {
		c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		check = func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath())
			}
			return nil
		}
	}
	if check != nil {
		c.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usageError{err}
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		sayMisuse(sub)
	}
}
