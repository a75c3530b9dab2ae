package keyring_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caresphere/caresphere/internal/kms/driver"
	"github.com/caresphere/caresphere/internal/kms/keyring"
	"github.com/caresphere/caresphere/internal/kms/kmstest"
	"github.com/caresphere/caresphere/tenants"
)

func open(t *testing.T, dir string, opts keyring.Options) *keyring.Keyring {
	t.Helper()
	k, err := keyring.Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	return k
}

func TestConformance(t *testing.T) {
	for _, withLedger := range []bool{false, true} {
		name, opts := "without a ledger", keyring.Options{}
		if withLedger {
			name, opts.ShredLedger = "with a ledger", filepath.Join(t.TempDir(), "shredded.jsonl")
		}
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "ring")
			handle := func() driver.KMS { return open(t, dir, opts) }
			kmstest.Run(t, kmstest.Handles{
				Provisioner: handle(), SecondProvisioner: handle(), Worker: handle(),
				SecondWorker: handle(), Rewrapper: handle(), Shredder: handle(),
			})
		})
	}
}

func keyFile(dir, key string) string { return filepath.Join(dir, "keys", key+".json") }

// made returns a keyring with one key and one data key of it.
func made(t *testing.T, dir string, opts keyring.Options) (k *keyring.Keyring, key string, id tenants.ID, dk driver.DataKey) {
	t.Helper()
	k = open(t, dir, opts)
	key, id = driver.KeyName(tenants.NewID()), tenants.NewID()
	if err := k.Ensure(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	dk, err := k.NewDataKey(t.Context(), key, "field", id)
	if err != nil {
		t.Fatal(err)
	}
	return k, key, id, dk
}

func TestFilesArePrivateAndHoldNoPlainKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ring")
	_, key, _, dk := made(t, dir, keyring.Options{})
	for path, want := range map[string]os.FileMode{
		dir: 0o700, filepath.Join(dir, "keys"): 0o700, filepath.Join(dir, "master.key"): 0o600, keyFile(dir, key): 0o600,
	} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %04o, want %04o", path, info.Mode().Perm(), want)
		}
	}
	raw, err := os.ReadFile(keyFile(dir, key))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(raw, dk.Plain) {
		t.Error("the file holds a data key")
	}
}

func TestMasterKeyThatOthersReadIsRefused(t *testing.T) {
	for _, c := range []struct {
		name, path string
		mode       os.FileMode
		ok         bool
	}{
		{"group may read the master", "master.key", 0o640, false},
		{"others may read the master", "master.key", 0o604, false},
		{"only the owner", "master.key", 0o400, true},
		{"others may write the directory", "", 0o702, false},
		{"group may write the keys", "keys", 0o720, false},
		{"others may look at the directory", "", 0o755, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "ring")
			k := open(t, dir, keyring.Options{})
			if err := os.Chmod(filepath.Join(dir, c.path), c.mode); err != nil {
				t.Fatal(err)
			}
			_, err := keyring.Open(dir, keyring.Options{})
			if (err == nil) != c.ok {
				t.Fatalf("open says %v", err)
			}
			if err != nil && !strings.Contains(err.Error(), "chmod") {
				t.Errorf("the error does not say what to do: %v", err)
			}
			if healthy := k.Health(t.Context()) == nil; healthy != c.ok {
				t.Errorf("healthy is %v", healthy)
			}
		})
	}
}

