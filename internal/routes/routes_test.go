package routes_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/internal/routes"
	"github.com/caresphere/caresphere/tenants"
)

type key struct {
	signer   note.Signer
	verifier note.Verifier
}

func newKey(t testing.TB, name string) key {
	t.Helper()
	s, v, err := note.GenerateKey(rand.Reader, name)
	require.NoError(t, err)
	signer, err := note.NewSigner(s)
	require.NoError(t, err)
	verifier, err := note.NewVerifier(v)
	require.NoError(t, err)
	return key{signer, verifier}
}

var end = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func table(version int64, slugs ...string) tenants.RouteTable {
	t := tenants.RouteTable{Version: version, IssuedAt: end.AddDate(-1, 0, 0), Workers: []tenants.Worker{
		{ID: "b", CellID: "main", URL: "https://127.0.0.1:2"}, {ID: "a", CellID: "main", URL: "https://127.0.0.1:1"}}}
	for i, s := range slugs {
		t.Routes = append(t.Routes, tenants.Route{Slug: s, TenantID: tenants.ID{15: byte(i + 1)}, CellID: "main",
			Epoch: 1, Mode: tenants.GateOpen, NotAfter: end})
	}
	return t
}

func sign(t testing.TB, k key, tab tenants.RouteTable) []byte {
	t.Helper()
	doc, err := routes.Sign(tab, k.signer)
	require.NoError(t, err)
	return doc
}

func TestEveryChangedByteIsFound(t *testing.T) {
	k := newKey(t, "caresphere-route")
	doc := sign(t, k, table(1, "oak"))
	_, err := routes.Verify(doc, k.verifier)
	require.NoError(t, err)
	for i := range doc {
		bad := bytes.Clone(doc)
		bad[i] ^= 1
		_, err := routes.Verify(bad, k.verifier)
		require.Error(t, err, "byte %d", i)
	}
	_, err = routes.Verify(doc, newKey(t, "caresphere-route").verifier)
	require.ErrorIs(t, err, routes.ErrNotAuthentic)
	_, err = routes.Verify(nil, k.verifier)
	require.ErrorIs(t, err, routes.ErrNotAuthentic)
	// The same key's signature on another kind of document is no route table.
	other, err := note.Sign(&note.Note{Text: "something else\n{}\n"}, k.signer)
	require.NoError(t, err)
	_, err = routes.Verify(other, k.verifier)
	require.ErrorIs(t, err, routes.ErrNotAuthentic)
}

func TestTheFormIsCanonical(t *testing.T) {
	k := newKey(t, "caresphere-route")
	a, b := table(1, "oak", "elm"), table(1, "oak", "elm")
	b.Routes[0], b.Routes[1] = b.Routes[1], b.Routes[0]
	b.IssuedAt = b.IssuedAt.In(time.FixedZone("x", 3600))
	require.Equal(t, string(sign(t, k, a)), string(sign(t, k, b)))
	require.Equal(t, "oak", a.Routes[0].Slug, "the caller's table was changed")
}

func TestATableThatMisleadsIsRefused(t *testing.T) {
	k := newKey(t, "caresphere-route")
	for name, change := range map[string]func(*tenants.RouteTable){
		"no version":      func(t *tenants.RouteTable) { t.Version = 0 },
		"bad slug":        func(t *tenants.RouteTable) { t.Routes[0].Slug = "../x" },
		"slug twice":      func(t *tenants.RouteTable) { t.Routes[1].Slug = t.Routes[0].Slug },
		"tenant twice":    func(t *tenants.RouteTable) { t.Routes[1].TenantID = t.Routes[0].TenantID },
		"no tenant":       func(t *tenants.RouteTable) { t.Routes[0].TenantID = tenants.NilID },
		"no cell":         func(t *tenants.RouteTable) { t.Routes[0].CellID = "" },
		"no end":          func(t *tenants.RouteTable) { t.Routes[0].NotAfter = time.Time{} },
		"closed gate":     func(t *tenants.RouteTable) { t.Routes[0].Mode = tenants.GateClosed },
		"plain worker":    func(t *tenants.RouteTable) { t.Workers[0].URL = "http://127.0.0.1:1" },
		"worker and path": func(t *tenants.RouteTable) { t.Workers[0].URL = "https://127.0.0.1:1/x" },
		"worker twice":    func(t *tenants.RouteTable) { t.Workers[0].ID = t.Workers[1].ID },
	} {
		tab := table(1, "oak", "elm")
		change(&tab)
		_, err := routes.Sign(tab, k.signer)
		require.Error(t, err, name)
	}
}

