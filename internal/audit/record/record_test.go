package record_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/audit/record"
	"github.com/caresphere/caresphere/tenants"
)

func full() record.Entry {
	id := func(b byte) (id tenants.ID) { id[0], id[15] = b, b; return id }
	return record.Entry{
		Seq: 42, ID: id(1), At: time.Date(2026, 3, 4, 5, 6, 7, 89000, time.UTC), DBRole: "t_x", ActorKind: tenants.ActorMember,
		ActorID: id(2), Role: "nurse", SessionID: id(3), OrganizationID: id(4), FacilityID: id(5), Action: "client.read",
		RecordType: "client", RecordID: "c1", Outcome: record.OK, IP: "192.0.2.1", Device: "a \"b\" \\ <é>\u2028\x00\n", RequestID: "r",
		Detail: map[string]string{"z": "1", "a": "\t", "": ""},
	}
}

// The bytes are the format: a change of this test is a new version of it.
func TestTheCanonicalForm(t *testing.T) {
	e := full()
	const want = `{"seq":42,"id":"01000000-0000-0000-0000-000000000001","at":"2026-03-04T05:06:07.000089Z","db_role":"t_x",` +
		`"actor_kind":"member","actor_id":"02000000-0000-0000-0000-000000000002","role":"nurse","session_id":"03000000-0000-0000-0000-000000000003",` +
		`"organization_id":"04000000-0000-0000-0000-000000000004","facility_id":"05000000-0000-0000-0000-000000000005",` +
		`"action":"client.read","record_type":"client","record_id":"c1","outcome":"ok","ip":"192.0.2.1",` +
		`"device":"a \"b\" \\ <é>` + "\u2028" + `\u0000\u000a","request_id":"r","detail":{"":"","a":"\u0009","z":"1"}}`
	got := record.Append(nil, &e)
	require.Equal(t, want, string(got))
	require.True(t, json.Valid(got))
	back, err := record.Decode(got)
	require.NoError(t, err)
	require.Equal(t, e, back)
	// Another zone is the same moment.
	e.At = e.At.In(time.FixedZone("x", 3600))
	require.Equal(t, got, record.Append(nil, &e))
}

func TestEveryOtherSpellingIsRefused(t *testing.T) {
	e := full()
	good := string(record.Append(nil, &e))
	for name, bad := range map[string]string{
		"unknown field":   strings.Replace(good, `"ip":`, `"x":"","ip":`, 1),
		"missing field":   strings.Replace(good, `"ip":"192.0.2.1",`, "", 1),
		"twice":           strings.Replace(good, `"ip":`, `"ip":"","ip":`, 1),
		"reordered":       strings.Replace(strings.Replace(good, `"action"`, `"x"`, 1), `"record_type"`, `"action"`, 1),
		"space":           strings.Replace(good, `,"ip"`, `, "ip"`, 1),
		"trailing":        good + "\n",
		"leading zero":    strings.Replace(good, `:42`, `:042`, 1),
		"plus":            strings.Replace(good, `:42`, `:+42`, 1),
		"float":           strings.Replace(good, `:42`, `:42.0`, 1),
		"huge":            strings.Replace(good, `:42`, `:99999999999999999999`, 1),
		"upper case id":   strings.Replace(good, "01000000-", "0100000A-", 1),
		"nil id":          strings.Replace(good, "01000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000000", 1),
		"fewer digits":    strings.Replace(good, ".000089Z", ".00009Z", 1),
		"other zone":      strings.Replace(good, ".000089Z", ".000089+00:00", 1),
		"other escape":    strings.Replace(good, `\u000a`, `\n`, 1),
		"upper escape":    strings.Replace(good, `\u000a`, `\u000A`, 1),
		"needless escape": strings.Replace(good, `"192`, `"\u003192`, 1),
		"raw control":     strings.Replace(good, `\u0000`, "\x00", 1),
		"invalid UTF-8":   strings.Replace(good, "é", "\xff", 1),
		"detail twice":    strings.Replace(good, `"a":"\u0009"`, `"":"","a":"\u0009"`, 1),
		"detail unsorted": strings.Replace(good, `"":"","a":"\u0009","z":"1"`, `"z":"1","":"","a":"\u0009"`, 1),
		"detail not text": strings.Replace(good, `"z":"1"`, `"z":1`, 1),
		"null":            strings.Replace(good, `"r"`, `null`, 1),
		"open":            good[:len(good)-1],
		"empty":           "",
		"open string":     `{"seq":1,"id":"`,
		"open escape":     strings.Replace(good, `"r"`, `"\`, 1),
		"too long":        strings.Replace(good, "192.0.2.1", strings.Repeat("1", record.MaxSize), 1),
	} {
		require.NotEqual(t, good, bad, name)
		_, err := record.Decode([]byte(bad))
		require.ErrorIs(t, err, record.ErrNotCanonical, name)
	}
}

func TestCellsAreSafeInASpreadsheet(t *testing.T) {
	e := full()
	e.Device, e.IP, e.RequestID, e.DBRole, e.Role = "=1+1", "+1", "-1", "@x", "\t=1"
	cells := record.Cells(&e)
	require.Len(t, cells, len(record.Columns())-5)
	for _, want := range []string{"'=1+1", "'+1", "'-1", "'@x", " =1"} {
		require.Contains(t, cells, want)
	}
}

func FuzzDecode(f *testing.F) {
	e := full()
	f.Add(record.Append(nil, &e))
	f.Add(record.Append(nil, &record.Entry{}))
	f.Add([]byte(`{"seq":1,"id":"`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := record.Decode(b)
		if err == nil && string(record.Append(nil, &e)) != string(b) {
			t.Fatalf("decoded and encoded again, %q became something else", b)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	e := full()
	var buf []byte
	for b.Loop() {
		buf = record.Append(buf[:0], &e)
	}
}

func BenchmarkDecode(b *testing.B) {
	e := full()
	buf := record.Append(nil, &e)
	for b.Loop() {
		if _, err := record.Decode(buf); err != nil {
			b.Fatal(err)
		}
	}
}
