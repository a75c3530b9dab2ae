package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/caresphere/caresphere/internal/devstack"
	"github.com/caresphere/caresphere/internal/devstack/tools"
)

// afterReady does more once a stack is ready, as seeding a demonstration
// organization through the public interfaces. It may run on every start.
type afterReady func(ctx context.Context, stack *devstack.Stack, out io.Writer) error

func upCmd(more ...afterReady) *cobra.Command {
	full := os.Getenv("STACK") == "full"
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run the whole platform on this machine until Ctrl-C",
		Long: `Run the whole platform on this machine until Ctrl-C.

Starts PostgreSQL, two identity servers and the platform's own programs over TLS
from a local certificate authority. Everything lives in CARESPHERE_STATE (default
.caresphere) and survives; ports begin at CARESPHERE_PORT_BASE (default 8443).
Two stacks with different ones run side by side.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := stackConfig(full, cmd.OutOrStdout())
			if err != nil {
				return err
			}
			return up(cmd.Context(), cfg, more)
		},
	}
	cmd.Flags().BoolVar(&full, "full", full, "use Vault, S3 and stripe-mock in place of the embedded parts (also STACK=full)")
	return cmd
}

func stackConfig(full bool, out io.Writer) (devstack.Config, error) {
	layout, err := devstack.LayoutFromEnv()
	if err != nil {
		return devstack.Config{}, err
	}
	cache, err := tools.DefaultCache()
	if err != nil {
		return devstack.Config{}, err
	}
	self, err := os.Executable()
	if err != nil {
		return devstack.Config{}, fmt.Errorf("finding the programs beside this one: %w", err)
	}
	if target, err := filepath.EvalSymlinks(self); err == nil {
		self = target
	}
	return devstack.Config{Layout: layout, Binaries: filepath.Dir(self), Cache: cache, Full: full, Progress: out, Building: out}, nil
}

func up(ctx context.Context, cfg devstack.Config, more []afterReady) error {
	// The first Ctrl-C stops everything in order, the second one at once.
	ctx, stopNow := context.WithCancel(ctx)
	defer stopNow()
	killCtx, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	go func() {
		for range signals {
			if ctx.Err() == nil {
				fmt.Fprintln(cfg.Progress, "stopping; once more to kill")
				stopNow()
			} else {
				kill()
			}
		}
	}()

	began := time.Now()
	stack, err := devstack.Start(ctx, cfg)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return explain(err, cfg)
	}
	err = run(ctx, cfg, stack, began, more)
	return errors.Join(err, stack.Stop(killCtx))
}

func run(ctx context.Context, cfg devstack.Config, stack *devstack.Stack, began time.Time, more []afterReady) error {
	for _, f := range more {
		if err := f(ctx, stack, cfg.Progress); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
	welcome(cfg, time.Since(began))
	failed := stack.Failed()
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	ready := true
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			if ctx.Err() != nil {
				return nil
			}
			return err
		case <-tick.C:
			err := stack.Ready(ctx)
			if ctx.Err() != nil {
				return nil
			}
			if now := err == nil; now != ready {
				ready = now
				status(cfg.Progress, err)
			}
		}
	}
}

func status(out io.Writer, err error) {
	at := time.Now().Format("15:04:05")
	if err != nil {
		fmt.Fprintf(out, "%s not ready: %v\n", at, err)
		return
	}
	fmt.Fprintf(out, "%s ready again\n", at)
}

func welcome(cfg devstack.Config, took time.Duration) {
	self := callName()
	fmt.Fprintf(cfg.Progress, `
CareSphere is ready (%s).

  Sign up, sign in     %s
  Operators' console   %s
  Mail that was sent   %s/dev/outbox
  API descriptions     %s/openapi.json, %s/t/openapi.json

How to sign in         %s sign-in
                       (the operator, an owner and a nurse of Sunrise Gardens, with
                       their one-time codes of the moment)
Logs                   %s

Certificates come from the local authority
  %s
which your browser does not know. Import it there, accept the warning once, or
  curl --cacert %s %s/readyz

See the whole way at work:   %s demo
Ctrl-C stops everything; what you did is kept. make clean-state removes it.

`, took.Round(100*time.Millisecond), cfg.URL(devstack.PortPublic), cfg.URL(devstack.PortOperators), cfg.URL(devstack.PortPublic),
		cfg.URL(devstack.PortPublic), cfg.URL(devstack.PortPublic), self, cfg.Path("logs"), cfg.CA(), cfg.CA(), cfg.URL(devstack.PortPublic), self)
}

// callName is how to call this program from where the user stands.
func callName() string {
	exe, err := os.Executable()
	if err != nil {
		return "caresphere"
	}
	if found, err := exec.LookPath("caresphere"); err == nil && found == exe {
		return "caresphere"
	}
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, exe); err == nil && !strings.HasPrefix(rel, "..") {
			return rel
		}
	}
	return exe
}

// explain adds where to look further.
func explain(err error, cfg devstack.Config) error {
	return fmt.Errorf("%w\n\nLogs are in %s; `caresphere doctor` checks this machine", err, cfg.Path("logs"))
}