func TestLookupsEndWithTheAgreement(t *testing.T) {
	k := newKey(t, "caresphere-route")
	now := end.Add(-time.Second)
	s, err := routes.Open(t.TempDir(), k.verifier, routes.WithClock(func() time.Time { return now }))
	require.NoError(t, err)
	_, ok := s.BySlug("oak")
	require.False(t, ok)
	newer, err := s.Put(sign(t, k, table(1, "oak")))
	require.NoError(t, err)
	require.True(t, newer)
	r, ok := s.BySlug("oak")
	require.True(t, ok)
	_, ok = s.ByTenant(r.TenantID)
	require.True(t, ok)
	_, ok = s.BySlug("elm")
	require.False(t, ok)
	_, ok = s.ByTenant(tenants.NilID)
	require.False(t, ok)
	now = end
	_, ok = s.BySlug("oak")
	require.False(t, ok)
	_, ok = s.ByTenant(r.TenantID)
	require.False(t, ok)
	require.Len(t, s.Table().Workers("main"), 2)
	require.Empty(t, s.Table().Workers("other"))
}

func TestAnOlderTableIsRefused(t *testing.T) {
	k, dir := newKey(t, "caresphere-route"), t.TempDir()
	s, err := routes.Open(dir, k.verifier)
	require.NoError(t, err)
	updated, done := s.Updated()
	defer done()
	for _, step := range []struct {
		version int64
		newer   bool
		err     error
	}{{5, true, nil}, {5, false, nil}, {4, false, routes.ErrLowerVersion}, {6, true, nil}} {
		newer, err := s.Put(sign(t, k, table(step.version, "oak")))
		require.ErrorIs(t, err, step.err)
		require.Equal(t, step.newer, newer)
	}
	<-updated
	// A restart knows the version that it had.
	s, err = routes.Open(dir, k.verifier)
	require.NoError(t, err)
	require.EqualValues(t, 6, s.Table().Version())
	_, err = s.Put(sign(t, k, table(5)))
	require.ErrorIs(t, err, routes.ErrLowerVersion)
	_, err = s.Put(sign(t, newKey(t, "caresphere-route"), table(9)))
	require.ErrorIs(t, err, routes.ErrNotAuthentic)
	require.EqualValues(t, 6, s.Table().Version())
}

func TestADamagedCopyIsLeftAside(t *testing.T) {
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	defer slog.SetDefault(before)
	k, dir := newKey(t, "caresphere-route"), t.TempDir()
	s, err := routes.Open(dir, k.verifier)
	require.NoError(t, err)
	doc := sign(t, k, table(3, "oak"))
	_, err = s.Put(doc)
	require.NoError(t, err)
	path := filepath.Join(dir, routes.FileName)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 1)
	for name, content := range map[string][]byte{"cut": doc[:len(doc)/2], "empty": nil, "changed": bytes.Replace(doc, []byte("oak"), []byte("elm"), 1)} {
		log.Reset()
		require.NoError(t, os.WriteFile(path, content, 0o600))
		s, err := routes.Open(dir, k.verifier)
		require.NoError(t, err, name)
		require.Zero(t, s.Table().Version())
		require.Contains(t, log.String(), "CANNOT BE USED")
		_, err = s.Put(doc)
		require.NoError(t, err)
	}
}

func TestAFullDiskDoesNotKeepARouteAlive(t *testing.T) {
	k, dir := newKey(t, "caresphere-route"), filepath.Join(t.TempDir(), "state")
	s, err := routes.Open(dir, k.verifier)
	require.NoError(t, err)
	_, err = s.Put(sign(t, k, table(1, "oak")))
	require.NoError(t, err)
	require.NoError(t, os.RemoveAll(dir)) // as root, permissions would stop nobody
	_, err = s.Put(sign(t, k, table(2)))
	require.NoError(t, err)
	_, ok := s.BySlug("oak")
	require.False(t, ok)
}

// control is the control plane's end of the poll.
type control struct {
	mu    sync.Mutex
	doc   []byte
	ver   int64
	down  atomic.Bool
	calls atomic.Int64
}

