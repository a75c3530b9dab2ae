package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/tenants"
)

// Options say what is compared.
type Options struct {
	// Cell logs in to the cell's database as its sealer: it reads the trails, and may
	// not read anything clinical.
	Cell *pgxpool.Pool
	// Dir is the folder of the server's log.
	Dir string
	// From is inclusive, To exclusive; a zero To is now.
	From, To time.Time
	// Tenant restricts the report to one tenant, and to what may have been about it;
	// NilID means all.
	Tenant tenants.ID
}

var tenantName = regexp.MustCompile(`^t_[0-9a-f]{32}$`)

// Run reads the record and compares it with the trails. An error means that it
// could not be done; what is wrong is in the report.
func Run(ctx context.Context, o Options) (Report, error) {
	if o.To.IsZero() {
		o.To = time.Now()
	}
	if !o.From.Before(o.To) {
		return Report{}, errors.New("the time to compare is empty")
	}
	c, err := readCatalog(ctx, o.Cell)
	if err != nil {
		return Report{}, err
	}
	r := &run{o: o, c: c, marks: map[string]map[uint64]*transaction{}, reads: map[string]map[tenants.ID]*reading{}, ddl: map[string]int{}, report: Report{
		From: o.From.UTC(), To: o.To.UTC(), Database: c.database, Tenants: []Tenant{}, Declared: map[string]int{}, Unmatched: []Unmatched{}, Gaps: []Gap{}, Notices: []Gap{}}}
	if err := r.posture(ctx); err != nil {
		return Report{}, err
	}
	if err := r.read(); err != nil {
		return Report{}, err
	}
	if err := r.compare(ctx); err != nil {
		return Report{}, err
	}
	slices.SortStableFunc(r.report.Unmatched, func(a, b Unmatched) int { return a.At.Compare(b.At) })
	r.report.OK = r.report.Found == 0 && len(r.report.Gaps) == 0
	return r.report, nil
}

// run is one reconciliation at work.
type run struct {
	o        Options
	c        *catalog
	supers   map[string]bool
	sessions sessions
	report   Report
	// marks by tenant role and transaction.
	marks map[string]map[uint64]*transaction
	// reads by tenant role and announced entry.
	reads map[string]map[tenants.ID]*reading
	// ddl counts the DDL that tenants' roles tried, on nothing with rows of interest.
	ddl map[string]int
	// others counts unmatched statements of others by tenant.
	others map[tenants.ID]int
}

func (r *run) gap(at time.Time, what string) {
	if len(r.report.Gaps) < maxGaps {
		r.report.Gaps = append(r.report.Gaps, Gap{at, what})
	}
}

func (r *run) unmatched(u Unmatched) {
	if !r.o.Tenant.IsZero() && len(u.Tenants) > 0 && !slices.Contains(u.Tenants, r.o.Tenant) {
		return
	}
	r.report.Found++
	if r.others == nil {
		r.others = map[tenants.ID]int{}
	}
	for _, id := range u.Tenants {
		r.others[id]++
	}
	if len(r.report.Unmatched) < maxUnmatched {
		r.report.Unmatched = append(r.report.Unmatched, u)
	}
}

