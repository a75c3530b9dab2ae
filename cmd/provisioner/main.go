// Command provisioner brings organizations with an executed agreement to life in
// one cell, carries gate decisions to roles and keys, renews credentials, and seals
// the cell's and the control plane's audit trails. It has no public listener.
//
// It may make schemas and login roles in its cell, administer the tenants' keys
// and read the control database; it never reads a tenant's records.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/caresphere/caresphere/internal/config"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := start(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "provisioner:", err)
		os.Exit(1)
	}
}

func start(ctx context.Context) error {
	s, err := config.Load[settings]()
	if err != nil {
		return err
	}
	return run(ctx, s)
}
