package sealer

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/audit/audittest"
	"github.com/caresphere/caresphere/internal/audit/tree"
	"github.com/caresphere/caresphere/tenants"
)

// cell is a cell with a growing list of tenants and a running sealer.
type cell struct {
	database string
	anchor   PostgresAnchor
	pool     *pgxpool.Pool
	key      string
	mu       sync.Mutex
	logs     []audit.Log
	out      bytes.Buffer
}

func (c *cell) list(context.Context) ([]audit.Log, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]audit.Log(nil), c.logs...), nil
}

func (c *cell) tenant(t *testing.T) *audittest.Tenant {
	n := audittest.NewTenant(t, c.database)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.logs = append(c.logs, n.Log())
	return n
}

func (c *cell) run(t *testing.T, sweep time.Duration, list ...func(context.Context) ([]audit.Log, error)) (*Sealer, *prometheus.Registry) {
	list = append(list, c.list)
	registry := prometheus.NewRegistry()
	s, err := New(Config{Key: c.key, Sweep: sweep, Whole: time.Hour, Registerer: registry, Logger: slog.New(slog.NewJSONHandler(&c.out, nil)),
		Sources: []Source{{Pool: c.pool, Logs: list[0], Anchor: c.anchor}}})
	require.NoError(t, err)
	rctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(rctx) }()
	t.Cleanup(func() {
		cancel()
		require.ErrorIs(t, <-ended, context.Canceled)
	})
	return s, registry
}

func newCell(t *testing.T) *cell {
	key, _ := audittest.Key(t, "caresphere-audit")
	c := &cell{database: audittest.Cell(t), key: key}
	c.anchor = PostgresAnchor{audittest.Pool(t, "provisioner", audittest.Control(t))}
	c.pool = audittest.Pool(t, "cell_sealer", c.database)
	return c
}

// fixture seals the tenant's log with the cell's key and anchor.
func (c *cell) fixture(t *testing.T, n *audittest.Tenant) *fixture {
	t.Helper()
	signer, verifier, _, err := tree.ParseSigner(c.key)
	require.NoError(t, err)
	return &fixture{Tenant: n, super: audittest.Connect(t, "super", c.database),
		log: Log{Log: n.Log(), Pool: c.pool, Anchor: c.anchor, Signer: signer, Verifier: verifier}}
}

// anchored waits until the tenant's log is anchored at the size.
func (c *cell) anchored(t *testing.T, n *audittest.Tenant, size int64) {
	t.Helper()
	require.Eventually(t, func() bool {
		a, err := c.anchor.Last(ctx, n.Log().Origin(1))
		require.NoError(t, err)
		return a != nil && a.Size == size
	}, 20*time.Second, 10*time.Millisecond)
}

func TestANotificationSealsAndAnchors(t *testing.T) {
	c := newCell(t)
	first, second := c.tenant(t), c.tenant(t)
	c.run(t, time.Hour) // so that only notifications count
	worker := audittest.Connect(t, "cell_worker", c.database)
	for i, n := range []*audittest.Tenant{first, second} {
		conn := n.Connect(t)
		for range i + 2 {
			n.Record(t, conn, n.Member(tenants.RoleNurse), audit.Event{Action: "client.read"})
		}
		require.NoError(t, audit.Notify(ctx, worker, n.Log()))
	}
	c.anchored(t, first, 2)
	c.anchored(t, second, 3)
	// A tenant that came after the start is known by its first notification.
	third := c.tenant(t)
	third.Record(t, third.Connect(t), third.Member(tenants.RoleNurse), audit.Event{Action: "client.read"})
	require.NoError(t, audit.Notify(ctx, worker, third.Log()))
	c.anchored(t, third, 1)
}

// Any login may notify of anything: what it makes up costs the other tenants nothing.
func TestUnknownTagsAreAskedForOnceASecond(t *testing.T) {
	c := newCell(t)
	first, second := c.tenant(t), c.tenant(t)
	var lists atomic.Int64
	began := time.Now()
	c.run(t, time.Hour, func(ctx context.Context) ([]audit.Log, error) {
		lists.Add(1)
		return c.list(ctx)
	})
	conn := first.Connect(t)
	first.Record(t, conn, first.Member(tenants.RoleNurse), audit.Event{Action: "client.read"})
	require.NoError(t, audit.Notify(ctx, conn, first.Log()))
	c.anchored(t, first, 1)
	audittest.Exec(t, conn, "SELECT pg_notify('audit_dirty', gen_random_uuid()::text) FROM generate_series(1, 20000)")
	second.Record(t, second.Connect(t), second.Member(tenants.RoleNurse), audit.Event{Action: "client.read"})
	require.NoError(t, audit.Notify(ctx, conn, second.Log()))
	c.anchored(t, second, 1)
	// One that came amid the flood is met with the next reading.
	third := c.tenant(t)
	third.Record(t, third.Connect(t), third.Member(tenants.RoleNurse), audit.Event{Action: "client.read"})
	audittest.Exec(t, conn, "SELECT pg_notify('audit_dirty', gen_random_uuid()::text) FROM generate_series(1, 20000)")
	require.NoError(t, audit.Notify(ctx, conn, third.Log()))
	c.anchored(t, third, 1)
	// One at the start and one a second.
	require.LessOrEqual(t, lists.Load(), 3+int64(time.Since(began)/time.Second))
}

