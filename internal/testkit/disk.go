package testkit

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/caresphere/caresphere/internal/devstack"
)

// A Disk is a small file system under a part of a stack that was asked for with
// OnDisks.
type Disk string

// The disks: the database's, with its write-ahead log, and the object store's.
const (
	DatabaseDisk Disk = "postgres"
	ObjectDisk   Disk = "objects"
)

// diskMiB is their size: several times what a fresh stack takes.
const diskMiB = 768

// ballast is the file that takes what is left of a disk.
const ballast = "ballast"

// path is where the disk is mounted.
func (d Disk) path(l devstack.Layout, full bool) string {
	switch {
	case d == DatabaseDisk:
		return l.Path("postgres")
	case full:
		return l.Path("s3")
	default:
		return l.Path("blobs")
	}
}

// OnDisks asks for a stack whose database and objects are each on a small disk that
// a test can fill. It needs a machine on which CannotMount returns nothing.
func OnDisks() StackOption { return func(v url.Values) { v.Set("disks", "true") } }

// CannotMount says why this machine cannot have small disks, or nothing.
func CannotMount(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := mountMemory(t.Context(), dir, 1); err != nil {
		return err.Error()
	}
	if err := unmount(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	return ""
}

// Fill takes what is left of the disk. The test's end frees it.
func (s *RunningStack) Fill(t testing.TB, d Disk) {
	t.Helper()
	t.Cleanup(func() { s.Free(t, d) })
	s.control(t, "fill", string(d))
}

// Free gives the disk its room back.
func (s *RunningStack) Free(t testing.TB, d Disk) { t.Helper(); s.control(t, "free", string(d)) }

// StartDatabase starts PostgreSQL if it has ended, as whoever operates it would. It
// returns the process number.
func (s *RunningStack) StartDatabase(t testing.TB) int {
	t.Helper()
	return s.control(t, "start-database", "")
}

// mountMemory mounts a file system of so many MiB of memory.
func mountMemory(ctx context.Context, dir string, mib int) error {
	if os.Getuid() != 0 {
		return errors.New("mounting needs root")
	}
	out, err := exec.CommandContext(ctx, "mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%dm,mode=0700", mib), "caresphere-test", dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mounting: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// unmount takes the file system from its place at once; it goes when the last process
// that has a file open in it does, as the server's log writer has for a moment.
func unmount(ctx context.Context, dir string) error {
	if out, err := exec.CommandContext(ctx, "umount", "-l", dir).CombinedOutput(); err != nil {
		return fmt.Errorf("unmounting: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// mountDisks puts a stack's disks where its folders will be.
func (h *Host) mountDisks(ctx context.Context, l devstack.Layout, full bool) error {
	if err := os.MkdirAll(l.State, 0o711); err != nil { //nolint:gosec // the database's account passes through
		return fmt.Errorf("making the state folder: %w", err)
	}
	for _, d := range []Disk{DatabaseDisk, ObjectDisk} {
		dir := d.path(l, full)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("making the place of a disk: %w", err)
		}
		if err := mountMemory(ctx, dir, diskMiB); err != nil {
			return err
		}
		h.onClose(func(ctx context.Context) error { return unmount(ctx, dir) })
	}
	return nil
}

// fill writes until nothing more fits.
func fill(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, ballast), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("filling the disk: %w", err)
	}
	defer func() { _ = f.Close() }()
	for size := 1 << 20; size > 0; size >>= 1 {
		for err == nil {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			return fmt.Errorf("filling the disk: %w", err)
		}
		err = nil
	}
	return nil
}

func free(dir string) error {
	if err := os.Remove(filepath.Join(dir, ballast)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("freeing the disk: %w", err)
	}
	return nil
}
