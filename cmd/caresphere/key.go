package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/caresphere/caresphere/internal/client"
)

// What ends the commands with status 1; what is wrong was printed before.
var (
	errKeyStuck       = errors.New("a rotation does not go on")
	errRotationFailed = errors.New("the rotation failed")
)

// rotationPoll is how often a rotation that is waited for is asked about.
const rotationPoll = 500 * time.Millisecond

func keyCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "key", Short: "Show tenants' keys and rotate them"}
	cmd.AddCommand(keyStatusCmd(), keyRotateCmd())
	return cmd
}

func keyStatusCmd() *cobra.Command {
	var (
		flags  operatorFlags
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "status [TENANT]",
		Short: "Show the version of tenants' keys and how their rotations go",
		Long: `Show which version each tenant's key has, since when, and the newest rotation: of one
tenant by its short name, or of all. No key leaves the key service.

Exit status: 0 all is well, 1 a rotation failed or does not go on, 2 wrong use.`,
		Example: "  caresphere key status\n  caresphere key status willow --json",
		Args:    oneTenant(false),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), flags.limit)
			defer cancel()
			c, err := flags.signIn(ctx)
			if err != nil {
				return err
			}
			defer c.Close()
			tenant := ""
			if len(args) == 1 {
				tenant = args[0]
			}
			keys, err := c.Keys(ctx, tenant)
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), keys)
			} else {
				printKeys(cmd.OutOrStdout(), keys)
			}
			for _, k := range keys {
				if err == nil && k.RotationReason != "" {
					err = errKeyStuck
				}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	flags.on(cmd)
	return cmd
}

func keyRotateCmd() *cobra.Command {
	var (
		flags        operatorFlags
		wait, asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "rotate TENANT",
		Short: "Rotate a tenant's key and have everything wrapped by the new version",
		Long: `Ask the provisioner to rotate the key of a tenant, by its short name: a new version,
every data key wrapped by it, and after a grace the old version destroyed. Requests
are served meanwhile, and no record is encrypted anew. One is under way at a time:
asking again before it ended is refused.

With --wait the command ends when everything is wrapped by the new version. The
grace goes on after that; key status tells when it is over.

Exit status: 0 asked for, with --wait rewrapped; 1 refused, failed or not in time;
2 wrong use.`,
		Example: "  caresphere key rotate willow\n  caresphere key rotate willow --wait --json",
		Args:    oneTenant(true),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), flags.limit)
			defer cancel()
			c, err := flags.signIn(ctx)
			if err != nil {
				return err
			}
			defer c.Close()
			r, err := c.RotateKey(ctx, args[0])
			if err != nil {
				return err
			}
			if wait {
				if r, err = rewrapped(ctx, c, r); err != nil {
					return err
				}
			}
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), r)
			} else {
				printRotation(cmd.OutOrStdout(), r)
			}
			if err == nil && r.State == "failed" {
				err = errRotationFailed
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until everything is wrapped by the new version")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	flags.on(cmd)
	return cmd
}

func oneTenant(needed bool) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > 1 || needed && len(args) != 1 {
			return usageError{errors.New("name one tenant by its short name")}
		}
		return nil
	}
}

// rewrapped waits until the rotation is past what it does to wraps.
func rewrapped(ctx context.Context, c *client.Client, r client.KeyRotation) (client.KeyRotation, error) {
	tick := time.NewTicker(rotationPoll)
	defer tick.Stop()
	for r.State != "grace" && r.State != "done" && r.State != "failed" {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return r, fmt.Errorf("waiting for the provisioner: %w: the rotation is %s %s", ctx.Err(), r.State, r.Reason)
		}
		var err error
		if r, err = c.KeyRotation(ctx, r.ID); err != nil {
			return r, err
		}
	}
	return r, nil
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func printKeys(w io.Writer, keys []client.TenantKey) {
	for _, k := range keys {
		fmt.Fprintf(w, "%-24s version %d since %s (%s, gate %s)", k.Tenant, k.Version, k.Since.Format(time.DateOnly), k.State, k.Gate)
		if k.RotationState != "" {
			fmt.Fprintf(w, ", rotation %s", k.RotationState)
		}
		fmt.Fprintln(w)
		if k.RotationReason != "" {
			fmt.Fprintln(w, "  STOPPED  ", k.RotationReason)
		}
	}
}

func printRotation(w io.Writer, r client.KeyRotation) {
	fmt.Fprintf(w, "rotation %s of %s: %s", r.ID, r.Tenant, r.State)
	if r.ToVersion > 0 {
		fmt.Fprintf(w, ", version %d to %d", r.FromVersion, r.ToVersion)
	}
	if r.RewrappedAt != nil {
		fmt.Fprintf(w, ", %d wraps", r.Wraps)
	}
	if r.RetireAfter != nil && r.FinishedAt == nil {
		fmt.Fprintf(w, ", the old version serves until %s", r.RetireAfter.Format(time.RFC3339))
	}
	fmt.Fprintln(w)
	if r.Reason != "" {
		fmt.Fprintln(w, "  STOPPED  ", r.Reason)
	}
}
