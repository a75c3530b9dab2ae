package export_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/audit/audittest"
	"github.com/caresphere/caresphere/internal/audit/export"
	"github.com/caresphere/caresphere/internal/audit/verify"
	"github.com/caresphere/caresphere/internal/testkit/prove"
	"github.com/caresphere/caresphere/tenants"
)

// timed is a log whose entries lie a minute apart, so that ranges of time are ranges of
// leaves: entry n, from 1 on, was written n minutes after start.
func timed(t testing.TB, entries int) (*fixture, time.Time) {
	t.Helper()
	f := setup(t)
	f.write(t, entries)
	start := time.Now().Add(-1000 * time.Hour).Truncate(time.Minute).UTC()
	name := f.Log().Table("audit_entry")
	audittest.Exec(t, f.super, "ALTER TABLE "+name+" DISABLE TRIGGER ALL")
	audittest.Exec(t, f.super, "UPDATE "+name+" SET at = $1::timestamptz + seq * interval '1 minute'", start)
	audittest.Exec(t, f.super, "ALTER TABLE "+name+" ENABLE TRIGGER ALL")
	return f, start
}

// A filter must not hide what was changed: an entry that it would have chosen may be
// one that it does not choose any more.
func TestAFilterHidesNoChangedEntry(t *testing.T) {
	f, start := timed(t, 400)
	between := func(from, to int) audit.Filter {
		return audit.Filter{From: start.Add(time.Duration(from) * time.Minute), To: start.Add(time.Duration(to) * time.Minute)}
	}
	hour := between(150, 210)
	filters := map[string]audit.Filter{"actor": {Actor: f.nurse.ID}, "hour": hour, "end": {From: start.Add(370 * time.Minute)},
		"action": {Action: "note.read", From: hour.From, To: hour.To}, "alone": between(200, 201), "future": {From: start.Add(9000 * time.Minute)}}
	for name, filter := range filters {
		require.True(t, f.verify(t, f.export(t, export.CSV, filter)).OK, name)
	}
	entries := f.Log().Table("audit_entry")
	audittest.Exec(t, f.super, "CREATE TABLE public.kept AS SELECT * FROM "+entries)
	for _, test := range []struct {
		name, filter, sql string
		kind              verify.Kind
		leaf              int64
	}{
		{"another actor", "actor", "UPDATE %s SET actor_id = gen_random_uuid() WHERE seq = 101", verify.Changed, 100},
		{"another action", "action", "UPDATE %s SET action = 'client.read' WHERE seq = 173", verify.Changed, 172},
		{"one taken away", "alone", "DELETE FROM %s WHERE seq = 200", verify.Removed, 199},
		{"the hour taken away", "hour", "DELETE FROM %s WHERE seq BETWEEN 150 AND 209", verify.Removed, 180},
		{"the hour and its blocks", "hour", "DELETE FROM %s WHERE seq BETWEEN 129 AND 256", verify.Removed, 180},
		{"the hour's beginning", "hour", "DELETE FROM %s WHERE seq BETWEEN 150 AND 195", verify.Removed, 150},
		{"the hour's end", "hour", "DELETE FROM %s WHERE seq BETWEEN 190 AND 209", verify.Removed, 200},
		{"put before", "hour", "UPDATE %s SET at = at - interval '70 minutes' WHERE seq BETWEEN 150 AND 209", verify.Changed, 180},
		{"put long before", "hour", "UPDATE %s SET at = at - interval '9 days' WHERE seq BETWEEN 150 AND 209", verify.Changed, 180},
		{"put after", "hour", "UPDATE %s SET at = at + interval '9 days' WHERE seq BETWEEN 150 AND 209", verify.Changed, 180},
		{"put apart", "hour", "UPDATE %s SET at = at + (CASE WHEN seq < 180 THEN -9 ELSE 9 END) * interval '1 day' WHERE seq BETWEEN 150 AND 209", verify.Changed, 170},
		{"put at the end of days", "hour", "UPDATE %s SET at = 'infinity' WHERE seq BETWEEN 150 AND 209", verify.Removed, 180},
		{"put before all days", "hour", "UPDATE %s SET at = '-infinity' WHERE seq BETWEEN 150 AND 209", verify.Removed, 180},
		{"without a time", "hour", "ALTER TABLE %s ALTER at DROP NOT NULL; UPDATE %[1]s SET at = NULL WHERE seq BETWEEN 150 AND 209", verify.Removed, 180},
		{"the end taken away", "end", "DELETE FROM %s WHERE seq >= 370", verify.Removed, 380},
		{"the end put before", "end", "UPDATE %s SET at = at - interval '9 days' WHERE seq >= 370", verify.Changed, 380},
		{"all taken away", "hour", "DELETE FROM %s", verify.Removed, 180},
		{"all but the first", "end", "DELETE FROM %s WHERE seq > 1", verify.Removed, 380},
	} {
		tamper(t, f, fmt.Sprintf(test.sql, entries), "audit_entry")
		for _, format := range formats {
			r := f.verify(t, f.export(t, format, filters[test.filter]))
			require.False(t, r.OK, "%s: %d leaves", test.name, r.ToLeaf-r.FromLeaf)
			found := false
			for _, p := range r.Problems {
				found = found || p.Kind == test.kind && p.Leaf != nil && *p.Leaf == test.leaf
			}
			require.True(t, found || r.Found > len(r.Problems), "%s: %v", test.name, r.Problems)
			prove.State(t, prove.AuditForged, 1, 0)
		}
		tamper(t, f, "TRUNCATE "+entries, "audit_entry")
		tamper(t, f, "INSERT INTO "+entries+" OVERRIDING SYSTEM VALUE SELECT * FROM public.kept", "audit_entry")
	}
	for name, filter := range filters {
		require.True(t, f.verify(t, f.export(t, export.CSV, filter)).OK, name)
	}
}

