package reconcile

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/tenants"
)

// markPrefix begins the line that a statement of a tenant's role leaves; its
// transaction's number follows.
const markPrefix = "caresphere access mark: transaction "

// transaction is what marks tell of one transaction of a tenant's role.
type transaction struct {
	xid   uint64
	marks int
	first line
}

// refusalWithin is how long after a rolled-back transaction the entry of its
// refusal is written at the latest: a statement's time and the entry's own.
const refusalWithin = 15 * time.Second

// chunk is how many numbers one query asks about.
const chunk = 5000

// trail matches transactions with the entries of one tenant's trail.
type trail struct {
	db  *pgxpool.Pool
	log audit.Log
	// asOf is when the comparison is made: what is fresher may still get its entry.
	asOf time.Time
}

// match counts the transactions into t and returns those that no entry tells of.
func (r trail) match(ctx context.Context, all []*transaction, t *Tenant) ([]*transaction, error) {
	var left []*transaction
	for part := range slices.Chunk(all, chunk) {
		some, err := r.matchSome(ctx, part, t)
		if err != nil {
			return nil, fmt.Errorf("reading the trail of tenant %s: %w", t.ID, err)
		}
		left = append(left, some...)
	}
	if len(left) == 0 {
		return nil, nil
	}
	left, err := r.refused(ctx, left, t)
	if err != nil {
		return nil, fmt.Errorf("reading the refusals of tenant %s: %w", t.ID, err)
	}
	return left, nil
}

// matchSome asks for the state of each transaction before it asks for its entry: one
// that has committed by then has its entry by then.
func (r trail) matchSome(ctx context.Context, part []*transaction, t *Tenant) ([]*transaction, error) {
	numbers := make([]string, len(part))
	for i, x := range part {
		numbers[i] = strconv.FormatUint(x.xid, 10)
	}
	// A number that this server has not given out yet is in nobody's trail.
	running, err := r.numbers(ctx, `SELECT x FROM unnest($1::text[]) x
		WHERE x::xid8 < pg_snapshot_xmax(pg_current_snapshot()) AND pg_xact_status(x::xid8) = 'in progress'`, numbers)
	if err != nil {
		return nil, err
	}
	entered, err := r.numbers(ctx, `SELECT DISTINCT e.xid::text FROM `+r.log.Table("audit_entry")+` e WHERE e.xid = ANY ($1::text[]::xid8[])`, numbers)
	if err != nil {
		return nil, err
	}
	var left []*transaction
	for i, x := range part {
		switch {
		case entered[numbers[i]]:
			t.Matched++
		case running[numbers[i]]:
			t.Running++
		default:
			left = append(left, x)
		}
	}
	return left, nil
}

func (r trail) numbers(ctx context.Context, sql string, numbers []string) (map[string]bool, error) {
	rows, err := r.db.Query(ctx, sql, numbers)
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	var number string
	_, err = pgx.ForEachRow(rows, []any{&number}, func() error {
		found[number] = true
		return nil
	})
	return found, err
}

// refused gives each transaction that was rolled back the entry of a refusal or
// failure that was written soon after it, one for one, and returns the others.
func (r trail) refused(ctx context.Context, left []*transaction, t *Tenant) ([]*transaction, error) {
	numbers := make([]string, len(left))
	for i, x := range left {
		numbers[i] = strconv.FormatUint(x.xid, 10)
	}
	aborted, err := r.numbers(ctx, `SELECT x FROM unnest($1::text[]) x
		WHERE x::xid8 < pg_snapshot_xmax(pg_current_snapshot()) AND pg_xact_status(x::xid8) = 'aborted'`, numbers)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(left, func(a, b *transaction) int { return a.first.at.Compare(b.first.at) })
	rows, err := r.db.Query(ctx, `SELECT e.at FROM `+r.log.Table("audit_entry")+` e WHERE e.outcome <> 'ok' AND e.at >= $1 AND e.at < $2 ORDER BY e.at, e.seq`,
		left[0].first.at, left[len(left)-1].first.at.Add(refusalWithin))
	if err != nil {
		return nil, err
	}
	entries, err := pgx.CollectRows(rows, pgx.RowTo[time.Time])
	if err != nil {
		return nil, err
	}
	var unmatched []*transaction
	next := 0
	for _, x := range left {
		// The log's times are cut to the millisecond, so never later than the entry's.
		for next < len(entries) && entries[next].Before(x.first.at) {
			next++
		}
		if !aborted[strconv.FormatUint(x.xid, 10)] {
			unmatched = append(unmatched, x)
			continue
		}
		if next < len(entries) && entries[next].Before(x.first.at.Add(refusalWithin)) {
			next++
			t.Refused++
			continue
		}
		if time.Since(x.first.at) < refusalWithin {
			// Its entry may still come.
			t.Running++
			continue
		}
		unmatched = append(unmatched, x)
	}
	return unmatched, nil
}

// firstEntry returns when the first entry since from was written; zero for none.
func (r trail) firstEntry(ctx context.Context, from, to time.Time) (time.Time, error) {
	var at *time.Time
	if err := r.db.QueryRow(ctx, `SELECT min(e.at) FROM `+r.log.Table("audit_entry")+` e WHERE e.at >= $1 AND e.at < $2`, from, to).Scan(&at); err != nil {
		return time.Time{}, fmt.Errorf("reading the trail of %s: %w", r.log.Name(), err)
	}
	if at == nil {
		return time.Time{}, nil
	}
	return *at, nil
}

// tenantOf reads the id in a tenant's role or schema.
func tenantOf(schema string) (tenants.ID, bool) {
	if !tenantName.MatchString(schema) {
		return tenants.NilID, false
	}
	id, err := tenants.ParseID(schema[2:10] + "-" + schema[10:14] + "-" + schema[14:18] + "-" + schema[18:22] + "-" + schema[22:])
	return id, err == nil
}
