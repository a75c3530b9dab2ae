package phi

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/sync/singleflight"

	"github.com/caresphere/caresphere/internal/kms/driver"
	"github.com/caresphere/caresphere/tenants"
)

const (
	maxCacheFor      = 5 * time.Minute
	defaultCacheSize = 4096
	defaultLoad      = 5 * time.Second
)

// keyCache keeps unwrapped data keys for a short time, so that sealing and
// opening do not ask the key service per field.
type keyCache struct {
	kms    KMS
	source KeySource
	opts   Options
	live   *otter.Cache[keyRef, *liveKey]
	newest *otter.Cache[newestRef, *newestKey]
	flight singleflight.Group

	// mu orders inserts against drops: an insert holds it for reading, a drop
	// raises the tenant's epoch under it, and a load from an older epoch is not kept.
	mu     sync.RWMutex
	epochs map[tenants.ID]uint64
	closed bool
}

type keyRef struct {
	tenant, id tenants.ID
	purpose    string
}

type newestRef struct {
	tenant  tenants.ID
	purpose string
}

type newestKey struct {
	id    tenants.ID
	day   string
	renew due
}

var (
	errDropped = errors.New("phi: the key was dropped while it was loaded")
	errClosed  = errors.New("phi: the cipher is closed")
)

func newKeyCache(kms KMS, source KeySource, opts Options) (*keyCache, error) {
	if opts.CacheFor <= 0 || opts.CacheFor > maxCacheFor {
		opts.CacheFor = maxCacheFor
	}
	if opts.CacheSize <= 0 {
		opts.CacheSize = defaultCacheSize
	}
	if opts.LoadTimeout <= 0 {
		opts.LoadTimeout = defaultLoad
	}
	if opts.BlindGeneration == 0 {
		opts.BlindGeneration = 1
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	c := &keyCache{kms: kms, source: source, opts: opts, epochs: map[tenants.ID]uint64{}}
	var err error
	c.live, err = otter.New(&otter.Options[keyRef, *liveKey]{
		MaximumSize:      opts.CacheSize,
		ExpiryCalculator: otter.ExpiryWriting[keyRef, *liveKey](opts.CacheFor),
		OnAtomicDeletion: func(e otter.DeletionEvent[keyRef, *liveKey]) { e.Value.release() },
	})
	if err != nil {
		return nil, fmt.Errorf("phi: key cache: %w", err)
	}
	c.newest, err = otter.New(&otter.Options[newestRef, *newestKey]{
		MaximumSize:      opts.CacheSize,
		ExpiryCalculator: otter.ExpiryWriting[newestRef, *newestKey](opts.CacheFor),
	})
	if err != nil {
		return nil, fmt.Errorf("phi: key cache: %w", err)
	}
	return c, nil
}

// current returns the key to seal with today, acquired.
func (c *keyCache) current(ctx context.Context, tenant tenants.ID, purpose string) (*liveKey, error) {
	ref := newestRef{tenant, purpose}
	today := c.opts.Now().UTC().Format(dateForm)
	for range 3 {
		if n, ok := c.newest.GetIfPresent(ref); ok && n.day >= today {
			if n.renew.now() {
				go c.renewNewest(context.WithoutCancel(ctx), ref, today)
			}
			return c.byID(ctx, tenant, purpose, n.id)
		}
		found, err := c.share(ctx, "newest|"+purpose+"|"+tenant.String(), func(ctx context.Context) (any, error) {
			epoch := c.epoch(tenant)
			n, err := c.findNewest(ctx, ref, today, epoch)
			if err != nil {
				return nil, err
			}
			return n, c.keepNewest(ref, n, epoch)
		})
		if errors.Is(err, errDropped) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return c.byID(ctx, tenant, purpose, found.(*newestKey).id)
	}
	return nil, fmt.Errorf("%w: %w", driver.ErrUnavailable, errDropped)
}

// findNewest asks the source for the newest key and makes today's when that is older.
func (c *keyCache) findNewest(ctx context.Context, ref newestRef, today string, epoch uint64) (*newestKey, error) {
	stored, err := c.source.Newest(ctx, ref.tenant, ref.purpose)
	if err != nil && !tenants.IsKind(err, tenants.KindNotFound) {
		return nil, fmt.Errorf("reading the newest data key: %w", err)
	}
	n := &newestKey{id: stored.ID, day: stored.CreatedAt.UTC().Format(dateForm)}
	if err != nil || n.day < today {
		n = &newestKey{id: tenants.NewID(), day: today}
		if err := c.make(ctx, ref.tenant, ref.purpose, n.id, epoch); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// keepNewest has the key taken for sealing, unless the tenant was dropped since the epoch.
func (c *keyCache) keepNewest(ref newestRef, n *newestKey, epoch uint64) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.closed || c.epochs[ref.tenant] != epoch {
		return errDropped
	}
	n.renew.in(c.opts.CacheFor)
	c.newest.Set(ref, n)
	return nil
}

// make asks the key service for a data key, stores it, and keeps it unwrapped.
func (c *keyCache) make(ctx context.Context, tenant tenants.ID, purpose string, id tenants.ID, epoch uint64) error {
	fresh, err := c.kms.NewDataKey(ctx, driver.KeyName(tenant), purpose, id)
	if err != nil {
		return fmt.Errorf("making a data key: %w", err)
	}
	stored := StoredKey{ID: id, Purpose: purpose, Wrapped: fresh.Wrapped, Version: fresh.Version, CreatedAt: c.opts.Now().UTC()}
	if err := c.source.Add(ctx, tenant, stored); err != nil && !tenants.IsKind(err, tenants.KindConflict) {
		clear(fresh.Plain)
		return fmt.Errorf("storing a data key: %w", err)
	}
	if purpose == PurposeBlind {
		// Somebody may have stored another key under this id first: that one holds.
		clear(fresh.Plain)
		return nil
	}
	key, err := newLiveKey(id, purpose, fresh.Plain)
	if err != nil {
		return err
	}
	return c.keep(keyRef{tenant, id, purpose}, key, epoch)
}

// blind returns the tenant's blind key, made on first use, acquired.
func (c *keyCache) blind(ctx context.Context, tenant tenants.ID) (*liveKey, error) {
	id := blindKeyID(tenant, c.opts.BlindGeneration)
	key, err := c.byID(ctx, tenant, PurposeBlind, id)
	if !tenants.IsKind(err, tenants.KindNotFound) {
		return key, err
	}
	_, err = c.share(ctx, "blind|"+tenant.String(), func(ctx context.Context) (any, error) {
		return nil, c.make(ctx, tenant, PurposeBlind, id, 0)
	})
	if err != nil {
		return nil, err
	}
	return c.byID(ctx, tenant, PurposeBlind, id)
}

// byID returns the unwrapped key, acquired: the caller releases it. An unknown id
// is an error of kind KindNotFound.
func (c *keyCache) byID(ctx context.Context, tenant tenants.ID, purpose string, id tenants.ID) (*liveKey, error) {
	ref := keyRef{tenant, id, purpose}
	for range 3 {
		if key, ok := c.live.GetIfPresent(ref); ok && key.acquire() {
			if key.renew.now() {
				go c.renew(context.WithoutCancel(ctx), ref)
			}
			return key, nil
		}
		key, err := c.load(ctx, ref)
		if errors.Is(err, errDropped) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if key.acquire() {
			return key, nil
		}
	}
	// A full cache may evict a key as soon as it is in: load one for this call alone.
	load, cancel := context.WithTimeout(ctx, c.opts.LoadTimeout)
	defer cancel()
	return c.unwrap(load, ref)
}

// load unwraps a key and puts it into the cache, once for all who want it now.
func (c *keyCache) load(ctx context.Context, ref keyRef) (*liveKey, error) {
	key, err := c.share(ctx, "key|"+ref.purpose+"|"+ref.tenant.String()+"|"+ref.id.String(), func(ctx context.Context) (any, error) {
		epoch := c.epoch(ref.tenant)
		key, err := c.unwrap(ctx, ref)
		if err != nil {
			return nil, err
		}
		return key, c.keep(ref, key, epoch)
	})
	if err != nil {
		return nil, err
	}
	return key.(*liveKey), nil
}

// unwrap loads a stored key and asks the key service to open it.
func (c *keyCache) unwrap(ctx context.Context, ref keyRef) (*liveKey, error) {
	c.mu.RLock()
	closed := c.closed
	c.mu.RUnlock()
	if closed {
		return nil, errClosed
	}
	stored, err := c.source.ByID(ctx, ref.tenant, ref.id)
	if err != nil {
		return nil, fmt.Errorf("reading a data key: %w", err)
	}
	if stored.Purpose != ref.purpose {
		return nil, fmt.Errorf("the data key has another purpose: %w", driver.ErrIntegrity)
	}
	plain, err := c.kms.Unwrap(ctx, driver.KeyName(ref.tenant), ref.purpose, ref.id, stored.Wrapped)
	if err != nil {
		return nil, fmt.Errorf("unwrapping a data key: %w", err)
	}
	return newLiveKey(ref.id, ref.purpose, plain)
}

// keep puts the key into the cache, which takes over its reference, unless the
// tenant was dropped since the epoch.
func (c *keyCache) keep(ref keyRef, key *liveKey, epoch uint64) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.closed || c.epochs[ref.tenant] != epoch {
		key.release()
		if c.closed {
			return errClosed
		}
		return errDropped
	}
	key.renew.in(c.opts.CacheFor)
	c.live.Set(ref, key)
	return nil
}

// share runs the load once for all who want it now. It does not end when the one
// caller who began it goes away, and each caller waits no longer than its context.
func (c *keyCache) share(ctx context.Context, name string, load func(context.Context) (any, error)) (any, error) {
	result := c.flight.DoChan(name, func() (any, error) {
		detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.opts.LoadTimeout)
		defer cancel()
		return load(detached)
	})
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for a data key: %w", ctx.Err())
	case r := <-result:
		return r.Val, r.Err
	}
}

func (c *keyCache) epoch(tenant tenants.ID) uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.epochs[tenant]
}

func (c *keyCache) drop(tenant tenants.ID) {
	c.mu.Lock()
	c.epochs[tenant]++
	c.mu.Unlock()
	for ref := range c.live.Keys() {
		if ref.tenant == tenant {
			c.live.Invalidate(ref)
		}
	}
	for ref := range c.newest.Keys() {
		if ref.tenant == tenant {
			c.newest.Invalidate(ref)
		}
	}
}

func (c *keyCache) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.live.InvalidateAll()
	c.newest.InvalidateAll()
	c.live.StopAllGoroutines()
	c.newest.StopAllGoroutines()
}
