package access

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/dataplane/store"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/phi"
	"github.com/caresphere/caresphere/tenants"
)

// Keys returns the store of a tenant's wrapped data keys, for phi.NewCipher. It
// uses a connection that no request may take: a request that waits for a key
// already holds one of the others. A key is committed before it is used, so that
// nothing is ever sealed under a key that a rollback took away.
func (d *Door) Keys() phi.KeySource { return keySource{d.pools} }

type keySource struct{ pools *Pools }

// Newest implements phi.KeySource.
func (s keySource) Newest(ctx context.Context, tenant tenants.ID, purpose string) (phi.StoredKey, error) {
	return s.read(ctx, tenant, func(q *store.Queries) (store.DataKey, error) { return q.NewestDataKey(ctx, purpose) })
}

// ByID implements phi.KeySource.
func (s keySource) ByID(ctx context.Context, tenant, id tenants.ID) (phi.StoredKey, error) {
	return s.read(ctx, tenant, func(q *store.Queries) (store.DataKey, error) { return q.GetDataKey(ctx, id) })
}

// Add implements phi.KeySource.
func (s keySource) Add(ctx context.Context, tenant tenants.ID, k phi.StoredKey) error {
	err := s.pools.system(ctx, tenant, false, func(q *store.Queries) error {
		return q.InsertDataKey(ctx, store.InsertDataKeyParams{
			ID: k.ID, Purpose: k.Purpose, Wrapped: k.Wrapped, KmsVersion: int32(k.Version)})
	})
	if pg.IsUnique(err, "data_key_pk") {
		return nil
	}
	return classify(err)
}

func (s keySource) read(ctx context.Context, tenant tenants.ID, get func(*store.Queries) (store.DataKey, error)) (phi.StoredKey, error) {
	s.pools.tellOpened(tenant)
	var k store.DataKey
	err := s.pools.system(ctx, tenant, true, func(q *store.Queries) (err error) {
		k, err = get(q)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return phi.StoredKey{}, tenants.NotFound()
	}
	if err != nil {
		return phi.StoredKey{}, classify(err)
	}
	return phi.StoredKey{ID: k.ID, Purpose: k.Purpose, Wrapped: k.Wrapped, Version: int(k.KmsVersion), CreatedAt: k.CreatedAt}, nil
}

// system runs fn for the worker's own bookkeeping, the data keys, and no member's data,
// which this context cannot see. oneRead says that fn runs one reading statement, which
// is then all that is sent: a request waits for it.
func (p *Pools) system(ctx context.Context, tenant tenants.ID, oneRead bool, fn func(*store.Queries) error) error {
	return elsewhere(func() error { return p.asSystem(ctx, tenant, oneRead, fn) })
}

func (p *Pools) asSystem(ctx context.Context, tenant tenants.ID, oneRead bool, fn func(*store.Queries) error) error {
	tp, err := p.get(ctx, tenant)
	if err != nil {
		return err
	}
	conn, tp, err := p.connect(asSecond(ctx), tenant, tp)
	if err != nil {
		return err
	}
	defer p.budget.release(conn)
	defer rollbackOpen(ctx, conn)
	g := &guard{conn: conn.Conn(), opening: opening{signed: tp.login.system(conn, tenant), seen: anyVersion, alone: oneRead}, single: oneRead}
	defer g.close()
	if err := fn(store.New(g)); err != nil || oneRead {
		return err
	}
	_, err = conn.Exec(ctx, "COMMIT")
	return err
}
