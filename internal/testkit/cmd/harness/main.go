// Command harness runs a command, by nature `go test`, with one set of servers
// for all of its processes. A server starts when the first test asks for it.
//
//	go run ./internal/testkit/cmd/harness [-tools] -- go test ./...
//
// With -tools all servers are built before the command starts, so that no test's
// time limit runs while they are.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/caresphere/caresphere/internal/testkit"
)

func main() {
	args, tools := os.Args[1:], false
	if len(args) > 0 && args[0] == "-tools" {
		args, tools = args[1:], true
	}
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "usage: harness [-tools] -- command [argument...]")
		os.Exit(2)
	}
	code, err := run(args, tools)
	if err != nil {
		fmt.Fprintln(os.Stderr, "harness:", err)
	}
	os.Exit(code)
}

// run returns the command's exit code.
func run(args []string, tools bool) (int, error) {
	host, err := testkit.NewHost()
	if err != nil {
		return 1, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		host.Close(ctx)
	}()
	if tools {
		if err := host.BuildTools(); err != nil {
			return 1, err
		}
	}
	socket, err := host.Listen()
	if err != nil {
		return 1, err
	}
	// The terminal's Ctrl-C reaches the command too: wait for it to end, then stop
	// the servers. A second one kills it.
	interrupts := make(chan os.Signal, 2)
	signal.Notify(interrupts, os.Interrupt, syscall.SIGTERM)
	cmd := exec.Command(args[0], args[1:]...) // to its end, not to a deadline
	cmd.Env = append(os.Environ(), testkit.AgentEnv+"="+socket)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return 1, fmt.Errorf("starting %s: %w", args[0], err)
	}
	go func() {
		for n := 0; ; n++ {
			s := <-interrupts
			if n > 0 {
				_ = cmd.Process.Kill()
			} else if s == syscall.SIGTERM {
				_ = cmd.Process.Signal(s)
			}
		}
	}()
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return max(1, exit.ExitCode()), nil
	}
	if err != nil {
		return 1, fmt.Errorf("running %s: %w", args[0], err)
	}
	return 0, nil
}
