package keyring_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/caresphere/caresphere/internal/kms/driver"
	"github.com/caresphere/caresphere/internal/kms/keyring"
)

func TestShredDestroysTheMaterialOnDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ring")
	k, key, _, _ := made(t, dir, keyring.Options{})
	// A second name keeps the old blocks in sight after the file is replaced.
	witness := filepath.Join(dir, "witness")
	if err := os.Link(keyFile(dir, key), witness); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(witness)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Shred(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(witness)
	if err != nil {
		t.Fatal(err)
	}
	if len(after) != len(before) || bytes.Contains(after, before[len(before)/4:len(before)/4+24]) {
		t.Error("the old file's blocks were not overwritten")
	}
	tombstone, err := os.ReadFile(keyFile(dir, key))
	if err != nil {
		t.Fatal(err)
	}
	var sealed struct {
		Record struct {
			State    string
			Versions []any
		}
	}
	if err := json.Unmarshal(tombstone, &sealed); err != nil {
		t.Fatal(err)
	}
	if sealed.Record.State != "shredded" || len(sealed.Record.Versions) != 0 {
		t.Errorf("the tombstone is %s", tombstone)
	}
}

// TestLedgerHoldsAfterARestore puts a backup of the directory back after a shred:
// without the ledger the key lives again, with it the key stays dead.
func TestLedgerHoldsAfterARestore(t *testing.T) {
	for _, withLedger := range []bool{false, true} {
		root := t.TempDir()
		dir, opts := filepath.Join(root, "ring"), keyring.Options{}
		if withLedger {
			opts.ShredLedger = filepath.Join(root, "shredded.jsonl")
		}
		k, key, id, dk := made(t, dir, opts)
		backup, err := os.ReadFile(keyFile(dir, key))
		if err != nil {
			t.Fatal(err)
		}
		if err := k.Shred(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(keyFile(dir, key), backup, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, ring := range []*keyring.Keyring{k, open(t, dir, opts)} {
			_, err = ring.Unwrap(t.Context(), key, "field", id, dk.Wrapped)
			if !withLedger {
				if err != nil {
					t.Fatalf("the restored key should open without a ledger: %v", err)
				}
				continue
			}
			if !errors.Is(err, driver.ErrKeyGone) {
				t.Fatalf("the ledger did not hold: %v", err)
			}
			if err := ring.Ensure(t.Context(), key); !errors.Is(err, driver.ErrKeyGone) {
				t.Fatalf("ensure: %v", err)
			}
			if status, err := ring.Status(t.Context(), key); err != nil || status.State != driver.StateShredded {
				t.Fatalf("status: %v, %v", status, err)
			}
		}
	}
}

func TestDamagedLedgerClosesTheRing(t *testing.T) {
	root := t.TempDir()
	opts := keyring.Options{ShredLedger: filepath.Join(root, "shredded.jsonl")}
	k, key, id, dk := made(t, filepath.Join(root, "ring"), opts)
	if err := os.WriteFile(opts.ShredLedger, []byte("{\"key\":\"k1\"}\nnot json\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Unwrap(t.Context(), key, "field", id, dk.Wrapped); !errors.Is(err, driver.ErrIntegrity) {
		t.Fatalf("damaged ledger: %v", err)
	}
	if err := os.WriteFile(opts.ShredLedger, []byte("{\"key\":\"k1\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Unwrap(t.Context(), key, "field", id, dk.Wrapped); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(opts.ShredLedger); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Unwrap(t.Context(), key, "field", id, dk.Wrapped); !errors.Is(err, driver.ErrIntegrity) {
		t.Fatalf("vanished ledger: %v", err)
	}
}
