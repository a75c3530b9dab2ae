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
	root.AddCommand(upCmd(seed), doctorCmd(), migrateCmd(), keygenCmd(), cleanCmd(), baaCmd(), auditCmd(), demoCmd(), signInCmd())
	return root
}
