package vault_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/caresphere/caresphere/internal/kms/driver"
	"github.com/caresphere/caresphere/internal/kms/vault"
	"github.com/caresphere/caresphere/internal/testkit"
)

// eventually polls until the condition gives nil; the last error fails the test.
func eventually(t *testing.T, what string, condition func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		case <-tick.C:
		}
	}
}

func TestSealedVaultComesBackWithoutARestart(t *testing.T) {
	t.Parallel()
	server, process := testkit.OwnVault(t)
	c := newCell(t, server)
	worker := c.open(t, vault.RoleWorker)
	key, id, dk := c.made(t, worker)
	unwrap := func() error {
		_, err := worker.Unwrap(t.Context(), key, "field", id, dk.Wrapped)
		return err
	}
	if err := c.admin.Sys().SealWithContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := unwrap(); !errors.Is(err, driver.ErrUnavailable) {
		t.Fatalf("sealed: %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("a sealed Vault held the call for %v", took)
	}
	if err := worker.Health(t.Context()); !errors.Is(err, driver.ErrUnavailable) {
		t.Fatalf("health of a sealed Vault: %v", err)
	}
	// A process that starts now is not refused: it serves once Vault does.
	late := c.open(t, vault.RoleWorker)
	if err := late.Health(t.Context()); !errors.Is(err, driver.ErrUnavailable) {
		t.Fatalf("health of a late one: %v", err)
	}
	if _, err := c.admin.Sys().UnsealWithContext(t.Context(), server.UnsealKey); err != nil {
		t.Fatal(err)
	}
	eventually(t, "unwrapping after the unseal", unwrap)
	eventually(t, "a late process after the unseal", func() error { return late.Health(t.Context()) })

	if err := process.Process().Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := unwrap(); !errors.Is(err, driver.ErrUnavailable) {
		t.Fatalf("stopped: %v", err)
	}
}

// TestJustUnsealedVaultIsWaitedFor: right after an unseal Vault answers that no
// node is active; the call repeats until it is.
func TestJustUnsealedVaultIsWaitedFor(t *testing.T) {
	t.Parallel()
	server, _ := testkit.OwnVault(t)
	c := newCell(t, server)
	worker := c.open(t, vault.RoleWorker)
	key, id, dk := c.made(t, worker)
	for range 3 {
		if err := c.admin.Sys().SealWithContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := c.admin.Sys().UnsealWithContext(t.Context(), server.UnsealKey); err != nil {
			t.Fatal(err)
		}
		if _, err := worker.Unwrap(t.Context(), key, "field", id, dk.Wrapped); err != nil && !errors.Is(err, driver.ErrUnavailable) {
			t.Fatalf("just unsealed: %v", err)
		}
		eventually(t, "after the unseal", func() error {
			_, err := worker.Unwrap(t.Context(), key, "field", id, dk.Wrapped)
			return err
		})
	}
}

func TestNetworkFaults(t *testing.T) {
	t.Parallel()
	c := newCell(t, testkit.Vault(t))
	proxy := testkit.Toxiproxy(t, c.server.Address)
	c.address = "https://" + proxy.Addr
	worker := c.open(t, vault.RoleWorker)
	key, id, dk := c.made(t, worker)
	for _, fault := range []struct {
		name string
		make func()
	}{
		{"refused", proxy.Down}, {"hanging", proxy.Hang}, {"reset", proxy.Reset},
		{"cut", func() { proxy.CutAfter(20) }}, {"slower than the limit", func() { proxy.Delay(2500 * time.Millisecond) }},
	} {
		fault.make()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		began := time.Now()
		_, err := worker.Unwrap(ctx, key, "field", id, dk.Wrapped)
		cancel()
		if !errors.Is(err, driver.ErrUnavailable) {
			t.Errorf("%s: %v", fault.name, err)
		}
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("%s: the call outlived its deadline: %v", fault.name, took)
		}
		proxy.Heal()
		eventually(t, "after "+fault.name, func() error {
			_, err := worker.Unwrap(t.Context(), key, "field", id, dk.Wrapped)
			return err
		})
	}
}

