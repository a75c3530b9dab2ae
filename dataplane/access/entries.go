package access

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/tenants"
)

// entryWriter writes the audit entries of a tenant's requests whose transactions
// have ended: those of many with one statement and one synced commit. An answer leaves
// only after write returned nil for its entry.
//
// It has a connection of its own, on which no statement of a request ever runs: what
// SQL that slips into one could leave behind in a session stays out of its reach,
// synchronous_commit among it. Who acted stands in the list, and the list is signed for
// this very backend: see cell.write_entries.
type entryWriter struct {
	tenant tenants.ID
	login  Login
	pool   *pgxpool.Pool
	pools  *Pools

	// reads counts the tenant's reads of one statement that are not answered yet.
	reads atomic.Int64
	// coming counts the reads that are at the database now: their entries follow soon.
	coming atomic.Int64
	// grew is told of each entry that began to wait.
	grew chan struct{}

	mu      sync.Mutex
	waiting []*waitingEntry
	running bool
	closed  bool
}

func newEntryWriter(tenant tenants.ID, login Login, pool *pgxpool.Pool, pools *Pools) *entryWriter {
	return &entryWriter{tenant: tenant, login: login, pool: pool, pools: pools, grew: make(chan struct{}, 1)}
}

type waitingEntry struct {
	entry []byte
	done  chan error
}

// groupTime bounds one group's commit, connecting included; groupMost is how many
// entries it holds at most, and groupPause how long it waits at most to grow.
const (
	groupTime  = 5 * time.Second
	groupMost  = 200
	groupPause = 2 * time.Millisecond
)

// errEntriesClosed: nothing was written, for the tenant's pool was dropped.
var errEntriesClosed = errors.New("access: the tenant's entries are written elsewhere by now")

// write returns nil once the entry is durable. With any other error than
// errEntriesClosed that is not known.
func (w *entryWriter) write(ctx context.Context, entry []byte) error {
	mine := &waitingEntry{entry, make(chan error, 1)}
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return errEntriesClosed
	}
	w.waiting = append(w.waiting, mine)
	if !w.running {
		w.running = true
		go w.run()
	}
	w.mu.Unlock()
	select {
	case w.grew <- struct{}{}:
	default:
	}
	select {
	case err := <-mine.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// gather waits while more entries are about to come than there are. A group costs the
// database as much as a dozen entries do; who reads alone waits for nobody.
func (w *entryWriter) gather() {
	if w.coming.Load() == 0 {
		return
	}
	pause := time.NewTimer(groupPause)
	defer pause.Stop()
	for {
		w.mu.Lock()
		there := int64(len(w.waiting))
		w.mu.Unlock()
		if there == 0 || there >= w.coming.Load() {
			return
		}
		select {
		case <-w.grew:
		case <-pause.C:
			return
		}
	}
}

// run writes as long as somebody waits: all that came while a group was under way
// make the next one.
func (w *entryWriter) run() {
	for {
		w.gather()
		w.mu.Lock()
		n := min(len(w.waiting), groupMost)
		if n == 0 {
			w.running = false
			if w.closed {
				// Whoever closed it left that to the last group.
				go w.pool.Close()
			}
			w.mu.Unlock()
			return
		}
		group := w.waiting[:n:n]
		w.waiting = w.waiting[n:]
		w.mu.Unlock()
		w.settle(group)
	}
}

// settle writes a group and tells each of those who wait. Where the database refused
// the group for what is in it, each entry is tried alone: one that cannot be written
// fails its own request and no other. One that ran out of time is not tried again.
func (w *entryWriter) settle(group []*waitingEntry) {
	err := w.commit(group)
	var server *pgconn.PgError
	if len(group) > 1 && errors.As(err, &server) && server.Severity == "ERROR" && !tenants.IsKind(classify(err), tenants.KindUnavailable) {
		for _, e := range group {
			w.settle([]*waitingEntry{e})
		}
		return
	}
	for _, e := range group {
		e.done <- err
	}
}

// commit writes a group; all of it is durable, or nobody's answer leaves.
func (w *entryWriter) commit(group []*waitingEntry) error {
	ctx, cancel := context.WithTimeout(context.Background(), groupTime)
	defer cancel()
	conn, err := w.pools.takeFrom(asSecond(ctx), w.pool)
	if err != nil {
		return err
	}
	defer w.pools.budget.release(conn)
	entries := make([][]byte, len(group))
	for i, e := range group {
		entries[i] = e.entry
	}
	list := audit.Entries(entries)
	var written int
	// One statement is a transaction of its own: its row comes back after the commit.
	if err := conn.QueryRow(ctx, audit.GroupSQL, w.login.entries(conn, w.tenant, list), list).Scan(&written); err != nil {
		return fmt.Errorf("committing %d audit entries: %w", len(group), err)
	}
	if written != len(group) {
		return fmt.Errorf("of %d audit entries %d were written", len(group), written)
	}
	return nil
}

// close ends the writer after what waits.
func (w *entryWriter) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	w.closed = true
	if !w.running {
		w.pool.Close()
	}
}

// join counts a read of the tenant's until left is called, and returns how many there
// are with it. Errors as acquire's.
func (p *Pools) join(ctx context.Context, tenant tenants.ID) (among int64, left func(), err error) {
	tp, err := p.get(ctx, tenant)
	if err != nil {
		return 0, nil, classify(err)
	}
	return tp.entries.reads.Add(1), func() { tp.entries.reads.Add(-1) }, nil
}

// write writes an entry of the tenant's and returns nil once it is durable. Errors as
// acquire's; with any the entry may or may not be there.
func (p *Pools) write(ctx context.Context, tenant tenants.ID, entry []byte) error {
	for {
		tp, err := p.get(ctx, tenant)
		if err != nil {
			return classify(err)
		}
		err = tp.entries.write(ctx, entry)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errEntriesClosed) && ctx.Err() == nil:
			// The pool that a hint dropped is replaced by the tenant's present one.
			continue
		case isLoginRefused(err):
			p.Drop(tenant)
		}
		return classify(err)
	}
}