// posture notes how the server is set, and who its superusers are.
func (r *run) posture(ctx context.Context) error {
	wrong, err := readPosture(ctx, r.o.Cell)
	if err != nil {
		return err
	}
	for _, w := range wrong {
		r.gap(time.Now().UTC(), w)
	}
	rows, err := r.o.Cell.Query(ctx, "SELECT rolname::text FROM pg_roles WHERE rolsuper")
	if err != nil {
		return fmt.Errorf("listing superusers: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("listing superusers: %w", err)
	}
	r.supers = map[string]bool{}
	for _, n := range names {
		r.supers[n] = true
	}
	return nil
}

// read goes through the record once.
func (r *run) read() error {
	files, err := recordFiles(r.o.Dir, r.o.From)
	if err != nil {
		return err
	}
	r.sessions = sessions{database: r.c.database, supers: r.supers, asked: r.o.From, open: map[string]*session{}, gap: r.gap, found: r.unmatched}
	for _, name := range files {
		err := readRecord(name, r.line, func(number int64) {
			r.gap(time.Time{}, fmt.Sprintf("line %d of %s cannot be read", number, name))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// line judges one line of the record.
func (r *run) line(l *line) {
	r.report.Lines++
	if r.report.FirstLine.IsZero() {
		r.report.FirstLine = l.at
	}
	if !l.at.Before(r.o.To) {
		return
	}
	r.sessions.take(l)
	if tenantName.MatchString(l.User) && l.Database == r.c.database {
		if entry, ok := strings.CutPrefix(l.Message, entryPrefix); ok {
			r.announced(l, entry)
			return
		}
	}
	if l.at.Before(r.o.From) {
		return
	}
	if tenantName.MatchString(l.User) && l.Database == r.c.database {
		if number, ok := strings.CutPrefix(l.Message, markPrefix); ok {
			r.mark(l, number)
			return
		}
	}
	if text, ok := statementOf(l.Message); ok {
		r.statement(l, text)
		return
	}
	switch {
	case strings.HasPrefix(l.Message, "replication connection authorized: "):
		r.unmatched(Unmatched{At: l.at, Role: l.User, PID: l.PID, From: l.from(), Application: applicationOf(l), Why: "a replication session copies the whole server"})
	case l.Backend == "postmaster" && strings.HasPrefix(l.Message, `parameter "`) && recording.MatchString(l.Message):
		r.gap(l.at, "the server's settings changed while it ran: "+l.Message)
	case strings.HasPrefix(l.Message, "database system is ready to accept connections"):
		r.report.Notices = append(r.report.Notices, Gap{l.at, "the server started"})
	case strings.HasPrefix(l.Message, "database system was interrupted"), strings.HasPrefix(l.Message, "database system was not properly shut down"):
		r.report.Notices = append(r.report.Notices, Gap{l.at, "the server had stopped without notice; the record's last lines before may be lost"})
	}
}

// mark notes a mark of a tenant's role.
func (r *run) mark(l *line, number string) {
	id, ok := tenantOf(l.User)
	xid, err := strconv.ParseUint(number, 10, 64)
	if !ok || err != nil || (!r.o.Tenant.IsZero() && id != r.o.Tenant) {
		return
	}
	of := r.marks[l.User]
	if of == nil {
		of = map[uint64]*transaction{}
		r.marks[l.User] = of
	}
	x := of[xid]
	if x == nil {
		x = &transaction{xid: xid, first: *l}
		of[xid] = x
	}
	x.marks++
}

// statement judges a recorded statement, each part of it on its own.
func (r *run) statement(l *line, text string) {
	for _, s := range statements(lex(text)) {
		if file, ok := r.c.declared[exact(s)]; ok && (r.supers[l.User] || l.User == "cell_owner") {
			r.report.Declared[file]++
			continue
		}
		v := r.c.judge(s)
		if l.Database != r.c.database && !reachesAcross(v) {
			continue
		}
		if tenantName.MatchString(l.User) && !r.c.rows(v) {
			r.ddl[l.User]++
			continue
		}
		if v.reason == "" {
			continue
		}
		u := Unmatched{At: l.at, Role: l.User, PID: l.PID, From: l.from(), Application: l.Application, Database: l.Database,
			Tables: v.tables, Statement: shown(s), Why: v.reason}
		for _, schema := range v.schemas {
			if id, ok := tenantOf(schema); ok {
				u.Tenants = append(u.Tenants, id)
			}
		}
		r.unmatched(u)
	}
}

// reachesAcross tells whether a statement in another database concerns this cell.
func reachesAcross(v verdict) bool {
	return len(v.schemas) > 0 || v.reason == reasonRecording || v.reason == reasonSettings || v.reason == reasonCopies
}

// compare holds the marks against the trails.
func (r *run) compare(ctx context.Context) error {
	schemas := slices.Sorted(maps.Keys(r.c.schemas))
	asOf := time.Now()
	if r.o.To.After(asOf) {
		asOf = r.o.To
	}
	for _, schema := range schemas {
		id, ok := tenantOf(schema)
		if !ok || (!r.o.Tenant.IsZero() && id != r.o.Tenant) {
			continue
		}
		t := Tenant{ID: id, Transactions: len(r.marks[schema]), Unmatched: r.others[id]}
		of := trail{r.o.Cell, audit.TenantLog(id, schema), asOf}
		if err := r.compareReads(ctx, of, schema, &t); err != nil {
			return err
		}
		all := slices.Collect(maps.Values(r.marks[schema]))
		for _, x := range all {
			t.Marks += x.marks
		}
		left, err := of.match(ctx, all, &t)
		if err != nil {
			return err
		}
		for _, x := range left {
			l := &x.first
			r.unmatched(Unmatched{At: l.at, Tenants: []tenants.ID{id}, Role: l.User, PID: l.PID, From: l.from(), Application: l.Application, Database: l.Database,
				Why: "transaction " + strconv.FormatUint(x.xid, 10) + " of the tenant's role reached clinical tables and has no audit entry"})
		}
		t.Unmatched += len(left)
		first, err := of.firstEntry(ctx, r.o.From, r.o.To)
		if err != nil {
			return err
		}
		if !first.IsZero() && (r.report.FirstLine.IsZero() || first.Before(r.report.FirstLine)) {
			r.gap(first, "the trail of tenant "+id.String()+" has entries from before the record begins")
		}
		r.report.Tenants = append(r.report.Tenants, t)
	}
	for _, role := range slices.Sorted(maps.Keys(r.ddl)) {
		if id, ok := tenantOf(role); ok && (r.o.Tenant.IsZero() || id == r.o.Tenant) {
			r.report.Notices = append(r.report.Notices, Gap{r.report.To, fmt.Sprintf("role %s tried %d statements of DDL, which its grants refuse", role, r.ddl[role])})
		}
	}
	for _, role := range r.roles() {
		if !r.c.schemas[role] {
			r.gap(time.Now().UTC(), "role "+role+" left marks and has no schema any more: its trail is gone")
		}
	}
	return nil
}
