package reconcile

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/tenants"
)

// entryPrefix begins the line that a read leaves whose entry is written with others';
// that entry's id follows.
const entryPrefix = "caresphere access mark: entry "

// entryWithin is how long after the read its entry is written at the latest, or that
// of the refusal which took its place.
const entryWithin = 30 * time.Second

// reading is what marks tell of the one transaction that announced an entry.
type reading struct {
	entry tenants.ID
	marks int
	first line
}

// sameTransaction tells whether another line is of the transaction of the first.
func (x *reading) sameTransaction(l *line) bool {
	return x.first.Session == l.Session && x.first.VirtualXID == l.VirtualXID && l.VirtualXID != ""
}

// announced notes a mark that names an entry. Those from shortly before the time that
// was asked for are kept too: a later transaction may show their context again.
func (r *run) announced(l *line, entry string) {
	tenant, ok := tenantOf(l.User)
	id, err := tenants.ParseID(entry)
	if !ok || err != nil || (!r.o.Tenant.IsZero() && tenant != r.o.Tenant) || l.at.Before(r.o.From.Add(-entryWithin)) {
		return
	}
	of := r.reads[l.User]
	if of == nil {
		of = map[tenants.ID]*reading{}
		r.reads[l.User] = of
	}
	x := of[id]
	if x == nil {
		x = &reading{entry: id, first: *l}
		of[id] = x
	}
	if x.sameTransaction(l) {
		x.marks++
		return
	}
	if !l.at.Before(r.o.From) {
		r.unmatchedMark(l, tenant, "a transaction of the tenant's role reached clinical tables in the name of entry "+id.String()+", which tells of another")
	}
}

func (r *run) unmatchedMark(l *line, tenant tenants.ID, why string) {
	r.unmatched(Unmatched{At: l.at, Tenants: []tenants.ID{tenant}, Role: l.User, PID: l.PID, From: l.from(), Application: l.Application, Database: l.Database, Why: why})
}

// compareReads holds the announced entries of one tenant against its trail.
func (r *run) compareReads(ctx context.Context, of trail, schema string, t *Tenant) error {
	var all []*reading
	for _, x := range r.reads[schema] {
		if !x.first.at.Before(r.o.From) {
			all = append(all, x)
			t.Marks += x.marks
		}
	}
	t.Transactions += len(all)
	for part := range slices.Chunk(all, chunk) {
		left, err := of.matchReads(ctx, part, r.marks[schema], t)
		if err != nil {
			return fmt.Errorf("reading the trail of tenant %s: %w", t.ID, err)
		}
		for _, x := range left {
			r.unmatchedMark(&x.first, t.ID, "a read of the tenant's role reached clinical tables and has no audit entry; it announced "+x.entry.String())
		}
		t.Unmatched += len(left)
	}
	return nil
}

// entered is an entry of the trail.
type entered struct {
	at  time.Time
	xid string
	ok  bool
}

// matchReads counts the reads into t and returns those that no entry tells of.
func (r trail) matchReads(ctx context.Context, part []*reading, marked map[uint64]*transaction, t *Tenant) ([]*reading, error) {
	entries, err := r.entries(ctx, `SELECT e.id::text, e.at, e.xid::text, e.outcome = 'ok' FROM `+r.log.Table("audit_entry")+` e WHERE e.id = ANY ($1::text[]::uuid[])`, part)
	if err != nil {
		return nil, err
	}
	var left []*reading
	for _, x := range part {
		e, there := entries[x.entry]
		// The log's times are cut to the millisecond, so never later than the entry's.
		if there && (e.at.Before(x.first.at) || !e.at.Before(x.first.at.Add(entryWithin)) || markedBy(marked, e.xid)) {
			there = false
		}
		switch {
		case !there:
			left = append(left, x)
		case e.ok:
			t.Matched++
		default:
			t.Refused++
		}
	}
	if len(left) == 0 {
		return nil, nil
	}
	// One that could not be written is named by the entry of the refusal that followed.
	since := slices.MinFunc(left, func(a, b *reading) int { return a.first.at.Compare(b.first.at) }).first.at
	instead, err := r.entries(ctx, `SELECT e.detail->>'`+audit.InsteadOf+`', e.at, e.xid::text, false FROM `+r.log.Table("audit_entry")+` e
		WHERE e.outcome <> 'ok' AND e.detail->>'`+audit.InsteadOf+`' = ANY ($1::text[]) AND e.at >= $2`, left, since)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(left, func(x *reading) bool {
		e, there := instead[x.entry]
		switch {
		case there && !e.at.Before(x.first.at) && e.at.Before(x.first.at.Add(entryWithin)):
			t.Refused++
		case r.asOf.Sub(x.first.at) < entryWithin:
			// Its entry may still come.
			t.Running++
		default:
			return false
		}
		return true
	}), nil
}

// markedBy tells whether the transaction of that number left a mark of its own: then
// its entry tells of that.
func markedBy(marked map[uint64]*transaction, xid string) bool {
	n, err := strconv.ParseUint(xid, 10, 64)
	_, there := marked[n]
	return err != nil || there
}

func (r trail) entries(ctx context.Context, sql string, of []*reading, more ...any) (map[tenants.ID]entered, error) {
	ids := make([]string, len(of))
	for i, x := range of {
		ids[i] = x.entry.String()
	}
	rows, err := r.db.Query(ctx, sql, append([]any{ids}, more...)...)
	if err != nil {
		return nil, err
	}
	found := map[tenants.ID]entered{}
	var name string
	var e entered
	_, err = pgx.ForEachRow(rows, []any{&name, &e.at, &e.xid, &e.ok}, func() error {
		id, err := tenants.ParseID(name)
		found[id] = e
		return err
	})
	return found, err
}

// roles are those that left marks.
func (r *run) roles() []string {
	left := map[string]bool{}
	for role := range r.marks {
		left[role] = true
	}
	for role := range r.reads {
		left[role] = true
	}
	return slices.Sorted(maps.Keys(left))
}
