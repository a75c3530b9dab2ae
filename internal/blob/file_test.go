package blob_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caresphere/caresphere/internal/blob"
	"github.com/caresphere/caresphere/internal/blob/blobtest"
)

func openFile(t *testing.T, dir string) blob.Store {
	t.Helper()
	s, err := blob.Open(blob.Config{URL: "file:" + dir})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestFileConformance(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "objects")
	blobtest.Run(t, openFile(t, dir))
	left, err := os.ReadDir(filepath.Join(dir, ".incoming"))
	if err != nil || len(left) != 0 {
		t.Errorf("unfinished objects are left: %v, %v", left, err)
	}
}

func TestFilesArePrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "objects")
	s := openFile(t, dir)
	if err := s.Put(t.Context(), "a/b/c", strings.NewReader("x"), 1); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %04o", path, info.Mode().Perm())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestFileStoreDoesNotLeaveItsRoot(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.MkdirAll(outside, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "objects")
	s := openFile(t, dir)
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), "link/secret"); err == nil {
		t.Error("a link led out of the root")
	}
	if err := s.Put(t.Context(), "link/new", strings.NewReader("x"), 1); err == nil {
		t.Error("a link was written through")
	}
	if _, err := os.Stat(filepath.Join(outside, "new")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("outside: %v", err)
	}
	if err := s.Put(t.Context(), "inside/new", strings.NewReader("x"), 1); err != nil {
		t.Error(err)
	}
}

func TestKeyAndPrefixOfOneNameDoNotMix(t *testing.T) {
	s := openFile(t, filepath.Join(t.TempDir(), "objects"))
	if err := s.Put(t.Context(), "a", strings.NewReader("x"), 1); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), "a/b", strings.NewReader("x"), 1); !errors.Is(err, blob.ErrExists) {
		t.Errorf("below an object: %v", err)
	}
	if err := s.Put(t.Context(), "p/b", strings.NewReader("x"), 1); err != nil {
		t.Fatal(err)
	}
	for name, put := range map[string]func(context.Context, string, io.Reader, int64) error{"put": s.Put, "replace": s.Replace} {
		if err := put(t.Context(), "p", strings.NewReader("x"), 1); !errors.Is(err, blob.ErrExists) {
			t.Errorf("%s in place of a prefix: %v", name, err)
		}
	}
}

func TestOldRemainsAreSweptAndFreshOnesStay(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "objects")
	_ = openFile(t, dir)
	old, fresh := filepath.Join(dir, ".incoming", "old"), filepath.Join(dir, ".incoming", "fresh")
	for _, name := range []string{old, fresh} {
		if err := os.WriteFile(name, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	past := time.Now().Add(-25 * time.Hour)
	if err := os.Chtimes(old, past, past); err != nil {
		t.Fatal(err)
	}
	_ = openFile(t, dir)
	if _, err := os.Stat(old); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old one: %v", err)
	}
	if _, err := os.Stat(fresh); err != nil {
		t.Errorf("the fresh one: %v", err)
	}
}

func TestTruncatedFileIsAnErrorAndNotAShortObject(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "objects")
	s := openFile(t, dir)
	body := strings.Repeat("x", 1<<20)
	if err := s.Put(t.Context(), "k", strings.NewReader(body), int64(len(body))); err != nil {
		t.Fatal(err)
	}
	r, err := s.Get(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "k"), 5000); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); !errors.Is(err, io.ErrUnexpectedEOF) || !errors.Is(err, blob.ErrUnavailable) {
		t.Errorf("a file cut while it is read: %v", err)
	}
}

func TestHealthNeedsAWritableRoot(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "objects")
	s := openFile(t, dir)
	if err := s.Health(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, ".incoming")); err != nil {
		t.Fatal(err)
	}
	if err := s.Health(t.Context()); !errors.Is(err, blob.ErrUnavailable) {
		t.Errorf("health without the incoming directory: %v", err)
	}
}

func TestWrongConfigurationIsRefused(t *testing.T) {
	for _, url := range []string{"", "file:", "ftp:x", "s3:", "s3:http://h/b", "s3:https://h", "s3:https://h/a/b", "s3:https://u:p@h/b"} {
		if _, err := blob.Open(blob.Config{URL: url}); err == nil {
			t.Errorf("%q was opened", url)
		}
	}
}
