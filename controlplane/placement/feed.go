package placement

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/pause"
	"github.com/caresphere/caresphere/tenants"
)

const (
	// LongPoll is how long a reader that is up to date waits for news.
	LongPoll = 25 * time.Second
	// pollEvery finds a version whose notification was lost.
	pollEvery = time.Second
	// share is how much longer than a table took to make the next one waits, a second at
	// most: all routers and workers read each whole, and among ten thousand tenants, of
	// which some are always being made, would do little else.
	share   = 8
	channel = "caresphere_routes"
)

// Feed keeps the newest signed route table and hands it to readers who wait. It
// goes on serving the last one while the database is away.
type Feed struct {
	pool *pgxpool.Pool
	sign func(tenants.RouteTable) ([]byte, error)

	mu      sync.Mutex
	version int64
	doc     []byte
	news    chan struct{} // closed when a newer table is there
	ended   bool
}

// NewFeed returns a feed that signs each table once. Run keeps it current.
func NewFeed(pool *pgxpool.Pool, sign func(tenants.RouteTable) ([]byte, error)) *Feed {
	return &Feed{pool: pool, sign: sign, news: make(chan struct{})}
}

// Next returns the newest signed table if its version is above after, waiting for
// one for as long as wait. A nil document means nothing new. A reader ahead of the
// database is overtaken, and gets that table. The error is KindUnavailable if no table
// could be made yet, and after End, KindInvalid for a version that cannot be.
func (f *Feed) Next(ctx context.Context, after int64, wait time.Duration) ([]byte, error) {
	if f.behind(after) {
		if err := overtake(ctx, f.pool, after); err != nil {
			return nil, err
		}
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		f.mu.Lock()
		doc, version, news, ended := f.doc, f.version, f.news, f.ended
		f.mu.Unlock()
		if ended {
			return nil, tenants.NewError(tenants.KindUnavailable, "this process is stopping")
		}
		if doc != nil && version > after {
			return doc, nil
		}
		select {
		case <-news:
		case <-timer.C:
			if doc == nil {
				return nil, tenants.NewError(tenants.KindUnavailable, "the route table is not ready")
			}
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// End sends all readers away, those who wait at once: a process that stops would
// else have to wait for them as long as a poll lasts.
func (f *Feed) End() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.ended {
		f.ended = true
		close(f.news)
		f.news = make(chan struct{})
	}
}

// Run follows the version in the database until the context ends: by notification,
// and by asking every second. report gets every error; it tries again.
func (f *Feed) Run(ctx context.Context, report func(error)) {
	for ctx.Err() == nil {
		if err := f.follow(ctx); err != nil && ctx.Err() == nil {
			report(err)
			_ = pause.For(ctx, pollEvery)
		}
	}
}

func (f *Feed) follow(ctx context.Context) error {
	conn, err := f.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("following the route table: %w", err)
	}
	defer func() {
		// A connection that listens does not go back to the others.
		_ = conn.Hijack().Close(context.WithoutCancel(ctx))
	}()
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return fmt.Errorf("listening for route versions: %w", err)
	}
	for {
		begun := time.Now()
		made, err := f.refresh(ctx)
		if err != nil {
			return err
		}
		if made {
			_ = pause.For(ctx, min(share*time.Since(begun), pollEvery))
		}
		wait, cancel := context.WithTimeout(ctx, pollEvery)
		_, err = conn.Conn().WaitForNotification(wait)
		timedOut := wait.Err() != nil
		cancel()
		if err != nil && (!timedOut || ctx.Err() != nil) {
			return fmt.Errorf("waiting for route versions: %w", err)
		}
	}
}

// Refresh makes and signs the table anew if the database has a newer version.
func (f *Feed) Refresh(ctx context.Context) error {
	_, err := f.refresh(ctx)
	return err
}

func (f *Feed) refresh(ctx context.Context) (made bool, err error) {
	version, err := store.New(f.pool).RouteVersion(ctx)
	if err != nil {
		return false, fmt.Errorf("reading the route table's version: %w", err)
	}
	f.mu.Lock()
	there, have := f.doc != nil, f.version
	f.mu.Unlock()
	switch {
	case there && version == have:
		return false, nil
	case there && version < have:
		if err := overtake(ctx, f.pool, have); err != nil {
			return false, err
		}
	}
	table, err := Table(ctx, f.pool)
	if err != nil {
		return false, err
	}
	doc, err := f.sign(table)
	if err != nil {
		return false, fmt.Errorf("signing the route table: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.doc == nil || table.Version > f.version {
		f.version, f.doc = table.Version, doc
		close(f.news)
		f.news = make(chan struct{})
	}
	return true, nil
}
