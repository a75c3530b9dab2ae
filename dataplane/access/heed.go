package access

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/tenants"
)

// heeder acts on hints. Any login of the cell's database may send any number of them,
// about any tenant whose id it found out. So a hint of a kind about a tenant is acted on
// once in heedPause at most, the last of many always, and a tenant's connections and
// keys are dropped only if the database says that its gate or credential has changed.
type heeder struct {
	door *Door
	log  *slog.Logger

	mu    sync.Mutex
	heard map[heard]*time.Time
}

// heard is a kind of hint about a tenant.
type heard struct {
	channel string
	tenant  tenants.ID
}

const (
	// heedPause is how long a hint waits that comes right after another of its kind.
	heedPause = time.Second
	// lookTime bounds the look at what a hint is about.
	lookTime = 5 * time.Second
)

func newHeeder(d *Door, log *slog.Logger) *heeder {
	return &heeder{door: d, log: log, heard: map[heard]*time.Time{}}
}

// hear takes a hint, and returns at once.
func (h *heeder) hear(ctx context.Context, channel, tag string) {
	tenant, ok := h.door.pools.served.find(channel, tag)
	if !ok {
		return
	}
	about := heard{channel, tenant}
	h.mu.Lock()
	defer h.mu.Unlock()
	last, known := h.heard[about]
	if known && last == nil {
		return // it waits for its turn already
	}
	var wait time.Duration
	if known {
		wait = time.Until(last.Add(heedPause))
	}
	h.heard[about] = nil
	time.AfterFunc(max(wait, 0), func() {
		// Before the look: what changes after it is another hint's.
		h.mu.Lock()
		now := time.Now()
		h.heard[about] = &now
		h.mu.Unlock()
		if ctx.Err() == nil {
			h.act(ctx, about)
		}
	})
}

func (h *heeder) act(ctx context.Context, about heard) {
	if about.channel == tenantdb.AuthzChannel {
		h.door.authz.dropTenant(about.tenant)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	changed, err := h.door.pools.changed(ctx, about.tenant)
	if err != nil {
		// It may be the gate that was closed.
		h.log.WarnContext(ctx, "a hint could not be looked into, so it is believed", "error", err)
	}
	if changed || err != nil {
		h.door.Forget(about.tenant)
	}
}

// changed tells whether the tenant's gate or credential is not what its pool was opened
// with, or the gate is closed. It is true where there is no pool.
func (p *Pools) changed(ctx context.Context, tenant tenants.ID) (bool, error) {
	tp, ok := p.cache.GetEntryQuietly(tenant)
	if !ok {
		return true, nil
	}
	now, err := p.credentials.Stamp(ctx, tenant)
	return !now.Open() || now != tp.Value.login.Stamp, err
}

// tagged finds tenants by the tags that hints name them by.
type tagged struct{ known, byTag sync.Map }

func (t *tagged) add(tenant tenants.ID) {
	if _, known := t.known.LoadOrStore(tenant, struct{}{}); known {
		return
	}
	for _, channel := range []string{tenantdb.GateChannel, tenantdb.AuthzChannel} {
		t.byTag.Store(heardAs{channel, tenantdb.HintTag(channel, tenant)}, tenant)
	}
}

func (t *tagged) find(channel, tag string) (tenants.ID, bool) {
	tenant, ok := t.byTag.Load(heardAs{channel, tag})
	if !ok {
		return tenants.NilID, false
	}
	return tenant.(tenants.ID), true //nolint:forcetypeassert // nothing else is stored
}

// heardAs is what a hint shows.
type heardAs struct{ channel, tag string }
