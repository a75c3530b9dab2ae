package search_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/audit/audittest"
	"github.com/caresphere/caresphere/internal/audit/record"
	"github.com/caresphere/caresphere/internal/audit/search"
	"github.com/caresphere/caresphere/tenants"
)

var ctx = context.Background()

func find(t *testing.T, r audittest.Reader, f audit.Filter, p search.Page) (result search.Result, err error) {
	t.Helper()
	err = r.Read(ctx, func(tx pgx.Tx) error {
		result, err = search.Find(ctx, tx, r.Tenant.Log(), f, p)
		return err
	})
	return result, err
}

func setup(t *testing.T) (*audittest.Tenant, audittest.Reader, tenants.Actor, tenants.ID) {
	n := audittest.NewTenant(t, audittest.Cell(t))
	c := n.Connect(t)
	nurse, facility := n.Member(tenants.RoleNurse), tenants.NewID()
	for i := range 25 {
		n.Record(t, c, nurse, audit.Event{Action: "client.read", RecordType: "client", RecordID: "c" + string(rune('a'+i)), FacilityID: facility})
	}
	owner := n.Member(tenants.RoleOwner)
	for range 5 {
		n.Record(t, c, owner, audit.Event{Action: "member.update", RecordType: "member", RecordID: nurse.ID.String(), Outcome: audit.OutcomeDenied})
	}
	return n, n.Reader(t), nurse, facility
}

func TestEachFilter(t *testing.T) {
	_, r, nurse, facility := setup(t)
	all, err := find(t, r, audit.Filter{}, search.Page{Limit: 100})
	require.NoError(t, err)
	require.Len(t, all.Entries, 30)
	third := all.Entries[27].At // newest first: the third of all
	for name, test := range map[string]struct {
		filter audit.Filter
		want   int
	}{
		"actor":       {audit.Filter{Actor: nurse.ID}, 25},
		"record":      {audit.Filter{RecordType: "client", RecordID: "ca"}, 1},
		"record type": {audit.Filter{RecordType: "member"}, 5},
		"action":      {audit.Filter{Action: "member.update"}, 5},
		"denied":      {audit.Filter{Outcome: audit.OutcomeDenied}, 5},
		"ok":          {audit.Filter{Outcome: audit.OutcomeOK}, 25},
		"facility":    {audit.Filter{Facility: facility}, 25},
		"from":        {audit.Filter{From: third}, 28},
		"to":          {audit.Filter{To: third}, 2},
		"all at once": {audit.Filter{Actor: nurse.ID, RecordType: "client", RecordID: "cb", Action: "client.read", Outcome: audit.OutcomeOK, Facility: facility, To: time.Now().Add(time.Hour)}, 1},
		"nobody":      {audit.Filter{Actor: tenants.NewID()}, 0},
	} {
		got, err := find(t, r, test.filter, search.Page{Limit: 100})
		require.NoError(t, err, name)
		require.Len(t, got.Entries, test.want, name)
		// The filter says the same in memory as in SQL.
		matching := 0
		for i := range all.Entries {
			if test.filter.Match(&all.Entries[i]) {
				matching++
			}
		}
		require.Equal(t, test.want, matching, name)
	}
}

func TestPagesNeitherSkipNorRepeat(t *testing.T) {
	n, r, nurse, _ := setup(t)
	c := n.Connect(t)
	var seen []record.Entry
	for page := (search.Page{Limit: 7}); ; {
		got, err := find(t, r, audit.Filter{}, page)
		require.NoError(t, err)
		seen = append(seen, got.Entries...)
		if got.Next == "" {
			break
		}
		page.Cursor = got.Next
		n.Record(t, c, nurse, audit.Event{Action: "client.read"}) // arrives meanwhile
	}
	require.Len(t, seen, 30)
	for i := 1; i < len(seen); i++ {
		require.Greater(t, seen[i-1].Seq, seen[i].Seq)
	}
}

func TestBadInputNamesTheField(t *testing.T) {
	_, r, _, _ := setup(t)
	now := time.Now()
	for field, test := range map[string]struct {
		f audit.Filter
		p search.Page
	}{
		"query.limit":   {p: search.Page{Limit: 501}},
		"query.cursor":  {p: search.Page{Cursor: "zz"}},
		"query.to":      {f: audit.Filter{From: now, To: now}},
		"query.outcome": {f: audit.Filter{Outcome: "maybe"}},
	} {
		_, err := find(t, r, test.f, test.p)
		require.True(t, tenants.IsKind(err, tenants.KindInvalid), field)
		require.ErrorContains(t, err, field)
	}
}

func TestOtherRolesFindNothing(t *testing.T) {
	n, r, nurse, _ := setup(t)
	r.Actor = nurse
	got, err := find(t, r, audit.Filter{}, search.Page{})
	require.NoError(t, err)
	require.Empty(t, got.Entries)
	r.Actor = n.Member(tenants.RoleOwner)
	got, err = find(t, r, audit.Filter{}, search.Page{})
	require.NoError(t, err)
	require.NotEmpty(t, got.Entries)
}

// As the tenant's login, under row-level security, each filter reaches its index.
func TestEachFilterUsesItsIndex(t *testing.T) {
	n, r, nurse, facility := setup(t)
	super := audittest.Connect(t, "super", n.Database)
	audittest.Exec(t, super, `INSERT INTO `+n.Log().Table("audit_entry")+` (id, actor_kind, actor_id, role, facility_id, action, record_type, record_id, outcome, ip, device, request_id, detail, at)
		SELECT gen_random_uuid(), 'member', md5((i % 500)::text)::uuid, 'nurse', md5((i % 300)::text)::uuid, 'action' || i % 200, 'client', 'r' || i % 5000, 'ok', '', '', '', '{}', now() - i * interval '1 minute'
		FROM generate_series(1, 30000) i`)
	audittest.Exec(t, super, "ANALYZE "+n.Log().Table("audit_entry"))
	for index, f := range map[string]audit.Filter{
		"audit_entry_by_actor":    {Actor: nurse.ID},
		"audit_entry_by_record":   {RecordID: "ca"},
		"audit_entry_by_action":   {Action: "member.update"},
		"audit_entry_by_outcome":  {Outcome: audit.OutcomeDenied},
		"audit_entry_by_facility": {Facility: facility},
		"audit_entry_by_time":     {From: time.Now().Add(-50 * time.Hour), To: time.Now().Add(-49 * time.Hour)},
	} {
		where, args := f.Where("e", nil)
		require.NoError(t, r.Read(ctx, func(tx pgx.Tx) error {
			rows, err := tx.Query(ctx, "EXPLAIN SELECT e.seq FROM audit_entry e WHERE "+where+" ORDER BY e.at DESC, e.seq DESC LIMIT 51", args...)
			if err != nil {
				return err
			}
			plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
			require.Contains(t, strings.Join(plan, "\n"), index)
			return err
		}))
	}
}
