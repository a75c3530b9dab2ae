package access

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/semaphore"
)

// budget bounds the connections that a worker has open for all of its tenants. The
// server's own limit is for everybody: a worker that ran into it would shut out the
// control plane, the sealer and the other workers too.
//
// A request that holds its connection may need another one, for the tenant's keys or
// its entry. A quarter of the budget is kept for those, or requests that wait for each
// other's second connection would use up the first ones.
//
// Who waits for a place gets one that is idle. Where none ever is, since the tenants
// that have them are always busy, a connection that has served for its turn is closed
// when its request ends.
//
// Opening one costs the server a process and a handshake, so only a few are opened at
// once. Who holds a connection already does not queue behind those who wait for one.
type budget struct {
	all, first *semaphore.Weighted
	// opening is held from the dial until the server has let the connection in. Who
	// waits for a place, or for a connection of a tenant's full pool, holds none.
	opening *semaphore.Weighted
	// cancels bounds the connections that only ask for a statement's end.
	cancels *semaphore.Weighted
	// spare closes idle connections of the tenants that were longest unused.
	spare   func()
	waiting atomic.Int32
}

const (
	// sparePause is how often it is looked for idle connections while a request waits.
	sparePause = 10 * time.Millisecond
	// turn is how long a connection serves before it may be closed for another
	// tenant's sake: some ten times what opening one takes.
	turn = 250 * time.Millisecond
	// cancelsAtOnce is how many connections ask for a statement's end at once.
	cancelsAtOnce = 8
)

func newBudget(connections, opening int, spare func()) *budget {
	return &budget{all: semaphore.NewWeighted(int64(connections)), first: semaphore.NewWeighted(int64(connections - connections/4)),
		opening: semaphore.NewWeighted(int64(opening)), cancels: semaphore.NewWeighted(cancelsAtOnce), spare: spare}
}

// take waits for a place and returns how to give it back. The error is the context's.
func (b *budget) take(ctx context.Context, second bool) (give func(), err error) {
	if second {
		if err := b.wait(ctx, b.all); err != nil {
			return nil, err
		}
		return func() { b.all.Release(1) }, nil
	}
	if err := b.wait(ctx, b.first); err != nil {
		return nil, err
	}
	if err := b.wait(ctx, b.all); err != nil {
		b.first.Release(1)
		return nil, err
	}
	return func() { b.all.Release(1); b.first.Release(1) }, nil
}

// short tells whether somebody waits for a place.
func (b *budget) short() bool { return b.waiting.Load() > 0 }

// wait waits for its turn at a semaphore, which is first come, first served, and makes
// room meanwhile.
func (b *budget) wait(ctx context.Context, s *semaphore.Weighted) error {
	if s.TryAcquire(1) {
		return nil
	}
	b.waiting.Add(1)
	defer b.waiting.Add(-1)
	got := make(chan error, 1)
	go func() { got <- s.Acquire(ctx, 1) }()
	look := time.NewTicker(sparePause)
	defer look.Stop()
	for {
		b.spare()
		select {
		case err := <-got:
			return err
		case <-look.C:
		}
	}
}

// release gives a connection back to its pool, or closes it if it has had its turn
// and somebody waits for the place.
func (b *budget) release(conn *pgxpool.Conn) {
	if !b.short() {
		conn.Release()
		return
	}
	p, ok := placeOf(conn.Conn())
	if !ok || time.Since(p.since) < turn {
		conn.Release()
		return
	}
	own := conn.Hijack()
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = own.Close(ctx)
	}()
}

// dial opens a network connection that keeps its place until it is closed.
//
// The driver dials as well to have the server end a statement whose request was
// cancelled, and the connection that runs it keeps its place until that was said: such
// a connection, which lives for a moment, needs no place of its own.
func (b *budget) dial(ctx context.Context, network, address string) (net.Conn, error) {
	as, ok := ctx.Value(connecting{}).(place)
	if !ok {
		if err := b.cancels.Acquire(ctx, 1); err != nil {
			return nil, err
		}
		return connect(ctx, network, address, func() { b.cancels.Release(1) }, func() {})
	}
	give, err := b.take(ctx, as == secondPlace)
	if err != nil {
		return nil, err
	}
	opened := func() {}
	if as == firstPlace {
		if err := b.opening.Acquire(ctx, 1); err != nil {
			give()
			return nil, err
		}
		opened = func() { b.opening.Release(1) }
	}
	return connect(ctx, network, address, give, opened)
}

func connect(ctx context.Context, network, address string, give, opened func()) (net.Conn, error) {
	conn, err := (&net.Dialer{KeepAlive: 5 * time.Minute}).DialContext(ctx, network, address)
	if err != nil {
		opened()
		give()
		return nil, err
	}
	return &placed{Conn: conn, since: time.Now(), give: sync.OnceFunc(give), opened: sync.OnceFunc(opened)}, nil
}

// opened says that the server has let the connection in.
func (b *budget) opened(_ context.Context, conn *pgx.Conn) error {
	if p, ok := placeOf(conn); ok {
		p.opened()
	}
	return nil
}

// connecting marks the context in which a tenant's connection is taken from its pool,
// and opened if need be, with the place that it would have.
type connecting struct{}

type place int

const (
	firstPlace place = iota
	// secondPlace is for who holds a connection already.
	secondPlace
)

func asSecond(ctx context.Context) context.Context {
	return context.WithValue(ctx, connecting{}, secondPlace)
}

// asFirst leaves a context that asSecond has marked as it is.
func asFirst(ctx context.Context) context.Context {
	if ctx.Value(connecting{}) != nil {
		return ctx
	}
	return context.WithValue(ctx, connecting{}, firstPlace)
}

// placed is a connection that has a place in the budget.
type placed struct {
	net.Conn
	since        time.Time
	give, opened func()
}

func placeOf(conn *pgx.Conn) (*placed, bool) {
	raw := conn.PgConn().Conn()
	if t, ok := raw.(*tls.Conn); ok {
		raw = t.NetConn()
	}
	p, ok := raw.(*placed)
	return p, ok
}

// Close implements net.Conn.
func (p *placed) Close() error {
	defer p.give()
	defer p.opened()
	return p.Conn.Close()
}