func (c *control) set(t testing.TB, k key, tab tenants.RouteTable) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.doc, c.ver = sign(t, k, tab), tab.Version
}

func (c *control) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.calls.Add(1)
	if c.down.Load() {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	after, _ := strconv.ParseInt(r.URL.Query().Get("after"), 10, 64)
	deadline := time.After(200 * time.Millisecond)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		c.mu.Lock()
		doc, ver := c.doc, c.ver
		c.mu.Unlock()
		if ver > after {
			_, _ = w.Write(doc)
			return
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		case <-deadline:
			w.WriteHeader(http.StatusNoContent)
			return
		}
	}
}

func TestThePollerFollowsAndSurvives(t *testing.T) {
	k := newKey(t, "caresphere-route")
	c := &control{}
	srv := httptest.NewTLSServer(c)
	defer srv.Close()
	s, err := routes.Open(t.TempDir(), k.verifier)
	require.NoError(t, err)
	p := &routes.Poller{URL: srv.URL + "/", Client: srv.Client(), Store: s, FirstPause: 5 * time.Millisecond, LongestPause: 40 * time.Millisecond}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { p.Run(ctx); close(done) }()
	at := func(v int64) func() bool { return func() bool { return s.Table().Version() == v } }

	c.set(t, k, table(1, "oak"))
	require.Eventually(t, at(1), 5*time.Second, time.Millisecond)
	require.Eventually(t, func() bool { return !p.Heard().IsZero() }, 5*time.Second, time.Millisecond)
	c.down.Store(true)
	before := c.calls.Load()
	require.Eventually(t, func() bool { return c.calls.Load() > before+3 }, 5*time.Second, time.Millisecond, "it gave up")
	_, ok := s.BySlug("oak")
	require.True(t, ok, "the table was lost with the control plane")
	c.set(t, k, table(2, "oak", "elm"))
	c.down.Store(false)
	require.Eventually(t, at(2), 5*time.Second, time.Millisecond)
	// A table of another key is not taken, and the poller goes on.
	c.set(t, newKey(t, "caresphere-route"), table(3))
	before = c.calls.Load()
	require.Eventually(t, func() bool { return c.calls.Load() > before+3 }, 5*time.Second, time.Millisecond)
	require.EqualValues(t, 2, s.Table().Version())
	c.set(t, k, table(4, "oak"))
	require.Eventually(t, at(4), 5*time.Second, time.Millisecond)
	stop()
	<-done
}

func TestRefreshAsksOnceForMany(t *testing.T) {
	k := newKey(t, "caresphere-route")
	c := &control{}
	c.set(t, k, table(7, "oak"))
	srv := httptest.NewTLSServer(c)
	defer srv.Close()
	s, err := routes.Open(t.TempDir(), k.verifier)
	require.NoError(t, err)
	p := &routes.Poller{URL: srv.URL, Client: srv.Client(), Store: s}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { _ = p.Refresh(context.Background()) })
	}
	wg.Wait()
	require.EqualValues(t, 7, s.Table().Version())
	require.Less(t, c.calls.Load(), int64(20))
	c.down.Store(true)
	require.ErrorContains(t, p.Refresh(context.Background()), "status 502")
}

func BenchmarkLookup(b *testing.B) {
	k := newKey(b, "caresphere-route")
	slugs := make([]string, 5000)
	for i := range slugs {
		slugs[i] = fmt.Sprintf("org-%d", i)
	}
	tab := table(1)
	for i, slug := range slugs {
		tab.Routes = append(tab.Routes, tenants.Route{Slug: slug, TenantID: tenants.ID{14: byte(i >> 8), 15: byte(i), 0: 1}, CellID: "main", Mode: tenants.GateOpen, NotAfter: end})
	}
	s, err := routes.Open(b.TempDir(), k.verifier)
	require.NoError(b, err)
	_, err = s.Put(sign(b, k, tab))
	require.NoError(b, err)
	bare := map[string]tenants.Route{"org-4999": tab.Routes[4999]}
	b.Run("map", func(b *testing.B) {
		for b.Loop() {
			_ = bare["org-4999"]
		}
	})
	b.Run("store", func(b *testing.B) {
		for b.Loop() {
			if _, ok := s.BySlug("org-4999"); !ok {
				b.Fatal("lost")
			}
		}
	})
}
