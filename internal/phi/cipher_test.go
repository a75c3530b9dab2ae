package phi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caresphere/caresphere/internal/kms/driver"
	"github.com/caresphere/caresphere/internal/kms/keyring"
	"github.com/caresphere/caresphere/internal/phi"
	"github.com/caresphere/caresphere/tenants"
)

// source is a KeySource in memory: what the tenant's table of data keys promises.
type source struct {
	mu   sync.Mutex
	keys map[tenants.ID][]phi.StoredKey
	// fail is a fault of the database.
	fail error
}

func (s *source) Newest(_ context.Context, tenant tenants.ID, purpose string) (found phi.StoredKey, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return found, s.fail
	}
	err = tenants.NotFound()
	for _, k := range s.keys[tenant] {
		if k.Purpose == purpose && !k.CreatedAt.Before(found.CreatedAt) {
			found, err = k, nil
		}
	}
	return found, err
}

func (s *source) ByID(_ context.Context, tenant, id tenants.ID) (phi.StoredKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return phi.StoredKey{}, s.fail
	}
	for _, k := range s.keys[tenant] {
		if k.ID == id {
			return k, nil
		}
	}
	return phi.StoredKey{}, tenants.NotFound()
}

func (s *source) Add(ctx context.Context, tenant tenants.ID, k phi.StoredKey) error {
	if _, err := s.ByID(ctx, tenant, k.ID); err == nil {
		return tenants.NewError(tenants.KindConflict, "there is such a key")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, have := range s.keys[tenant] {
		if have.ID == k.ID {
			return nil
		}
	}
	s.keys[tenant] = append(s.keys[tenant], k)
	return s.fail
}

func (s *source) count(tenant tenants.ID) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.keys[tenant])
}

// meter counts calls of a real keyring and can make the faults that one cannot
// show on purpose: being away, and answering late.
type meter struct {
	*keyring.Keyring
	unwraps atomic.Int64
	away    atomic.Bool
	hold    chan struct{} // when not nil, Unwrap waits for it
	holding chan struct{}
}

func (m *meter) Unwrap(ctx context.Context, key, purpose string, id tenants.ID, wrapped []byte) ([]byte, error) {
	m.unwraps.Add(1)
	if m.away.Load() {
		return nil, fmt.Errorf("meter: %w", driver.ErrUnavailable)
	}
	plain, err := m.Keyring.Unwrap(ctx, key, purpose, id, wrapped)
	if m.hold != nil {
		m.holding <- struct{}{}
		<-m.hold
	}
	return plain, err
}

func (m *meter) NewDataKey(ctx context.Context, key, purpose string, id tenants.ID) (driver.DataKey, error) {
	if m.away.Load() {
		return driver.DataKey{}, fmt.Errorf("meter: %w", driver.ErrUnavailable)
	}
	return m.Keyring.NewDataKey(ctx, key, purpose, id)
}

// rig is a key service, a source and what makes ciphers on them.
type rig struct {
	kms    *meter
	source *source
}

