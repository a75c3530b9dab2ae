package blob

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"
)

// fileStore keeps objects as files under one root. os.Root keeps every access
// inside it, symbolic links included.
type fileStore struct{ root *os.Root }

// tmpDir holds objects on their way in. No key can begin with a dot.
const tmpDir = ".incoming"

func openFile(dir string) (*fileStore, error) {
	if dir == "" {
		return nil, errors.New("blob: file needs a directory, as file:/var/lib/caresphere/objects")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("blob: making the directory: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("blob: opening the directory: %w", err)
	}
	if err := root.MkdirAll(tmpDir, 0o700); err != nil {
		return nil, fmt.Errorf("blob: making the directory: %w", err)
	}
	s := &fileStore{root: root}
	return s, s.sweep()
}

// sweep removes what a crash left on its way in a day ago or earlier.
func (s *fileStore) sweep() error {
	entries, err := fs.ReadDir(s.root.FS(), tmpDir)
	if err != nil {
		return fmt.Errorf("blob: looking at unfinished objects: %w", err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > 24*time.Hour {
			_ = s.root.Remove(path.Join(tmpDir, e.Name()))
		}
	}
	return nil
}

// Put implements Store: a hard link, unlike a rename, fails when the key is taken.
func (s *fileStore) Put(ctx context.Context, key string, r io.Reader, size int64) error {
	return s.store(ctx, key, r, size, s.root.Link)
}

// Replace implements Store.
func (s *fileStore) Replace(ctx context.Context, key string, r io.Reader, size int64) error {
	return s.store(ctx, key, r, size, s.root.Rename)
}

func (s *fileStore) store(ctx context.Context, key string, r io.Reader, size int64, publish func(from, to string) error) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	source, err := exact(ctx, r, size)
	if err != nil {
		return err
	}
	tmp := path.Join(tmpDir, rand.Text())
	f, err := s.root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fileError("writing", err)
	}
	defer func() { _ = s.root.Remove(tmp) }()
	_, err = io.Copy(f, source)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if source.wrong != nil {
		return source.wrong
	}
	if err != nil {
		return fileError("writing", err)
	}
	if err := s.root.MkdirAll(path.Dir(key), 0o700); err != nil {
		return fileError("making the prefix", err)
	}
	if err := publish(tmp, key); err != nil {
		return fileError("publishing", err)
	}
	return s.syncUp(path.Dir(key))
}

// syncUp makes the names durable, from the object's directory up to the root.
func (s *fileStore) syncUp(dir string) error {
	for {
		d, err := s.root.Open(dir)
		if err != nil {
			return fileError("syncing", err)
		}
		err = d.Sync()
		if cerr := d.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return fileError("syncing", err)
		}
		if dir == "." {
			return nil
		}
		dir = path.Dir(dir)
	}
}

// Get implements Store.
func (s *fileStore) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("blob: %w: %w", ErrUnavailable, err)
	}
	f, err := s.root.Open(key)
	if err != nil {
		return nil, fileError("reading", err)
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		_ = f.Close()
		if err == nil {
			err = fs.ErrNotExist
		}
		return nil, fileError("reading", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	return &watched{ctx: ctx, done: cancel, body: f, left: info.Size()}, nil
}

// Delete implements Store.
func (s *fileStore) Delete(ctx context.Context, key string) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("blob: %w: %w", ErrUnavailable, err)
	}
	info, err := s.root.Lstat(key)
	if err == nil && info.IsDir() {
		return nil
	}
	if err == nil {
		err = s.root.Remove(key)
	}
	if err != nil {
		if err = fileError("deleting", err); errors.Is(err, ErrNotFound) {
			return nil
		}
		return err
	}
	return s.syncUp(path.Dir(key))
}

// List implements Store.
func (s *fileStore) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		dir := "."
		if prefix != "" {
			if err := CheckPrefix(prefix); err != nil {
				yield(Object{}, err)
				return
			}
			dir = strings.TrimSuffix(prefix, "/")
		}
		s.walk(ctx, dir, yield)
	}
}

// walk yields the objects below dir in the byte order of their whole keys, as S3
// does: a directory sorts as its name with the slash that follows it.
func (s *fileStore) walk(ctx context.Context, dir string, yield func(Object, error) bool) bool {
	if err := ctx.Err(); err != nil {
		yield(Object{}, fmt.Errorf("blob: %w: %w", ErrUnavailable, err))
		return false
	}
	entries, err := fs.ReadDir(s.root.FS(), dir)
	if err != nil {
		if err = fileError("listing", err); !errors.Is(err, ErrNotFound) {
			yield(Object{}, err)
			return false
		}
		return true
	}
	name := func(e fs.DirEntry) string {
		if e.IsDir() {
			return e.Name() + "/"
		}
		return e.Name()
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(name(a), name(b)) })
	for _, e := range entries {
		key := path.Join(dir, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), "."):
		case e.IsDir():
			if !s.walk(ctx, key, yield) {
				return false
			}
		case e.Type().IsRegular():
			info, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				yield(Object{}, fileError("listing", err))
				return false
			}
			if !yield(Object{Key: key, Size: info.Size(), ModifiedAt: info.ModTime()}, nil) {
				return false
			}
		}
	}
	return true
}

// EnsurePrefix implements Store.
func (s *fileStore) EnsurePrefix(ctx context.Context, prefix string) error {
	return ensurePrefix(ctx, s, prefix)
}

// Health implements Store: the root can be listed and written.
func (s *fileStore) Health(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("blob: %w: %w", ErrUnavailable, err)
	}
	name := path.Join(tmpDir, "health-"+rand.Text())
	f, err := s.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("blob: %w: %w", ErrUnavailable, err)
	}
	err = f.Close()
	if rerr := s.root.Remove(name); err == nil {
		err = rerr
	}
	if err != nil {
		return fmt.Errorf("blob: %w: %w", ErrUnavailable, err)
	}
	return nil
}

// fileError gives an error of the file system one of the package's errors.
func fileError(doing string, err error) error {
	kind := ErrUnavailable
	switch {
	case errors.Is(err, fs.ErrNotExist):
		kind = ErrNotFound
	case errors.Is(err, fs.ErrExist), errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.ENOTDIR):
		// A name cannot be a file and a directory at once: looking below a file
		// finds nothing, and writing there meets an object that is in the way.
		kind = ErrExists
		if doing == "reading" || doing == "deleting" || doing == "listing" {
			kind = ErrNotFound
		}
	case errors.Is(err, fs.ErrPermission):
		kind = ErrAuth
	}
	return fmt.Errorf("blob: %s: %w: %w", doing, kind, err)
}

// ensurePrefix puts the marker; one that is there already is right.
func ensurePrefix(ctx context.Context, s Store, prefix string) error {
	if err := CheckPrefix(prefix); err != nil {
		return err
	}
	err := s.Put(ctx, prefix+Marker, strings.NewReader(""), 0)
	if errors.Is(err, ErrExists) {
		return nil
	}
	return err
}
