package sealer

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"

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
		pause(ctx, u.s.cfg.Sweep/2+rand.N(u.s.cfg.Sweep)) //nolint:gosec // nothing secret depends on it
		u.refresh(ctx)
		u.markPart(turn%parts, parts)
		if err := u.markBehind(ctx); err != nil && ctx.Err() == nil {
			u.s.cfg.Logger.WarnContext(ctx, "audit sealer cannot look for unsealed entries", "error", err)
			// What cannot be asked in one is looked at one by one.
			u.markPart(0, 1)
		}
	}
}

// markPart marks one of so many parts of the logs for a whole look.
func (u *unit) markPart(part, parts uint32) {
	u.mu.Lock()
	for tag := range u.known {
		h := fnv.New32a()
		_, _ = h.Write([]byte(tag))
		if h.Sum32()%parts == part {
			u.swept[tag] = true
		}
	}
	u.mu.Unlock()
	u.signal()
}

// markBehind marks the logs whose last entry is not sealed.
func (u *unit) markBehind(ctx context.Context) error {
	u.mu.Lock()
	logs := make([]audit.Log, 0, len(u.known))
	for _, l := range u.known {
		logs = append(logs, l)
	}
	u.mu.Unlock()
	for len(logs) > 0 && ctx.Err() == nil {
		some := logs[:min(askedAtOnce, len(logs))]
		logs = logs[len(some):]
		behind, err := u.behind(ctx, some)
		if err != nil {
			return err
		}
		for _, l := range behind {
			u.mark(l.Tag())
		}
	}
	return ctx.Err()
}

// behind returns those of the logs that have entries of transactions after the last
// sealing, or were left in the middle of one.
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
		fmt.Fprintf(&sql, "SELECT %d WHERE NOT coalesce((SELECT window_done%s), true) OR EXISTS (SELECT FROM %s WHERE xid >= coalesce((SELECT xid_to%s), '0'))",
			i, latest, l.Table("audit_entry"), latest)
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
