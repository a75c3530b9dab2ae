package sealer

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/pg"
)

// askedAtOnce is how many logs one statement asks about. A sealing of a log that has
// nothing to seal takes a dozen statements: with ten thousand logs, a whole processor.
const askedAtOnce = 50

// sweep looks for what no notification told of: they are a hint, not a promise.
func (u *unit) sweep(ctx context.Context) {
	parts := max(1, uint32(u.s.cfg.Whole/u.s.cfg.Sweep))
	for turn := rand.Uint32N(parts); ctx.Err() == nil; turn++ { //nolint:gosec // nothing secret depends on it
		// Jitter keeps several sealers from looking at the same moment.
		next := time.NewTimer(u.s.cfg.Sweep/2 + rand.N(u.s.cfg.Sweep)) //nolint:gosec // nothing secret depends on it
		select {
		case <-ctx.Done():
		case <-next.C:
			u.refresh(ctx)
			u.duePart(turn%parts, parts)
		case <-u.ask:
			// Each log's own tables are asked, whatever is known of it.
			u.counts = nil
			u.mu.Lock()
			clear(u.whole)
			u.mu.Unlock()
		}
		next.Stop()
		if err := u.markBehind(ctx); err != nil && ctx.Err() == nil {
			u.s.cfg.Logger.WarnContext(ctx, "audit sealer cannot look for unsealed entries", "error", err)
			// What cannot be asked in one is looked at one by one.
			u.sweepAll()
		}
	}
}

// duePart has one of so many parts of the logs looked at, as the pace allows.
func (u *unit) duePart(part, parts uint32) {
	u.mu.Lock()
	u.paced.forget(u.known)
	for tag := range u.known {
		h := fnv.New32a()
		_, _ = h.Write([]byte(tag))
		if h.Sum32()%parts == part {
			u.paced.due[tag] = true
		}
	}
	u.mu.Unlock()
	u.signal()
}

// sweepAll marks every log for a look without rest: each may have something to seal.
func (u *unit) sweepAll() {
	u.mu.Lock()
	for tag := range u.known {
		u.swept[tag] = true
	}
	u.mu.Unlock()
	u.signal()
}

// markBehind marks the logs whose last entry is not sealed, of those that were written
// since they were last asked.
func (u *unit) markBehind(ctx context.Context) error {
	u.mu.Lock()
	logs := make([]audit.Log, 0, len(u.known))
	for _, l := range u.known {
		logs = append(logs, l)
	}
	u.mu.Unlock()
	written, counts, err := u.written(ctx, logs)
	if err != nil {
		return err
	}
	// What is not asked below, because something fails, is asked next time.
	u.counts = counts
	for some := range slices.Chunk(written, askedAtOnce) {
		behind, err := u.behind(ctx, some)
		if err != nil {
			for _, l := range written {
				delete(u.counts, l.Tag())
			}
			return err
		}
		for _, l := range behind {
			u.mark(l.Tag())
		}
	}
	return ctx.Err()
}

// count is how many rows PostgreSQL has counted into a log's table of entries.
type count struct {
	table uint32 // its oid
	rows  int64
	// lost: the statistics began anew since the log did, and are no measure of it.
	lost bool
}

// written returns the logs whose table was written since their count was last taken, but
// for those that have as many entries as were sealed, and the counts of now. One statement
// asks for all: to ask a log's tables costs a millisecond and keeps 150 KB of the server's
// memory. PostgreSQL's statistics are a hint. They come ten seconds late at most, and a
// crash takes them away; then all have changed, or what they hide is found when each log
// is held against its anchor.
func (u *unit) written(ctx context.Context, logs []audit.Log) ([]audit.Log, map[string]count, error) {
	ctx, cancel := context.WithTimeout(ctx, u.s.cfg.Timeout)
	defer cancel()
	tables, names := make([]uint32, len(logs)), make([]string, len(logs))
	for i, l := range logs {
		tables[i], names[i] = u.counts[l.Tag()].table, l.Table("audit_entry")
	}
	// A name is looked up once: a table that takes another's place has none of its rows.
	rows, err := u.src.Pool.Query(ctx, `SELECT t.oid, coalesce(pg_stat_get_tuples_inserted(t.oid), 0)
		FROM unnest($1::oid[], $2::text[]) WITH ORDINALITY AS a(oid, name, n)
		CROSS JOIN LATERAL (SELECT coalesce(nullif(a.oid, 0), to_regclass(a.name)::oid, 0) AS oid) AS t
		WHERE current_setting('track_counts')::bool ORDER BY a.n`, tables, names)
	if err != nil {
		return nil, nil, fmt.Errorf("asking which logs were written: %w", err)
	}
	now, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c count, err error) { return c, row.Scan(&c.table, &c.rows) })
	if err != nil {
		return nil, nil, fmt.Errorf("asking which logs were written: %w", err)
	}
	if len(now) != len(logs) {
		return nil, nil, errors.New("asking which logs were written: the server counts no rows (track_counts)")
	}
	var out []audit.Log
	u.mu.Lock()
	defer u.mu.Unlock()
	counts := make(map[string]count, len(logs))
	for i, l := range logs {
		tag := l.Tag()
		before, asked := u.counts[tag]
		size := u.whole[tag]
		now[i].lost = before.lost || asked && now[i].rows < before.rows || !asked && now[i].rows < size
		if !asked || before.rows != now[i].rows {
			// Else a notification had it sealed: to ask it would cost as much again.
			if size == 0 || size != now[i].rows || now[i].lost {
				out = append(out, l)
			}
			now[i].table = 0 // looked up anew next time
		}
		counts[tag] = now[i]
	}
	return out, counts, nil
}

// behind returns those of the logs that have entries of transactions after the last
// sealing, were left in the middle of one, or say that it reached what has not been yet.
func (u *unit) behind(ctx context.Context, logs []audit.Log) ([]audit.Log, error) {
	ctx, cancel := context.WithTimeout(ctx, u.s.cfg.Timeout)
	defer cancel()
	var sql strings.Builder
	for i, l := range logs {
		if i > 0 {
			sql.WriteString(" UNION ALL ")
		}
		// By transaction and not by seq: one that began before the last sealing and
		// committed after it has smaller numbers.
		latest := " FROM " + l.Table("audit_checkpoint") + " ORDER BY epoch DESC, tree_size DESC LIMIT 1"
		fmt.Fprintf(&sql, `SELECT %d WHERE NOT coalesce((SELECT window_done%[2]s), true) OR EXISTS (SELECT FROM %[3]s WHERE xid >= coalesce((SELECT xid_to%[2]s), '0'))
			OR (SELECT xid_to%[2]s) > pg_snapshot_xmin(pg_current_snapshot())`, i, latest, l.Table("audit_entry"))
	}
	conn, err := u.src.Pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking for unsealed entries: %w", err)
	}
	defer conn.Release()
	pg.Saw(conn.Conn(), len(logs)-1)
	// The plan of fifty tables would be of no use to any other statement.
	rows, err := conn.Query(ctx, sql.String(), pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return nil, fmt.Errorf("asking for unsealed entries: %w", err)
	}
	at, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return nil, fmt.Errorf("asking for unsealed entries: %w", err)
	}
	out := make([]audit.Log, len(at))
	for i, k := range at {
		out[i] = logs[k]
	}
	return out, nil
}