// TestBlipIsBridged: a fault shorter than the retries costs time and no error.
func TestBlipIsBridged(t *testing.T) {
	t.Parallel()
	c := newCell(t, testkit.Vault(t))
	proxy := testkit.Toxiproxy(t, c.server.Address)
	c.address = "https://" + proxy.Addr
	worker := c.open(t, vault.RoleWorker)
	key, id, dk := c.made(t, worker)
	proxy.Down()
	healed := make(chan struct{})
	time.AfterFunc(60*time.Millisecond, func() {
		defer close(healed)
		proxy.Up()
	})
	if _, err := worker.Unwrap(t.Context(), key, "field", id, dk.Wrapped); err != nil {
		t.Errorf("the blip showed: %v", err)
	}
	<-healed
}

func TestRevokedTokenIsReplaced(t *testing.T) {
	t.Parallel()
	c := newCell(t, testkit.Vault(t))
	worker := c.open(t, vault.RoleWorker)
	key, id, dk := c.made(t, worker)
	revokeTokens(t, c)
	if _, err := worker.Unwrap(t.Context(), key, "field", id, dk.Wrapped); err != nil {
		t.Fatalf("with a revoked token: %v", err)
	}
	// With the credentials gone too, the refusal is one of authorization.
	if _, err := c.admin.Logical().Delete("auth/approle/role/cell-" + c.id + "-worker"); err != nil {
		t.Fatal(err)
	}
	revokeTokens(t, c)
	if _, err := worker.Unwrap(t.Context(), key, "field", id, dk.Wrapped); !errors.Is(err, driver.ErrAuth) {
		t.Fatalf("without credentials: %v", err)
	}
}

// revokeTokens ends every token of the cell's worker.
func revokeTokens(t *testing.T, c *cell) {
	t.Helper()
	s, err := c.admin.Logical().List("auth/token/accessors")
	if err != nil {
		t.Fatal(err)
	}
	ended := 0
	for _, accessor := range s.Data["keys"].([]any) {
		info, err := c.admin.Logical().Write("auth/token/lookup-accessor", map[string]any{"accessor": accessor})
		if err != nil {
			continue // ran out meanwhile
		}
		meta, _ := info.Data["meta"].(map[string]any)
		if meta["role_name"] != "cell-"+c.id+"-worker" {
			continue
		}
		if _, err := c.admin.Logical().Write("auth/token/revoke-accessor", map[string]any{"accessor": accessor}); err != nil {
			t.Fatal(err)
		}
		ended++
	}
	if ended == 0 {
		t.Fatal("no token of the worker was found")
	}
}

// TestTokenIsRenewedAndThenReplaced gives tokens two seconds and at most four:
// the driver renews in the background and logs in again at the end, and a key
// opens all the while.
func TestTokenIsRenewedAndThenReplaced(t *testing.T) {
	t.Parallel()
	c := newCell(t, testkit.Vault(t))
	if _, err := c.admin.Logical().Write("auth/approle/role/cell-"+c.id+"-worker", map[string]any{"token_ttl": "2s", "token_max_ttl": "4s"}); err != nil {
		t.Fatal(err)
	}
	worker := c.open(t, vault.RoleWorker)
	key, id, dk := c.made(t, worker)
	until := time.NewTimer(7 * time.Second)
	defer until.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-until.C:
			return
		case <-tick.C:
			if _, err := worker.Unwrap(t.Context(), key, "field", id, dk.Wrapped); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestReplacedCredentialsAreReadAgain(t *testing.T) {
	t.Parallel()
	c := newCell(t, testkit.Vault(t))
	cfg := c.config(t, vault.RoleWorker)
	good, err := os.ReadFile(cfg.SecretIDFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cfg.SecretIDFile, []byte("wrong"), 0o600); err != nil {
		t.Fatal(err)
	}
	worker := openWith(t, cfg)
	if err := worker.Health(t.Context()); !errors.Is(err, driver.ErrAuth) {
		t.Fatalf("with a wrong secret id: %v", err)
	}
	if err := os.WriteFile(cfg.SecretIDFile, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := worker.Health(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := worker.Close(); err != nil {
		t.Fatal(err)
	}
	if err := worker.Health(t.Context()); !errors.Is(err, driver.ErrUnavailable) {
		t.Fatalf("after Close: %v", err)
	}
}