func TestMasterKeyIsNeverMadeAgainBesideKeys(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ring")
	_, key, _, _ := made(t, dir, keyring.Options{})
	master := filepath.Join(dir, "master.key")
	kept, err := os.ReadFile(master)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(master); err != nil {
		t.Fatal(err)
	}
	if _, err := keyring.Open(dir, keyring.Options{}); err == nil {
		t.Fatal("a new master key was made beside keys of the old one")
	}
	if err := os.WriteFile(master, bytes.Repeat([]byte{7}, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := open(t, dir, keyring.Options{}).Ensure(t.Context(), key); !errors.Is(err, driver.ErrIntegrity) {
		t.Fatalf("with another master key: %v", err)
	}
	for _, size := range []int{31, 33} {
		if err := os.WriteFile(master, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := keyring.Open(dir, keyring.Options{}); err == nil {
			t.Fatalf("a master key of %d bytes was taken", size)
		}
	}
	if err := os.WriteFile(master, kept, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := open(t, dir, keyring.Options{}).Ensure(t.Context(), key); err != nil {
		t.Fatal(err)
	}
}

func TestManyOpenersAgreeOnOneMasterKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ring")
	rings := make([]*keyring.Keyring, 8)
	var all sync.WaitGroup
	for i := range rings {
		all.Go(func() {
			var err error
			if rings[i], err = keyring.Open(dir, keyring.Options{}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if t.Failed() {
		return
	}
	key := driver.KeyName(tenants.NewID())
	for _, k := range rings {
		if err := k.Ensure(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
}

func TestChangedKeyFileIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ring")
	k, key, id, dk := made(t, dir, keyring.Options{})
	if err := k.Disable(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	_, other, _, _ := made(t, dir, keyring.Options{})
	good, err := os.ReadFile(keyFile(dir, key))
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := os.ReadFile(keyFile(dir, other))
	if err != nil {
		t.Fatal(err)
	}
	enabled := bytes.Replace(good, []byte(`"disabled"`), []byte(`"alive"`), 1)
	if bytes.Equal(enabled, good) {
		t.Fatal("the state was not found in the file")
	}
	for name, raw := range map[string][]byte{
		"state edited": enabled, "another tenant's file": foreign, "cut": good[:len(good)/2], "empty": nil,
	} {
		if err := os.WriteFile(keyFile(dir, key), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := k.Unwrap(t.Context(), key, "field", id, dk.Wrapped); !errors.Is(err, driver.ErrIntegrity) {
			t.Errorf("%s: %v", name, err)
		}
		if err := k.Ensure(t.Context(), key); !errors.Is(err, driver.ErrIntegrity) {
			t.Errorf("%s: ensure says %v", name, err)
		}
	}
	if err := os.WriteFile(keyFile(dir, key), good, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := k.Enable(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Unwrap(t.Context(), key, "field", id, dk.Wrapped); err != nil {
		t.Fatal(err)
	}
}

// TestProcesses runs the test binary as other processes that rotate one key at
// the same time: the lock holds across processes, so no rotation is lost.
func TestProcesses(t *testing.T) {
	const dirVar, keyVar, rounds, processes = "KEYRING_TEST_DIR", "KEYRING_TEST_KEY", 10, 4
	if dir := os.Getenv(dirVar); dir != "" {
		k := open(t, dir, keyring.Options{})
		for range rounds {
			if _, err := k.Rotate(t.Context(), os.Getenv(keyVar)); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	dir := filepath.Join(t.TempDir(), "ring")
	k, key, id, dk := made(t, dir, keyring.Options{})
	var all sync.WaitGroup
	for range processes {
		all.Go(func() {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProcesses$")
			cmd.Env = append(os.Environ(), dirVar+"="+dir, keyVar+"="+key)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	all.Wait()
	status, err := k.Status(t.Context(), key)
	if err != nil || status.Version != 1+rounds*processes {
		t.Fatalf("%+v, %v", status, err)
	}
	if _, err := k.Unwrap(t.Context(), key, "field", id, dk.Wrapped); err != nil {
		t.Fatal(err)
	}
}

func TestLockRespectsTheDeadline(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ring")
	k, key, _, _ := made(t, dir, keyring.Options{})
	held := make(chan struct{})
	holder := exec.CommandContext(t.Context(), "flock", filepath.Join(dir, "lock"), "sh", "-c", "echo held; read _")
	release, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = out.Read(make([]byte, 8))
		close(held)
	}()
	<-held
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := k.Rotate(ctx, key); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("with the lock held: %v", err)
	}
	_ = release.Close()
	_ = holder.Wait()
	if _, err := k.Rotate(t.Context(), key); err != nil {
		t.Error(err)
	}
}

func TestCrashLeavesTheOldKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ring")
	k, key, id, dk := made(t, dir, keyring.Options{})
	// What a crash between write and rename leaves.
	if err := os.WriteFile(filepath.Join(dir, "keys", ".half.tmp"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	// A full or read-only disk: the change fails, and the old file stays.
	if err := os.Chmod(filepath.Join(dir, "keys"), 0o500); err != nil {
		t.Fatal(err)
	}
	_, err := k.Rotate(t.Context(), key)
	if os.Geteuid() != 0 && !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("on a read-only directory: %v", err)
	}
	if err := os.Chmod(filepath.Join(dir, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Unwrap(t.Context(), key, "field", id, dk.Wrapped); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkUnwrap(b *testing.B) {
	k, err := keyring.Open(filepath.Join(b.TempDir(), "ring"), keyring.Options{})
	if err != nil {
		b.Fatal(err)
	}
	key, id := driver.KeyName(tenants.NewID()), tenants.NewID()
	if err := k.Ensure(b.Context(), key); err != nil {
		b.Fatal(err)
	}
	dk, err := k.NewDataKey(b.Context(), key, "field", id)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := k.Unwrap(b.Context(), key, "field", id, dk.Wrapped); err != nil {
			b.Fatal(err)
		}
	}
}
