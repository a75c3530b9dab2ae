package vault_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/caresphere/caresphere/internal/kms/driver"
	"github.com/caresphere/caresphere/internal/kms/vault"
	"github.com/caresphere/caresphere/internal/testkit"
)

// TestAShredThatDiedBehindItsMarkOpensNothing plants what a Shred leaves that dies
// between its mark and the deletion: a disabled key stays refused whatever the
// provisioner does, and its status is not shredded before it is.
func TestAShredThatDiedBehindItsMarkOpensNothing(t *testing.T) {
	t.Parallel()
	c := newCell(t, testkit.Vault(t))
	worker, provisioner, shredder := c.open(t, vault.RoleWorker), c.open(t, vault.RoleProvisioner), c.open(t, vault.RoleShredder)
	key, id, dk := c.made(t, worker)
	open, openID, openKey := c.made(t, worker)
	unwrap := func() error {
		_, err := worker.Unwrap(t.Context(), key, "field", id, dk.Wrapped)
		return err
	}
	status := func(v *vault.Vault, key string, want driver.State) {
		t.Helper()
		if s, err := v.Status(t.Context(), key); err != nil || s.State != want {
			t.Errorf("the status is %+v, want %s: %v", s, want, err)
		}
	}
	mark := func(key string) {
		t.Helper()
		if _, err := c.as(t, vault.RoleShredder).Logical().Write("cell-ledger/"+c.id+"/shredded/"+key, map[string]any{"at": "now"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := provisioner.Disable(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	mark(key)
	for what, change := range map[string]func() error{
		"mending the policies": func() error { _, err := provisioner.Reconcile(t.Context()); return err },
		"disabling it again":   func() error { return provisioner.Disable(t.Context(), key) },
		"enabling it": func() error {
			if err := provisioner.Enable(t.Context(), key); !errors.Is(err, driver.ErrKeyGone) {
				return errors.Join(errors.New("it was enabled"), err)
			}
			return nil
		},
	} {
		if err := change(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if err := unwrap(); !errors.Is(err, driver.ErrKeyGone) {
			t.Errorf("%s opened the key: %v", what, err)
		}
		status(worker, key, driver.StateDisabled)
		status(shredder, key, driver.StateDisabled)
	}
	if names, err := provisioner.Names(t.Context()); err != nil || !slices.Contains(names, key) {
		t.Errorf("a key that is there is not listed: %v, %v", names, err)
	}

	// One that was open is not called shredded either, and can still be closed.
	mark(open)
	status(worker, open, driver.StateAlive)
	if _, err := worker.Unwrap(t.Context(), open, "field", openID, openKey.Wrapped); err != nil {
		t.Fatalf("a key that is marked alone: %v", err)
	}
	if err := provisioner.Disable(t.Context(), open); err != nil {
		t.Fatal(err)
	}
	if _, err := worker.Unwrap(t.Context(), open, "field", openID, openKey.Wrapped); !errors.Is(err, driver.ErrKeyGone) {
		t.Fatalf("a marked key that was closed: %v", err)
	}

	// The second Shred finishes the work, and the deny goes when the key has gone.
	if err := shredder.Shred(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	status(worker, key, driver.StateShredded)
	for _, want := range []int{1, 0} {
		if mended, err := provisioner.Reconcile(t.Context()); err != nil || mended != want {
			t.Errorf("%d policies mended, want %d: %v", mended, want, err)
		}
	}
	if err := unwrap(); !errors.Is(err, driver.ErrKeyGone) {
		t.Errorf("a key that was shredded to the end: %v", err)
	}
	if names, err := provisioner.Names(t.Context()); err != nil || slices.Contains(names, key) {
		t.Errorf("a shredded key is listed: %v, %v", names, err)
	}
}
