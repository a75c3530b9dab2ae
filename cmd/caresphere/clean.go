package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/caresphere/caresphere/internal/devstack"
)

func cleanCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "clean",
		Short: "Remove the local stack's state: databases, keys, certificates, mail",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			layout, err := devstack.LayoutFromEnv()
			if err != nil {
				return err
			}
			removed, err := devstack.Clean(layout)
			for _, dir := range removed {
				fmt.Fprintln(cmd.OutOrStdout(), "removed", dir)
			}
			return err
		},
	}
}
