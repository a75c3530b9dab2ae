package routes

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/internal/obs"
	"github.com/caresphere/caresphere/tenants"
)

// FileName is the last known good document's name in the state directory.
const FileName = "routes.note"

// ErrLowerVersion is the cause when a document is older than the table at hand.
var ErrLowerVersion = errors.New("the route table is older than the one at hand")

// Table is one snapshot. It never changes; Store.Table returns the newest.
type Table struct {
	version  int64
	issued   time.Time
	bySlug   map[string]tenants.Route
	byTenant map[tenants.ID]tenants.Route
	byCell   map[string][]tenants.Worker
	workers  []tenants.Worker
	now      func() time.Time
}

func newTable(t tenants.RouteTable, now func() time.Time) *Table {
	out := &Table{version: t.Version, issued: t.IssuedAt, now: now,
		bySlug: make(map[string]tenants.Route, len(t.Routes)), byTenant: make(map[tenants.ID]tenants.Route, len(t.Routes)),
		byCell: map[string][]tenants.Worker{}, workers: slices.Clone(t.Workers)}
	for _, r := range t.Routes {
		out.bySlug[r.Slug], out.byTenant[r.TenantID] = r, r
	}
	for _, w := range t.Workers {
		out.byCell[w.CellID] = append(out.byCell[w.CellID], w)
	}
	return out
}

// BySlug returns the route of a slug, unless it has none or it is past its NotAfter.
func (t *Table) BySlug(slug string) (tenants.Route, bool) { return t.inForce(t.bySlug[slug]) }

// ByTenant is BySlug for a tenant's id.
func (t *Table) ByTenant(id tenants.ID) (tenants.Route, bool) { return t.inForce(t.byTenant[id]) }

func (t *Table) inForce(r tenants.Route) (tenants.Route, bool) {
	if r.TenantID.IsZero() || !t.now().Before(r.NotAfter) {
		return tenants.Route{}, false
	}
	return r, true
}

// Workers returns the workers of a cell. The caller must not change the slice.
func (t *Table) Workers(cell string) []tenants.Worker { return t.byCell[cell] }

// AllWorkers returns every worker. The caller must not change the slice.
func (t *Table) AllWorkers() []tenants.Worker { return t.workers }

// Version is the table's version; 0 before the first table.
func (t *Table) Version() int64 { return t.version }

// IssuedAt is when the control plane made the table.
func (t *Table) IssuedAt() time.Time { return t.issued }

// Store holds the newest table and its copy on disk. Reading takes no lock.
type Store struct {
	verifier note.Verifier
	path     string
	now      func() time.Time
	table    atomic.Pointer[Table]

	mu   sync.Mutex
	subs map[chan struct{}]struct{}
}

// Option changes how a Store works.
type Option func(*Store)

// WithClock replaces the clock that NotAfter is held against.
func WithClock(now func() time.Time) Option { return func(s *Store) { s.now = now } }

// Open returns a store that begins with the last known good table in dir, if
// there is one. A copy that cannot be read or verified is left aside with an
// error in the log: the process then waits for the control plane. The error is
// for a directory that cannot be used.
func Open(dir string, verifier note.Verifier, options ...Option) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the state directory: %w", err)
	}
	s := &Store{verifier: verifier, path: filepath.Join(dir, FileName), now: time.Now, subs: map[chan struct{}]struct{}{}}
	for _, o := range options {
		o(s)
	}
	s.table.Store(newTable(tenants.RouteTable{}, s.now))
	doc, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		var table tenants.RouteTable
		if table, err = Verify(doc, verifier); err == nil {
			s.table.Store(newTable(table, s.now))
			slog.Info("starting with the last known good route table", "version", table.Version, "issued_at", table.IssuedAt)
			return s, nil
		}
	}
	slog.Error("THE LAST KNOWN GOOD ROUTE TABLE CANNOT BE USED; waiting for the control plane", "file", s.path, obs.Err(err))
	return s, nil
}

// Table returns the newest snapshot, never nil.
func (s *Store) Table() *Table { return s.table.Load() }

// BySlug asks the newest snapshot; see Table.BySlug.
func (s *Store) BySlug(slug string) (tenants.Route, bool) { return s.Table().BySlug(slug) }

// ByTenant asks the newest snapshot; see Table.ByTenant.
func (s *Store) ByTenant(id tenants.ID) (tenants.Route, bool) { return s.Table().ByTenant(id) }

// Put verifies a document, keeps it on disk and makes it the newest table. It
// reports whether the table is newer than before; the same version again is no
// error. The error wraps ErrNotAuthentic or ErrLowerVersion. If the disk refuses,
// the table is used all the same and the log says so: a withdrawn route must not
// live on because a disk is full.
func (s *Store) Put(doc []byte) (bool, error) {
	table, err := Verify(doc, s.verifier)
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch have := s.Table().Version(); {
	case table.Version < have:
		return false, fmt.Errorf("%w: %d after %d", ErrLowerVersion, table.Version, have)
	case table.Version == have:
		return false, nil
	}
	s.table.Store(newTable(table, s.now))
	if err := replaceFile(s.path, doc); err != nil {
		slog.Error("the route table could not be kept on disk; a restart would begin with an older one", obs.Err(err))
	}
	for sub := range s.subs {
		select {
		case sub <- struct{}{}:
		default: // it has not looked yet, and will see the newest when it does
		}
	}
	return true, nil
}

// Updated returns a channel that receives after each newer table, several at
// once if the reader is slow, and a function that ends the subscription.
func (s *Store) Updated() (<-chan struct{}, func()) {
	sub := make(chan struct{}, 1)
	s.mu.Lock()
	s.subs[sub] = struct{}{}
	s.mu.Unlock()
	return sub, func() {
		s.mu.Lock()
		delete(s.subs, sub)
		s.mu.Unlock()
	}
}

// replaceFile makes the content durable before it takes the name.
func replaceFile(path string, content []byte) error {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("making a file: %w", err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // gone already after the rename
	_, err = tmp.Write(content)
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("writing a file: %w", err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return fmt.Errorf("renaming a file: %w", err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("opening the directory: %w", err)
	}
	defer func() { _ = d.Close() }()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("syncing the directory: %w", err)
	}
	return nil
}