func newRig(t testing.TB) *rig {
	t.Helper()
	ring, err := keyring.Open(filepath.Join(t.TempDir(), "ring"), keyring.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &rig{kms: &meter{Keyring: ring}, source: &source{keys: map[tenants.ID][]phi.StoredKey{}}}
}

func (r *rig) cipher(t testing.TB, opts phi.Options) *phi.Cipher {
	t.Helper()
	c, err := phi.NewCipher(r.kms, r.source, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func (r *rig) tenant(t testing.TB) tenants.ID {
	t.Helper()
	id := tenants.NewID()
	if err := r.kms.Ensure(context.Background(), driver.KeyName(id)); err != nil {
		t.Fatal(err)
	}
	return id
}

func place(tenant tenants.ID) phi.Place {
	return phi.Place{Tenant: tenant, Table: "client", Column: "family", Row: tenants.NewID()}
}

func seal(t testing.TB, c *phi.Cipher, p phi.Place, s string) []byte {
	t.Helper()
	b, err := c.Seal(context.Background(), p, phi.NewText(s))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func opens(t testing.TB, c *phi.Cipher, p phi.Place, sealed []byte, want string) {
	t.Helper()
	got, err := c.Open(context.Background(), p, sealed)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Equal(phi.NewText(want)) {
		t.Fatal("another value came back")
	}
}

func refused(t testing.TB, what string, err error, kind tenants.Kind) {
	t.Helper()
	if tenants.KindOf(err) != kind {
		t.Fatalf("%s: %v, want kind %s", what, err, kind)
	}
	if strings.Contains(err.Error(), marker) {
		t.Fatalf("%s: the error repeats the value: %v", what, err)
	}
}

func TestSealedValueOpensAtItsPlaceOnly(t *testing.T) {
	r := newRig(t)
	c, tenant, other := r.cipher(t, phi.Options{}), r.tenant(t), r.tenant(t)
	for _, value := range []string{"", "x", marker, strings.Repeat("long ", 5000), "\x00\xff"} {
		p := place(tenant)
		sealed := seal(t, c, p, value)
		if len(sealed) != len(value)+phi.Overhead {
			t.Errorf("%d bytes became %d", len(value), len(sealed))
		}
		if len(value) > 3 && bytes.Contains(sealed, []byte(value[:4])) {
			t.Error("the sealed value shows the plain one")
		}
		if bytes.Equal(sealed, seal(t, c, p, value)) {
			t.Error("sealing twice gives the same bytes")
		}
		opens(t, c, p, sealed, value)
		for name, move := range map[string]func(*phi.Place){
			"row": func(p *phi.Place) { p.Row = tenants.NewID() }, "column": func(p *phi.Place) { p.Column = "given" },
			"table": func(p *phi.Place) { p.Table = "contact" }, "tenant": func(p *phi.Place) { p.Tenant = other },
			"tenant without keys": func(p *phi.Place) { p.Tenant = tenants.NewID() },
			"purpose":             func(p *phi.Place) { p.Purpose = phi.PurposeCredential },
			"names that join":     func(p *phi.Place) { p.Table, p.Column = "clientf", "amily" },
		} {
			moved := p
			move(&moved)
			_, err := c.Open(t.Context(), moved, sealed)
			refused(t, "another "+name, err, tenants.KindIntegrity)
		}
	}
}

func TestChangedBytesAreRefused(t *testing.T) {
	r := newRig(t)
	c, tenant := r.cipher(t, phi.Options{}), r.tenant(t)
	p := place(tenant)
	sealed := seal(t, c, p, marker)
	for i := range sealed {
		for _, bit := range []byte{1, 0x80} {
			changed := bytes.Clone(sealed)
			changed[i] ^= bit
			_, err := c.Open(t.Context(), p, changed)
			refused(t, fmt.Sprintf("byte %d", i), err, tenants.KindIntegrity)
		}
	}
	for n := range sealed {
		_, err := c.Open(t.Context(), p, sealed[:n])
		refused(t, fmt.Sprintf("cut to %d", n), err, tenants.KindIntegrity)
	}
	_, err := c.Open(t.Context(), p, append(bytes.Clone(sealed), 0))
	refused(t, "a byte more", err, tenants.KindIntegrity)
	// The id of another key of the same tenant: the header is authenticated too.
	later := r.cipher(t, phi.Options{Now: func() time.Time { return time.Now().Add(48 * time.Hour) }})
	newer := seal(t, later, p, "y")
	swapped := append(bytes.Clone(newer[:17]), sealed[17:]...)
	_, err = c.Open(t.Context(), p, swapped)
	refused(t, "another key's id", err, tenants.KindIntegrity)
	opens(t, c, p, sealed, marker)
}

func TestPlaceMustBeWhole(t *testing.T) {
	r := newRig(t)
	c, tenant := r.cipher(t, phi.Options{}), r.tenant(t)
	good := place(tenant)
	_ = seal(t, c, good, "x")
	for name, spoil := range map[string]func(*phi.Place){
		"tenant": func(p *phi.Place) { p.Tenant = tenants.NilID }, "row": func(p *phi.Place) { p.Row = tenants.NilID },
		"table": func(p *phi.Place) { p.Table = "" }, "column": func(p *phi.Place) { p.Column = "" },
		"purpose": func(p *phi.Place) { p.Purpose = phi.PurposeBlind }, "long table": func(p *phi.Place) { p.Table = strings.Repeat("a", 256) },
	} {
		p := good
		spoil(&p)
		_, err := c.Seal(t.Context(), p, phi.NewText(marker))
		refused(t, name, err, tenants.KindInternal)
		_, err = c.Open(t.Context(), p, make([]byte, 100))
		refused(t, name, err, tenants.KindInternal)
	}
}

func TestDataKeysAreMadeDaily(t *testing.T) {
	r := newRig(t)
	tenant, now := r.tenant(t), time.Date(2026, 11, 21, 23, 59, 0, 0, time.UTC)
	var mu sync.Mutex
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	c, twin := r.cipher(t, phi.Options{Now: clock}), r.cipher(t, phi.Options{Now: clock})
	p := place(tenant)
	first, again := seal(t, c, p, "one"), seal(t, twin, p, "two")
	if !bytes.Equal(first[1:17], again[1:17]) || r.source.count(tenant) != 1 {
		t.Errorf("two workers use %d keys on one day", r.source.count(tenant))
	}
	mu.Lock()
	now = now.Add(2 * time.Minute)
	mu.Unlock()
	next := seal(t, c, p, "three")
	if bytes.Equal(next[1:17], first[1:17]) || r.source.count(tenant) != 2 {
		t.Errorf("%d keys on the second day", r.source.count(tenant))
	}
	for _, worker := range []*phi.Cipher{c, twin, r.cipher(t, phi.Options{Now: clock})} {
		opens(t, worker, p, first, "one")
		opens(t, worker, p, next, "three")
	}
	credential := p
	credential.Purpose = phi.PurposeCredential
	sealed, err := c.SealBytes(t.Context(), credential, []byte("key"))
	if err != nil || bytes.Equal(sealed[1:17], next[1:17]) || r.source.count(tenant) != 3 {
		t.Errorf("a credential shares the fields' key: %v", err)
	}
	if plain, err := twin.OpenBytes(t.Context(), credential, sealed); err != nil || string(plain) != "key" {
		t.Errorf("%q, %v", plain, err)
	}
}

func TestBlindIndexFindsEqualValuesOfOneTenant(t *testing.T) {
	r := newRig(t)
	tenant, other := r.tenant(t), r.tenant(t)
	index := func(c *phi.Cipher, tenant tenants.ID, purpose, value string) []byte {
		t.Helper()
		b, err := c.BlindIndex(t.Context(), tenant, purpose, phi.NewText(value))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	c, twin := r.cipher(t, phi.Options{}), r.cipher(t, phi.Options{})
	base := index(c, tenant, "client.family", marker)
	if len(base) != phi.BlindIndexSize || base[0] != 1 || bytes.Contains(base, []byte(marker[:4])) {
		t.Errorf("the index is %x", base)
	}
	if !bytes.Equal(base, index(twin, tenant, "client.family", marker)) {
		t.Error("another worker makes another index")
	}
	c.Drop(tenant)
	if !bytes.Equal(base, index(c, tenant, "client.family", marker)) {
		t.Error("the index does not survive a drop")
	}
	second := r.cipher(t, phi.Options{BlindGeneration: 2})
	for name, different := range map[string][]byte{
		"another value": index(c, tenant, "client.family", marker+"x"), "another purpose": index(c, tenant, "client.given", marker),
		"another tenant": index(c, other, "client.family", marker), "names that join": index(c, tenant, "client.famil", "y"+marker),
		"another generation": index(second, tenant, "client.family", marker),
	} {
		if bytes.Equal(base, different) || bytes.Equal(base[1:], different[1:]) {
			t.Errorf("%s gives the same index", name)
		}
	}
	if b := index(c, tenant, "client.family", ""); b != nil {
		t.Errorf("an empty value has the index %x", b)
	}
	for _, bad := range []struct {
		tenant  tenants.ID
		purpose string
	}{{tenants.NilID, "a"}, {tenant, ""}} {
		_, err := c.BlindIndex(t.Context(), bad.tenant, bad.purpose, phi.NewText(marker))
		refused(t, "without tenant or purpose", err, tenants.KindInternal)
	}
}

// TestFirstBlindKeyIsOneForAll: workers that make the tenant's first blind key at
// the same moment end with the same key, else they would not find each other's rows.
func TestFirstBlindKeyIsOneForAll(t *testing.T) {
	r := newRig(t)
	for range 10 {
		tenant := r.tenant(t)
		var all sync.WaitGroup
		indexes := make([][]byte, 8)
		for i := range indexes {
			c := r.cipher(t, phi.Options{})
			all.Go(func() {
				var err error
				if indexes[i], err = c.BlindIndex(t.Context(), tenant, "client.family", phi.NewText(marker)); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		for _, index := range indexes {
			if !bytes.Equal(index, indexes[0]) {
				t.Fatal("two workers index differently")
			}
		}
	}
}

func TestDatabaseFaultsKeepTheirKind(t *testing.T) {
	r := newRig(t)
	c, tenant := r.cipher(t, phi.Options{}), r.tenant(t)
	for want, fault := range map[tenants.Kind]error{
		tenants.KindUnavailable: tenants.NewError(tenants.KindUnavailable, "the database is away"),
		tenants.KindInternal:    errors.New("a defect"),
	} {
		r.source.fail = fault
		_, err := c.Seal(t.Context(), place(tenant), phi.NewText(marker))
		refused(t, "a fault of the database", err, want)
		_, err = c.BlindIndex(t.Context(), tenant, "a", phi.NewText(marker))
		refused(t, "a fault of the database", err, want)
	}
	r.source.fail = nil
	_ = seal(t, c, place(tenant), "x")
}

func FuzzOpen(f *testing.F) {
	r := newRig(f)
	c, tenant := r.cipher(f, phi.Options{}), r.tenant(f)
	p := place(tenant)
	good := seal(f, c, p, marker)
	f.Add(good)
	f.Add(good[:20])
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{1}, 60))
	f.Fuzz(func(t *testing.T, sealed []byte) {
		text, err := c.Open(context.Background(), p, sealed)
		if bytes.Equal(sealed, good) {
			if err != nil || !text.Equal(phi.NewText(marker)) {
				t.Fatalf("the real one does not open: %v", err)
			}
			return
		}
		if !tenants.IsKind(err, tenants.KindIntegrity) || !text.IsZero() {
			t.Fatalf("%x: %v", sealed, err)
		}
	})
}
