package export_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/audit/export"
	"github.com/caresphere/caresphere/internal/audit/verify"
	"github.com/caresphere/caresphere/tenants"
)

func TestAnExportVerifies(t *testing.T) {
	f := setup(t)
	for _, n := range []int{0, 1, 63, 64, 65, 200} {
		var have int
		require.NoError(t, f.super.QueryRow(ctx, "SELECT count(*) FROM "+f.Log().Table("audit_entry")).Scan(&have))
		f.write(t, n-have)
		for _, format := range formats {
			file := f.export(t, format, audit.Filter{})
			r := f.verify(t, file, verify.ForLog(f.ID.String()))
			require.Empty(t, r.Problems, "%d entries as %s", n, format)
			require.EqualValues(t, n, r.Entries)
			require.EqualValues(t, n, r.TreeSize)
			require.Zero(t, r.Withheld)
			require.Equal(t, string(format), r.Format)
		}
	}
}

// What somebody else's tools see in the file.
func TestTheFormatsAreReadable(t *testing.T) {
	f := setup(t)
	f.write(t, 70)
	for _, l := range bytes.Split(bytes.TrimSuffix(f.export(t, export.JSONLines, audit.Filter{}), []byte("\n")), []byte("\n")) {
		require.True(t, json.Valid(l), "%s", l)
	}
	rows, err := csv.NewReader(bytes.NewReader(f.export(t, export.CSV, audit.Filter{}))).ReadAll()
	require.NoError(t, err)
	require.Equal(t, "kind", rows[0][0])
	entries := 0
	for _, row := range rows[1:] {
		for _, cell := range row {
			if cell != "" {
				require.NotContains(t, "=+-@\t\r", cell[:1], "a spreadsheet would run %q", cell)
			}
		}
		if row[0] == "entry" {
			entries++
		}
	}
	require.Equal(t, 70, entries)
}

func TestAFilteredExportVerifies(t *testing.T) {
	f := setup(t)
	f.write(t, 300)
	var middle, end time.Time
	require.NoError(t, f.super.QueryRow(ctx, "SELECT min(at) FILTER (WHERE seq = 100), min(at) FILTER (WHERE seq = 140) FROM "+f.Log().Table("audit_entry")).Scan(&middle, &end))
	c := f.Connect(t)
	rare := f.Member(tenants.RoleOwner)
	f.Record(t, c, rare, audit.Event{Action: "member.update", RecordType: "member", RecordID: rare.ID.String()})
	f.write(t, 100)
	for name, test := range map[string]struct {
		filter   audit.Filter
		entries  int64
		withheld int64
	}{
		"actor":   {audit.Filter{Actor: rare.ID}, 1, 400},
		"record":  {audit.Filter{RecordType: "member", RecordID: rare.ID.String()}, 1, 400},
		"outcome": {audit.Filter{Outcome: audit.OutcomeDenied}, 80, 321},
		"time":    {audit.Filter{From: middle, To: end}, 40, 64*3 - 64 - 40},
		"both":    {audit.Filter{From: middle, To: end, Action: "note.read"}, 8, 64*3 - 64 - 8},
		"nothing": {audit.Filter{Actor: tenants.NewID()}, 0, 401},
		"never":   {audit.Filter{To: middle.Add(-time.Hour)}, 0, 0},
	} {
		for _, format := range formats {
			r := f.verify(t, f.export(t, format, test.filter))
			require.Empty(t, r.Problems, name)
			require.True(t, r.Filtered)
			require.Equal(t, test.entries, r.Entries, name)
			require.Equal(t, test.withheld, r.Withheld, name)
		}
	}
}

func TestAnExportWaitsForTheSealer(t *testing.T) {
	f := setup(t)
	f.write(t, 3)
	err := export.Write(ctx, f.Reader(t), &bytes.Buffer{}, export.Options{Log: f.Log(), Format: export.CSV, Known: f.known(), Signer: f.signer, Wait: time.Millisecond})
	require.True(t, tenants.IsKind(err, tenants.KindUnavailable), "%v", err)
	require.EqualValues(t, 3, f.verify(t, f.export(t, export.CSV, audit.Filter{})).Entries)
}

func TestOnlyAReaderOfTheTrailExports(t *testing.T) {
	f := setup(t)
	f.write(t, 3)
	require.NotEmpty(t, f.export(t, export.JSONLines, audit.Filter{}))
	r := f.Reader(t)
	r.Actor = f.nurse
	err := export.Write(ctx, r, &bytes.Buffer{}, export.Options{Log: f.Log(), Format: export.JSONLines, Known: f.known(), Signer: f.signer, Wait: time.Second})
	require.Error(t, err)
}