func TestTheSweepSealsWithoutANotification(t *testing.T) {
	c := newCell(t)
	n := c.tenant(t)
	c.run(t, 100*time.Millisecond)
	for i := range 3 {
		unannounced(t, n)
		c.anchored(t, n, int64(i+1))
	}
}

// unannounced writes an entry and leaves, at which the server counts it at once.
func unannounced(t *testing.T, n *audittest.Tenant) {
	t.Helper()
	conn := n.Connect(t)
	n.Record(t, conn, n.Member(tenants.RoleNurse), audit.Event{Action: "client.read"})
	require.NoError(t, conn.Close(ctx))
}

// asks counts the sweeps and the logs whose tables they asked, and how often it was
// begun to listen.
type asks struct{ sweeps, logs, listens atomic.Int64 }

func (a *asks) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	if strings.Contains(q.SQL, "pg_stat_get_tuples_inserted") {
		a.sweeps.Add(1)
	}
	if strings.HasPrefix(q.SQL, "LISTEN") {
		a.listens.Add(1)
	}
	a.logs.Add(int64(strings.Count(q.SQL, "window_done FROM")))
	return ctx
}

func (a *asks) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// swept waits for so many more sweeps, begun and ended.
func (a *asks) swept(t *testing.T, more int64) {
	t.Helper()
	until := a.sweeps.Load() + more + 1
	require.Eventually(t, func() bool { return a.sweeps.Load() >= until }, 30*time.Second, time.Millisecond)
}

func TestASweepAsksWhatWasWrittenOnly(t *testing.T) {
	c := newCell(t)
	var a asks
	conf := c.pool.Config()
	conf.ConnConfig.Tracer = &a
	var err error
	c.pool, err = pgxpool.NewWithConfig(ctx, conf)
	require.NoError(t, err)
	t.Cleanup(c.pool.Close)
	one, two := c.tenant(t), c.tenant(t)
	c.run(t, 20*time.Millisecond)
	require.Eventually(t, func() bool { return a.listens.Load() == 1 }, 30*time.Second, time.Millisecond)
	a.swept(t, 4)
	before := a.logs.Load()
	require.Contains(t, []int64{2, 4}, before, "each log is asked once, and once more if it was before there was anybody to listen")
	a.swept(t, 10)
	require.Equal(t, before, a.logs.Load())
	unannounced(t, two)
	c.anchored(t, two, 1)
	a.swept(t, 2)
	require.Equal(t, before+1, a.logs.Load())

	// What stands in a table's place is found, and statistics that are gone hide nothing.
	super := audittest.Connect(t, "super", c.database)
	audittest.Exec(t, super, "SELECT pg_stat_reset()")
	a.swept(t, 2)
	require.Equal(t, before+2, a.logs.Load(), "the one whose count changed")
	unannounced(t, one)
	c.anchored(t, one, 1)
	unannounced(t, two)
	c.anchored(t, two, 2)
}

// TestASweepAsksNotWhatWasSealed: a notification had a log sealed to its end before the
// sweep saw that it was written.
func TestASweepAsksNotWhatWasSealed(t *testing.T) {
	c := newCell(t)
	n, other := c.tenant(t), c.tenant(t)
	s, err := New(Config{Key: c.key, Sources: []Source{{Pool: c.pool, Logs: c.list, Anchor: c.anchor}}})
	require.NoError(t, err)
	u := s.units[0]
	written := func() []audit.Log {
		t.Helper()
		logs, counts, err := u.written(ctx, c.logs)
		require.NoError(t, err)
		u.counts = counts
		return logs
	}
	// A session's counts are there a moment after it ends.
	asked := func(want *audittest.Tenant, why string) {
		t.Helper()
		require.Eventually(t, func() bool {
			logs := written()
			for _, l := range logs {
				require.Equal(t, want.Log(), l, why)
			}
			return len(logs) > 0
		}, 20*time.Second, 10*time.Millisecond, why)
	}
	sealed := func(size int64) {
		t.Helper()
		require.Eventually(t, func() bool { u.seal(ctx, n.Log()); return u.whole[n.Log().Tag()] == size }, 20*time.Second, 10*time.Millisecond)
	}
	require.Len(t, written(), 2, "neither was asked before")
	require.Empty(t, written())
	unannounced(t, n)
	sealed(1)
	unannounced(t, other)
	asked(other, "the other's entry is not sealed")
	unannounced(t, n)
	asked(n, "an entry more than was sealed")

	// Held back by a transaction from before, it is not sealed to its end.
	sealed(2)
	open, err := n.Connect(t).Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = open.Rollback(ctx) }()
	_, err = open.Exec(ctx, "SELECT pg_current_xact_id()")
	require.NoError(t, err)
	unannounced(t, n)
	u.seal(ctx, n.Log())
	asked(n, "an entry that waits")

	// Statistics that began anew are no measure of it.
	require.NoError(t, open.Rollback(ctx))
	sealed(3)
	audittest.Exec(t, audittest.Connect(t, "super", c.database), "SELECT pg_stat_reset()")
	require.Contains(t, written(), n.Log())
	for range 3 {
		unannounced(t, n)
	}
	asked(n, "three are counted, of six")
}

