package vault_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/caresphere/caresphere/internal/kms/driver"
	"github.com/caresphere/caresphere/internal/kms/vault"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/tenants"
)

// BenchmarkClosedKeys measures what keys that are closed cost those that are not: a
// worker's unwrap of another key, and closing and opening one more. Vault judges each
// request by all policies of its token.
func BenchmarkClosedKeys(b *testing.B) {
	c := newCell(b, testkit.Vault(b))
	worker, provisioner := c.open(b, vault.RoleWorker), c.open(b, vault.RoleProvisioner)
	key, id, dk := c.made(b, worker)
	closed := 0
	for _, n := range []int{0, 100, 1000, 10000} {
		for ; closed < n; closed++ {
			path := "cell-ledger/" + c.id + "/closed/" + driver.KeyName(tenants.NewID())
			if _, err := c.admin.Logical().WriteWithContext(b.Context(), path, map[string]any{"at": time.Now().UTC().Format(time.RFC3339)}); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := provisioner.Reconcile(b.Context()); err != nil {
			b.Fatalf("%d closed keys: %v", n, err)
		}
		b.Run(fmt.Sprintf("closed=%d/unwrap", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := worker.Unwrap(b.Context(), key, "field", id, dk.Wrapped); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("closed=%d/close-and-open", n), func(b *testing.B) {
			for b.Loop() {
				if err := provisioner.Disable(b.Context(), key); err != nil {
					b.Fatal(err)
				}
				if err := provisioner.Enable(b.Context(), key); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
