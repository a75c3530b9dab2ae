package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/caresphere/caresphere/internal/devstack"
)

func keygenCmd() *cobra.Command {
	dir := "."
	cmd := &cobra.Command{
		Use:   "keygen NAME",
		Short: "Make a signing key: NAME.key (secret) and NAME.pub",
		Long: `Make an Ed25519 signing key in the form of signed notes (C2SP signed-note).

NAME is what verifiers know the key by, as caresphere-audit. NAME.key is for the
signing process alone (mode 0600), NAME.pub for everybody. A key that is there is
never replaced.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := devstack.MakeNoteKey(dir, args[0], args[0]); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), filepath.Join(dir, args[0]+".pub"))
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "out", dir, "folder to write to")
	return cmd
}