func TestASweepWithoutCountsLooksAtEach(t *testing.T) {
	c := newCell(t)
	super := audittest.Connect(t, "super", c.database)
	audittest.Exec(t, super, "ALTER ROLE cell_sealer IN DATABASE "+c.database+" SET track_counts = off")
	n := c.tenant(t)
	c.run(t, 100*time.Millisecond)
	unannounced(t, n)
	c.anchored(t, n, 1)
}

func TestALostConnectionIsOpenedAgain(t *testing.T) {
	c := newCell(t)
	n := c.tenant(t)
	c.run(t, time.Hour)
	conn := n.Connect(t)
	n.Record(t, conn, n.Member(tenants.RoleNurse), audit.Event{Action: "client.read"})
	super := audittest.Connect(t, "super", c.database)
	audittest.Exec(t, super, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'cell_sealer' AND datname = current_database()")
	// No notification: the reconnect looks at everything.
	c.anchored(t, n, 1)
}

func TestTamperingIsAnAlertAndStopsThatLogOnly(t *testing.T) {
	c := newCell(t)
	bad, good := c.tenant(t), c.tenant(t)
	f := c.fixture(t, bad)
	f.write(t, 3)
	f.sealTo(t, 3)
	f.tamper(t, "audit_leaf", "UPDATE ")
	f.write(t, 1)
	s, registry := c.run(t, 100*time.Millisecond)
	good.Record(t, good.Connect(t), good.Member(tenants.RoleNurse), audit.Event{Action: "client.read"})
	c.anchored(t, good, 1)
	require.Eventually(t, func() bool { return len(s.Tampered()) == 1 }, 20*time.Second, 10*time.Millisecond)
	require.Contains(t, s.Tampered(), bad.ID.String())
	families, err := registry.Gather()
	require.NoError(t, err)
	values := map[string]float64{}
	for _, family := range families {
		if g := family.GetMetric()[0].GetGauge(); g != nil {
			values[family.GetName()] = g.GetValue()
		}
	}
	require.EqualValues(t, 1, values["caresphere_audit_tampered_logs"])
	require.Positive(t, values["caresphere_audit_seal_lag_seconds"])
	c.anchored(t, bad, 3)
}

func TestABadKeyIsRefused(t *testing.T) {
	_, err := New(Config{Key: "PRIVATE+KEY+nonsense"})
	require.Error(t, err)
}

// TestAFreshEntryIsSealedBeforeASweepIsOver marks every log for a look and one of
// them for its seal: that one is next, once it is due.
func TestAFreshEntryIsSealedBeforeASweepIsOver(t *testing.T) {
	u := &unit{s: &Sealer{cfg: Config{Debounce: time.Minute}}, known: map[string]audit.Log{}, dirty: map[string]time.Time{},
		swept: map[string]bool{}, running: map[string]bool{}, looks: map[string]bool{}, wake: make(chan struct{}, 1)}
	for range 1000 {
		l := aLog(tenants.NewID())
		u.known[l.Tag()], u.swept[l.Tag()] = l, true
	}
	fresh := aLog(tenants.NewID())
	u.known[fresh.Tag()] = fresh
	u.mark(fresh.Tag())
	now := time.Now()

	l, ok, _ := u.next(now)
	require.True(t, ok)
	require.NotEqual(t, fresh.Tag(), l.Tag(), "before it is due, to gather more entries")
	l, ok, _ = u.next(now.Add(2 * time.Minute))
	require.True(t, ok)
	require.Equal(t, fresh.Tag(), l.Tag())

	u.mark(fresh.Tag())
	for range 998 {
		l, ok, _ = u.next(now.Add(2 * time.Minute))
		require.True(t, ok)
		require.NotEqual(t, fresh.Tag(), l.Tag(), "while it is being sealed")
	}
	delete(u.running, fresh.Tag())
	l, ok, wait := u.next(now)
	require.True(t, ok, "the last of the sweep")
	require.Zero(t, wait)
	require.NotEqual(t, fresh.Tag(), l.Tag())
	_, ok, wait = u.next(now)
	require.False(t, ok)
	require.Positive(t, wait, "it is due later")
}

func aLog(id tenants.ID) audit.Log { return audit.TenantLog(id, tenants.SchemaName(id)) }
