// Command prove runs the proofs and prints a line a figure: what was tried, what
// was found, what was expected. It ends with 1 when a figure is not as it must be,
// or when nobody stated it. `make prove` runs it with servers of its own.
//
//	prove [-area isolation,attacks] [-json FILE] [-log FILE]
//	prove -- go test ./...
//
// The second form runs a command in place of the proofs' own tests and demands all
// figures of it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/caresphere/caresphere/internal/testkit/prove"
)

// How long the tests of one area may take.
const (
	limit        = 20 * time.Minute
	limitNightly = 4 * time.Hour
)

var errSurprise = errors.New("not everything is as it must be")

type options struct {
	areas   []prove.Area
	json    string
	log     string
	command []string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		stop()
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "prove:", err)
		stop()
		os.Exit(2)
	}
	err = run(ctx, o, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "prove:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("prove", flag.ContinueOnError)
	area := flags.String("area", "", "the areas to prove, with commas between; all by default: "+names(prove.Areas()))
	flags.StringVar(&o.json, "json", "", "write the figures to this `file` too")
	flags.StringVar(&o.log, "log", "", "write what the tests print to this `file`; a temporary one by default")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.command = flags.Args()
	o.areas = prove.Areas()
	if *area != "" {
		o.areas = nil
		for name := range strings.SplitSeq(*area, ",") {
			if !slices.Contains(prove.Areas(), prove.Area(name)) {
				return o, fmt.Errorf("there is no area %q: there are %s", name, names(prove.Areas()))
			}
			o.areas = append(o.areas, prove.Area(name))
		}
	}
	return o, nil
}

func names(areas []prove.Area) string {
	s := make([]string, len(areas))
	for i, a := range areas {
		s[i] = string(a)
	}
	return strings.Join(s, ", ")
}

func run(ctx context.Context, o options, out io.Writer) error {
	dir, err := os.MkdirTemp("", "cs-prove-")
	if err != nil {
		return fmt.Errorf("making the figures' folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	begun := time.Now()
	if len(o.command) > 0 {
		failed := execute(ctx, o.command, dir, os.Stdout)
		fmt.Fprintln(out)
		return errors.Join(failed, report(out, dir, o))
	}
	log, err := openLog(o.log)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	surprises := 0
	for _, area := range o.areas {
		n, err := proveArea(ctx, area, dir, log, out)
		surprises += n
		if ctx.Err() != nil {
			return fmt.Errorf("ended while proving %s: %w", area, err)
		}
		if err != nil && n == 0 {
			// A test failed beside its figures.
			surprises++
			fmt.Fprintf(out, "FAIL  %s: %v\n", area, err)
		}
	}
	fmt.Fprintf(out, "proved in %s; the tests' own words are in %s\n", time.Since(begun).Round(time.Second), log.Name())
	if err := keep(dir, o); err != nil {
		return err
	}
	if surprises > 0 {
		return fmt.Errorf("%w: %d surprises", errSurprise, surprises)
	}
	return nil
}

func openLog(path string) (*os.File, error) {
	if path == "" {
		return os.CreateTemp("", "caresphere-prove-*.log")
	}
	return os.Create(path)
}

// proveArea runs the tests that state an area's figures and prints these.
func proveArea(ctx context.Context, area prove.Area, dir string, log io.Writer, out io.Writer) (int, error) {
	packages, tests := stating(area)
	bound := limit
	if prove.Nightly() {
		bound = limitNightly
	}
	args := append([]string{"go", "test", "-count=1", "-v", "-timeout", bound.String(), "-run", "^(" + strings.Join(tests, "|") + ")$"}, packages...)
	fmt.Fprintf(log, "== %s: %s\n", area, strings.Join(args, " "))
	failed := execute(ctx, args, dir, log)
	sums, err := prove.Read(dir, area)
	if err != nil {
		return 0, err
	}
	return prove.Print(out, sums), failed
}

// stating returns the packages and tests that state an area's figures.
func stating(area prove.Area) (packages, tests []string) {
	for _, f := range prove.Catalogue() {
		if f.Area != area {
			continue
		}
		for _, by := range f.By {
			pkg, test, _ := strings.Cut(by, " ")
			packages, tests = append(packages, pkg), append(tests, test)
		}
	}
	slices.Sort(packages)
	slices.Sort(tests)
	return slices.Compact(packages), slices.Compact(tests)
}

// execute runs a command that states figures in dir.
func execute(ctx context.Context, args []string, dir string, out io.Writer) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), prove.DirEnv+"="+dir)
	cmd.Stdout, cmd.Stderr = out, out
	// Tests end their processes by themselves when they are asked to.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(args[:min(len(args), 2)], " "), err)
	}
	return nil
}

// report prints all figures of a run.
func report(out io.Writer, dir string, o options) error {
	sums, err := prove.Read(dir, o.areas...)
	if err != nil {
		return err
	}
	if err := keep(dir, o); err != nil {
		return err
	}
	if n := prove.Print(out, sums); n > 0 {
		return fmt.Errorf("%w: %d surprises", errSurprise, n)
	}
	return nil
}

// keep writes the figures for machines.
func keep(dir string, o options) error {
	if o.json == "" {
		return nil
	}
	sums, err := prove.Read(dir, o.areas...)
	if err != nil {
		return err
	}
	content, err := json.MarshalIndent(prove.Lines(sums), "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(o.json, append(content, '\n'), 0o644) //nolint:gosec // meant to be read
}
