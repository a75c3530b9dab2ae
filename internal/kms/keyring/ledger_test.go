package keyring_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/caresphere/caresphere/internal/kms/driver"
	"github.com/caresphere/caresphere/internal/kms/keyring"
	"github.com/caresphere/caresphere/tenants"
)

// TestATornLineOfTheLedgerClosesNobody plants what a kill or a power loss in the middle
// of an append leaves, beside lines that were written wrong.
func TestATornLineOfTheLedgerClosesNobody(t *testing.T) {
	dead := driver.KeyName(tenants.NewID())
	line := fmt.Sprintf(`{"key":%q,"at":"2026-01-02T03:04:05Z"}`, dead)
	first := `{"key":"kfirst","at":"2026-01-02T03:04:05Z"}` + "\n"
	for name, c := range map[string]struct {
		text string
		open bool // other keys serve
		gone bool // the line's own key is shredded
	}{
		"whole":                     {first + line + "\n", true, true},
		"without its end":           {first + line, true, true},
		"half":                      {first + line[:len(line)/2], true, false},
		"all but a byte":            {first + line[:len(line)-1], true, false},
		"the first, half":           {line[:9], true, false},
		"blocks without their data": {first + "\x00\x00\x00\x00", true, false},
		"half, with an end":         {first + line[:len(line)/2] + "\n", false, false},
		"half, and another line":    {first + line[:len(line)/2] + "\n" + line + "\n", false, false},
		"an empty line":             {first + "\n", false, false},
		"longer than a buffer":      {first + strings.Repeat(" ", 1<<17) + line + "\n", true, true},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			opts := keyring.Options{ShredLedger: filepath.Join(root, "shredded.jsonl")}
			k, key, id, dk := made(t, filepath.Join(root, "ring"), opts)
			if err := os.WriteFile(opts.ShredLedger, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := k.Unwrap(t.Context(), key, "field", id, dk.Wrapped); c.open != (err == nil) || err != nil && !errors.Is(err, driver.ErrIntegrity) {
				t.Fatalf("another key: %v", err)
			}
			if !c.open {
				if err := k.Shred(t.Context(), key); !errors.Is(err, driver.ErrIntegrity) {
					t.Fatalf("shredding: %v", err)
				}
				if raw, err := os.ReadFile(opts.ShredLedger); err != nil || string(raw) != c.text {
					t.Fatalf("what cannot be read was changed: %q, %v", raw, err)
				}
				return
			}
			want := driver.StateAbsent
			if c.gone {
				want = driver.StateShredded
			}
			if status, err := k.Status(t.Context(), dead); err != nil || status.State != want {
				t.Fatalf("the line's own key: %v, %v", status, err)
			}
			// The next append leaves whole lines alone, and whoever reads them anew agrees.
			if err := k.Shred(t.Context(), key); err != nil {
				t.Fatal(err)
			}
			raw, err := os.ReadFile(opts.ShredLedger)
			if err != nil || !strings.HasSuffix(string(raw), "\n") || strings.Contains(string(raw), "\x00") {
				t.Fatalf("the ledger is %q, %v", raw, err)
			}
			for _, ring := range []*keyring.Keyring{k, open(t, filepath.Join(root, "ring"), opts)} {
				for key, want := range map[string]driver.State{dead: want, key: driver.StateShredded} {
					if status, err := ring.Status(t.Context(), key); err != nil || status.State != want {
						t.Fatalf("afterwards: %v, %v", status, err)
					}
				}
			}
		})
	}
}

// TestAFullDiskLeavesTheLedgerWhole runs the test binary as a process whose ledger may
// grow by half a line and no more.
func TestAFullDiskLeavesTheLedgerWhole(t *testing.T) {
	const rootVar, keyVar = "KEYRING_TEST_ROOT", "KEYRING_TEST_KEY"
	if root := os.Getenv(rootVar); root != "" {
		shredWithoutRoom(t, root, os.Getenv(keyVar))
		return
	}
	root := t.TempDir()
	opts := keyring.Options{ShredLedger: filepath.Join(root, "shredded.jsonl")}
	k, key, id, dk := made(t, filepath.Join(root, "ring"), opts)
	_, other, otherID, otherKey := made(t, filepath.Join(root, "ring"), opts)
	// Longer than a key's file, so that the bound is the ledger's alone.
	before := strings.Repeat(`{"key":"kearlier","at":"2026-01-02T03:04:05Z"}`+"\n", 200)
	if err := os.WriteFile(opts.ShredLedger, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAFullDiskLeavesTheLedgerWhole$")
	cmd.Env = append(os.Environ(), rootVar+"="+root, keyVar+"="+key)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if raw, err := os.ReadFile(opts.ShredLedger); err != nil || string(raw) != before {
		t.Fatalf("half a line was left: %q, %v", raw[min(len(raw), len(before)):], err)
	}
	for _, ring := range []*keyring.Keyring{k, open(t, filepath.Join(root, "ring"), opts)} {
		if _, err := ring.Unwrap(t.Context(), key, "field", id, dk.Wrapped); err != nil {
			t.Fatalf("a key whose shredding failed: %v", err)
		}
		if _, err := ring.Unwrap(t.Context(), other, "field", otherID, otherKey.Wrapped); err != nil {
			t.Fatalf("another key: %v", err)
		}
	}
	if err := k.Shred(t.Context(), key); err != nil {
		t.Fatalf("with room again: %v", err)
	}
	if _, err := k.Unwrap(t.Context(), key, "field", id, dk.Wrapped); !errors.Is(err, driver.ErrKeyGone) {
		t.Fatalf("a shredded key: %v", err)
	}
	if _, err := k.Unwrap(t.Context(), other, "field", otherID, otherKey.Wrapped); err != nil {
		t.Fatalf("another key: %v", err)
	}
}

// shredWithoutRoom wants a refusal: no file may be more than 20 bytes longer than the ledger is.
func shredWithoutRoom(t *testing.T, root, key string) {
	opts := keyring.Options{ShredLedger: filepath.Join(root, "shredded.jsonl")}
	info, err := os.Stat(opts.ShredLedger)
	if err != nil {
		t.Fatal(err)
	}
	k := open(t, filepath.Join(root, "ring"), opts)
	signal.Ignore(syscall.SIGXFSZ)
	room := uint64(info.Size() + 20)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: room, Max: room}); err != nil {
		t.Fatal(err)
	}
	if err := k.Shred(t.Context(), key); !errors.Is(err, driver.ErrUnavailable) || !errors.Is(err, syscall.EFBIG) {
		t.Fatalf("without room: %v", err)
	}
}
