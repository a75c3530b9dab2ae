package access

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/caresphere/caresphere/internal/pg"
)

// flusher makes commits durable that did not wait for the disk themselves: many with
// one write. A read's transaction commits with synchronous_commit off, which puts
// its commit record into the write-ahead log and returns. wait then has a commit of
// our own begin after that, with synchronous_commit on: the log is one sequence for
// the whole cluster, and PostgreSQL acknowledges a synced commit only once all of
// the log up to it is on disk (and with a synchronous standby, there too). So when
// wait returns nil, every commit acknowledged before the call survives a crash.
//
// A connection is free again as soon as its commit is in the log, so a tenant's few
// connections do not stand in a queue for the disk.
type flusher struct {
	dsn string

	mu      sync.Mutex
	pool    *pgxpool.Pool
	next    *flush
	running bool
	closed  bool
}

// flush is one synced commit and those who wait for it.
type flush struct {
	done chan struct{}
	err  error
}

// flushTime bounds one synced commit, connecting included.
const flushTime = 5 * time.Second

// syncedCommit writes a record that means nothing to anybody, in a transaction with
// a number: without both, PostgreSQL would not wait for the disk.
const syncedCommit = "SELECT pg_logical_emit_message(true, 'caresphere.flush', '')"

func newFlusher(dsn string) *flusher { return &flusher{dsn: dsn} }

// wait returns once everything that was committed before the call is durable. An
// error means that this is not known.
func (f *flusher) wait(ctx context.Context) error {
	f.mu.Lock()
	if f.next == nil {
		f.next = &flush{done: make(chan struct{})}
	}
	mine := f.next
	if !f.running {
		f.running = true
		go f.run()
	}
	f.mu.Unlock()
	select {
	case <-mine.done:
		return mine.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run flushes as long as somebody waits. Who comes while one is under way waits for
// the next: that one may have begun before their commit.
func (f *flusher) run() {
	for {
		f.mu.Lock()
		now := f.next
		f.next = nil
		if now == nil {
			f.running = false
			f.mu.Unlock()
			return
		}
		f.mu.Unlock()
		now.err = f.sync()
		close(now.done)
	}
}

func (f *flusher) sync() error {
	ctx, cancel := context.WithTimeout(context.Background(), flushTime)
	defer cancel()
	pool, err := f.open()
	if err != nil {
		return err
	}
	// Again, for a connection may have ended while nobody waited; once more is harmless.
	for attempt := 0; ; attempt++ {
		if _, err = pool.Exec(ctx, syncedCommit); err == nil || attempt == 1 || ctx.Err() != nil {
			return err
		}
	}
}

func (f *flusher) open() (*pgxpool.Pool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, errClosed
	}
	if f.pool != nil {
		return f.pool, nil
	}
	pool, err := pg.Open(context.Background(), f.dsn, pg.Options{
		ApplicationName: "caresphere-dataplane-flush", MaxConns: 1, StatementTimeout: flushTime,
		Params: map[string]string{"synchronous_commit": "on"},
	})
	if err != nil {
		return nil, fmt.Errorf("opening the connection that flushes: %w", err)
	}
	f.pool = pool
	return pool, nil
}

func (f *flusher) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	if f.pool != nil {
		f.pool.Close()
	}
}