// An entry that was put in late, or passed over by a bound that was moved, is in no
// block: the log is refused.
func TestAnEntryWithoutALeafIsNotPassedOver(t *testing.T) {
	f, start := timed(t, 200)
	require.True(t, f.verify(t, f.export(t, export.CSV, audit.Filter{})).OK)
	entries := f.Log().Table("audit_entry")
	const put = `INSERT INTO %[1]s (seq, xid, at, db_role, id, actor_kind, role, action, record_type, record_id, outcome, ip, device, request_id, detail)
		OVERRIDING SYSTEM VALUE SELECT %[2]s, xid, at, db_role, gen_random_uuid(), actor_kind, role, action, record_type, record_id, outcome, ip, device, request_id, detail
		FROM %[1]s WHERE seq = 100`
	for where, filter := range map[string]audit.Filter{
		"301": {From: start, To: start.Add(300 * time.Minute)},
		"300": {},
	} {
		tamper(t, f, fmt.Sprintf(put, entries, where), "audit_entry")
		_, err := f.tryExport(t, export.CSV, filter)
		require.True(t, tenants.IsKind(err, tenants.KindIntegrity), "%s: %v", where, err)
		tamper(t, f, "DELETE FROM "+entries+" WHERE seq = "+where, "audit_entry")
		require.True(t, f.verify(t, f.export(t, export.CSV, filter)).OK)
		prove.State(t, prove.AuditForged, 1, 0)
	}
}

// slow takes an export away and wants no transaction to be open meanwhile.
type slow struct {
	export.Reader
	inside, most int
	out          bytes.Buffer
}

func (s *slow) Read(ctx context.Context, fn func(pgx.Tx) error) error {
	s.inside++
	defer func() { s.inside-- }()
	return s.Reader.Read(ctx, fn)
}

func (s *slow) Write(p []byte) (int, error) {
	s.most = max(s.most, s.inside)
	return s.out.Write(p)
}

func TestNoTransactionWaitsForWhoeverReadsTheFile(t *testing.T) {
	f := setup(t)
	f.write(t, 300)
	require.NoError(t, f.seal(ctx))
	s := &slow{Reader: f.Reader(t)}
	o := export.Options{Log: f.Log(), Format: export.JSONLines, Known: f.known(), Signer: f.signer, Ask: f.seal, Wait: time.Minute}
	require.NoError(t, export.Write(ctx, s, s, o))
	require.Greater(t, s.out.Len(), 2*64<<10, "more than the writer keeps back")
	require.Zero(t, s.most)
	require.True(t, f.verify(t, s.out.Bytes()).OK)
}
