package isolation

import (
	"context"
	"io"
	"iter"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/blob"
	"github.com/caresphere/caresphere/internal/isolation"
	"github.com/caresphere/caresphere/internal/kms"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/tenants"
)

// two are a tenant and its peer.
func two() (subject, []subject) {
	return subject{id: tenants.NewID(), slug: "one"}, []subject{{id: tenants.NewID(), slug: "other"}}
}

func said(t isolation.Tenant) string {
	var b strings.Builder
	for _, f := range t.Findings {
		b.WriteString(f.String() + "\n")
	}
	return b.String()
}

// unbound is a key service that binds a wrapped key to nothing: to no tenant's key, no
// purpose and no id. No real one can be made to have this fault.
type unbound struct{ Keys }

func (unbound) Rewrap(_ context.Context, _, _ string, _ tenants.ID, wrapped []byte) ([]byte, int, error) {
	return wrapped, 1, nil
}

func TestAKeyServiceThatAcceptsWhatIsAnothersIsFound(t *testing.T) {
	ctx := t.Context()
	keys, err := kms.Open(ctx, kms.Config{URL: "keyring:" + t.TempDir()})
	require.NoError(t, err)
	defer func() { _ = keys.Close() }()
	cell, err := pg.Open(ctx, testkit.CellDB(t).DSN("cell_owner"), pg.Options{})
	require.NoError(t, err)
	defer cell.Close()
	one, peers := two()
	for _, s := range append(peers, one) {
		require.NoError(t, keys.Ensure(ctx, kms.KeyName(s.id)))
	}
	id := tenants.NewID()
	key, err := keys.NewDataKey(ctx, kms.KeyName(one.id), tenantdb.Purpose, id)
	require.NoError(t, err)
	_, err = cell.Exec(ctx, `INSERT INTO cell.tenant_credential (tenant_id, role_name, key_name, certificate, wrapped_key, data_key_id, sealed, not_after)
		VALUES ($1, $2, $3, '', $4, $5, '', now())`, one.id, tenants.RoleName(one.id), kms.KeyName(one.id), key.Wrapped, id)
	require.NoError(t, err)

	try := func(k Keys) isolation.Tenant {
		s := newSheet(one)
		(&Prover{Config: Config{Cell: cell, Keys: k}}).keys(ctx, s, one, peers)
		return s.done(false)
	}
	sound := try(keys)
	require.Equal(t, isolation.Proven, sound.Verdict, said(sound))
	require.Equal(t, []isolation.Layer{{Layer: isolation.LayerKey, Refused: 3, Allowed: 1}}, sound.Layers)
	broken := try(unbound{keys})
	require.Len(t, broken.Findings, 3)
	for _, says := range []string{"use for another purpose was allowed", "use under another id was allowed", peers[0].id.String() + ": use under another's key was allowed"} {
		require.Contains(t, said(broken), says)
	}
}

// unscoped is a part of a store whose keys are joined to its prefix and looked at by
// nobody: one that climbs leads out of it.
type unscoped struct {
	blob.Store
	prefix string
}

func (u unscoped) at(key string) string {
	if strings.HasPrefix(key, "/") {
		return path.Clean(key[1:])
	}
	return path.Join(u.prefix, key)
}

func (u unscoped) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	return u.Store.Get(ctx, u.at(key))
}

func (u unscoped) List(ctx context.Context, prefix string) iter.Seq2[blob.Object, error] {
	return u.Store.List(ctx, u.at(prefix)+"/")
}

func TestAPartOfTheStoreThatLeadsOutOfItIsFound(t *testing.T) {
	ctx := t.Context()
	store, err := blob.Open(blob.Config{URL: "file:" + t.TempDir()})
	require.NoError(t, err)
	one, peers := two()
	for _, s := range append(peers, one) {
		require.NoError(t, store.EnsurePrefix(ctx, Prefix(s.id)))
	}
	try := func(under func(blob.Store, string) (blob.Store, error), peers ...subject) isolation.Tenant {
		s := newSheet(one)
		(&Prover{Config: Config{Objects: store}, under: under}).storage(ctx, s, one, peers)
		return s.done(false)
	}
	sound := try(blob.Under, peers...)
	require.Equal(t, isolation.Proven, sound.Verdict, said(sound))
	require.Equal(t, []isolation.Layer{{Layer: isolation.LayerStorage, Refused: 6, Allowed: 2}}, sound.Layers)

	broken := try(func(s blob.Store, prefix string) (blob.Store, error) { return unscoped{s, prefix}, nil }, peers...)
	require.Len(t, broken.Findings, 4, "by climbing and from the root")
	for _, says := range []string{": reading another's object was allowed", ": listing another's objects was allowed"} {
		require.Contains(t, said(broken), peers[0].id.String()+says)
	}
	// A part that is the whole store leads there by the plain key.
	whole := try(func(s blob.Store, _ string) (blob.Store, error) { return s, nil }, peers...)
	require.Contains(t, said(whole), peers[0].id.String()+": reading another's object was allowed")

	// Of an object that is not there a refusal is not counted.
	gone := try(blob.Under, subject{id: tenants.NewID(), slug: "gone"})
	require.Equal(t, []isolation.Layer{{Layer: isolation.LayerStorage, Refused: 0, Allowed: 2}}, gone.Layers)
}
