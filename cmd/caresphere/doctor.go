package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/caresphere/caresphere/internal/devstack"
)

func doctorCmd() *cobra.Command {
	var asJSON bool
	full := os.Getenv("STACK") == "full"
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say whether this machine can run a stack, and what to do if not",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := stackConfig(full, nil)
			if err != nil {
				return err
			}
			checks := devstack.Examine(cmd.Context(), cfg)
			if asJSON {
				encoder := json.NewEncoder(cmd.OutOrStdout())
				encoder.SetIndent("", "  ")
				if err := encoder.Encode(map[string]any{"checks": checks}); err != nil {
					return fmt.Errorf("writing the findings: %w", err)
				}
			} else {
				for _, c := range checks {
					mark := "ok  "
					if !c.OK {
						mark = "FAIL"
					}
					fmt.Fprintf(cmd.OutOrStdout(), "%s  %-10s %s\n", mark, c.Name, c.Found)
					if c.Do != "" {
						fmt.Fprintf(cmd.OutOrStdout(), "      %-10s -> %s\n", "", c.Do)
					}
				}
			}
			for _, c := range checks {
				if !c.OK {
					return errors.New("this machine cannot run a stack as it is")
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print {\"checks\": [{name, ok, found, do}]}")
	cmd.Flags().BoolVar(&full, "full", full, "also look at what a full stack needs")
	return cmd
}
