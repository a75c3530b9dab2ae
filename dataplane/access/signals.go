package access

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/pause"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/tenants"
)

// Signals carries hints between the workers of a cell over one connection of the
// cell_worker role. It implements Hints; Run does the work.
type Signals struct {
	dsn   string
	log   *slog.Logger
	every time.Duration

	mu      sync.Mutex
	pending map[hint]struct{}
	wake    chan struct{}
}

type hint struct{ channel, payload string }

// NewSignals returns signals that gather hints for every and send each once.
func NewSignals(dsn string, every time.Duration, log *slog.Logger) *Signals {
	return &Signals{dsn: dsn, log: log, every: every, pending: map[hint]struct{}{}, wake: make(chan struct{}, 1)}
}

// AuditDirty implements Hints.
func (s *Signals) AuditDirty(tenant tenants.ID) {
	s.add(hint{audit.Channel, audit.TenantLog(tenant, tenants.SchemaName(tenant)).Tag()})
}

// AuthzChanged implements Hints.
func (s *Signals) AuthzChanged(tenant tenants.ID) {
	s.add(hint{tenantdb.AuthzChannel, tenantdb.HintTag(tenantdb.AuthzChannel, tenant)})
}

func (s *Signals) add(h hint) {
	s.mu.Lock()
	s.pending[h] = struct{}{}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Signals) take() map[hint]struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.pending
	s.pending = map[hint]struct{}{}
	return out
}

// Run sends hints and hands those of others to the door until the context ends. A
// lost connection is opened again, and then the door forgets all authorizations:
// what was said meanwhile was not heard.
func (s *Signals) Run(ctx context.Context, d *Door) error {
	var wg sync.WaitGroup
	wg.Go(func() {
		s.again(ctx, "listening for hints", func(ctx context.Context, c *pgx.Conn) error { return s.listen(ctx, c, d) })
	})
	wg.Go(func() { s.again(ctx, "sending hints", s.send) })
	wg.Wait()
	return ctx.Err()
}

// again runs work on a fresh connection each time it ends.
func (s *Signals) again(ctx context.Context, doing string, work func(context.Context, *pgx.Conn) error) {
	for ctx.Err() == nil {
		err := s.once(ctx, work)
		if ctx.Err() != nil {
			return
		}
		s.log.WarnContext(ctx, doing+" was interrupted", "error", err)
		_ = pause.For(ctx, 200*time.Millisecond+rand.N(800*time.Millisecond)) //nolint:gosec // jitter, not a secret
	}
}

func (s *Signals) once(ctx context.Context, work func(context.Context, *pgx.Conn) error) error {
	conn, err := pg.Connect(ctx, s.dsn, pg.Options{ApplicationName: "caresphere-dataplane-signals"})
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	return work(ctx, conn)
}

func (s *Signals) listen(ctx context.Context, conn *pgx.Conn, d *Door) error {
	for _, channel := range []string{tenantdb.GateChannel, tenantdb.AuthzChannel} {
		if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
			return fmt.Errorf("listening: %w", err)
		}
	}
	d.authz.cache.InvalidateAll()
	heed := newHeeder(d, s.log)
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return fmt.Errorf("waiting for a hint: %w", err)
		}
		heed.hear(ctx, n.Channel, n.Payload)
	}
}

func (s *Signals) send(ctx context.Context, conn *pgx.Conn) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.wake:
		}
		var b pgx.Batch
		taken := s.take()
		for h := range taken {
			b.Queue("SELECT pg_notify($1, $2)", h.channel, h.payload)
		}
		sctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := conn.SendBatch(sctx, &b).Close()
		cancel()
		if err != nil {
			for h := range taken {
				s.add(h)
			}
			return fmt.Errorf("sending hints: %w", err)
		}
		if err := pause.For(ctx, s.every); err != nil {
			return err
		}
	}
}

// Forget drops everything kept for the tenant: connections, credential, data keys
// and authorizations. It is what a closing gate asks for.
func (d *Door) Forget(tenant tenants.ID) {
	d.pools.Drop(tenant)
	if d.cipher != nil {
		d.cipher.Drop(tenant)
	}
	d.authz.dropTenant(tenant)
}
