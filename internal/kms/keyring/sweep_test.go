package keyring_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/caresphere/caresphere/internal/kms/driver"
	"github.com/caresphere/caresphere/internal/kms/keyring"
)

// leave plants what a writer leaves that is killed between writing and renaming: the
// key's file under the name of an unfinished one. It returns that name, and another
// that keeps the blocks in sight.
func leave(t *testing.T, dir, key string) (left, witness string, raw []byte) {
	t.Helper()
	raw, err := os.ReadFile(keyFile(dir, key))
	if err != nil {
		t.Fatal(err)
	}
	left, witness = filepath.Join(dir, "keys", ".KILLED.tmp"), filepath.Join(dir, "witness")
	if err := os.WriteFile(left, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(left, witness); err != nil {
		t.Fatal(err)
	}
	return left, witness, raw
}

func destroyed(t *testing.T, left, witness string, raw []byte) {
	t.Helper()
	if _, err := os.Lstat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the unfinished file is there: %v", err)
	}
	after, err := os.ReadFile(witness)
	if err != nil {
		t.Fatal(err)
	}
	if len(after) != len(raw) || bytes.Contains(after, raw[len(raw)/4:len(raw)/4+24]) {
		t.Error("its blocks were not overwritten")
	}
}

// TestShredLeavesNoUnfinishedCopy puts an unfinished copy back as an attacker would: it
// opens what the key had wrapped, so it must not be there to be put back.
func TestShredLeavesNoUnfinishedCopy(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ring")
	k, key, id, dk := made(t, dir, keyring.Options{})
	_, other, otherID, otherKey := made(t, dir, keyring.Options{})
	left, witness, raw := leave(t, dir, key)
	if err := k.Shred(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	destroyed(t, left, witness, raw)
	if _, err := k.Unwrap(t.Context(), other, "field", otherID, otherKey.Wrapped); err != nil {
		t.Fatalf("another key: %v", err)
	}
	if err := os.WriteFile(keyFile(dir, key), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Unwrap(t.Context(), key, "field", id, dk.Wrapped); err != nil {
		t.Fatalf("the planted copy should open what was wrapped: %v", err)
	}
}

func TestOpenRemovesWhatAKilledWriterLeft(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ring")
	_, key, id, dk := made(t, dir, keyring.Options{})
	left, witness, raw := leave(t, dir, key)
	// What nobody of ours writes stays.
	foreign := filepath.Join(dir, "keys", "note.tmp")
	if err := os.WriteFile(foreign, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	again := open(t, dir, keyring.Options{})
	destroyed(t, left, witness, raw)
	if _, err := os.Lstat(foreign); err != nil {
		t.Error(err)
	}
	if _, err := again.Unwrap(t.Context(), key, "field", id, dk.Wrapped); err != nil {
		t.Fatal(err)
	}
}

// TestShredWithoutItsSweepFails has an unfinished file that nobody can write to, for it
// is a program that runs.
func TestShredWithoutItsSweepFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ring")
	k, key, _, _ := made(t, dir, keyring.Options{})
	cat, err := exec.LookPath("cat")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(cat)
	if err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(dir, "keys", ".KILLED.tmp")
	if err := os.WriteFile(left, program, 0o700); err != nil {
		t.Fatal(err)
	}
	running := exec.CommandContext(t.Context(), left)
	running.Args[0] = "cat"
	end, err := running.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := running.Start(); err != nil {
		t.Fatal(err)
	}
	if err := k.Shred(t.Context(), key); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("with a copy left: %v", err)
	}
	_ = end.Close()
	_ = running.Wait()
	if err := k.Shred(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the unfinished file is there: %v", err)
	}
}
