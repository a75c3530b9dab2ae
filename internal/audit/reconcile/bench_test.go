package reconcile_test

import (
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/audit/audittest"
	"github.com/caresphere/caresphere/internal/audit/reconcile"
)

// recorded is how many bytes the record has.
func (w *world) recorded(t testing.TB) (n int64) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(w.dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(d.Name(), ".json") {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	}))
	return n
}

// BenchmarkRecord is one audited read of a tenant's role: with nothing recorded,
// with the mark, and with every statement recorded. The test cluster does not sync
// its commits, so the share of the record is at its largest here.
func BenchmarkRecord(b *testing.B) {
	w := newWorld(b)
	setup := map[string]string{
		"nothing": `CREATE OR REPLACE FUNCTION cell.ctx_facilities() RETURNS uuid[] LANGUAGE sql STABLE PARALLEL UNSAFE AS 'SELECT facilities FROM cell.context()'`,
		"marks":   "",
		"all":     "ALTER ROLE " + w.Role + " SET log_statement = 'all'",
	}
	for _, name := range []string{"marks", "all", "nothing"} {
		b.Run(name, func(b *testing.B) {
			if setup[name] != "" {
				audittest.Exec(b, w.super, setup[name])
			}
			w.conn = w.Connect(b)
			w.flushed(b)
			before := w.recorded(b)
			for b.Loop() {
				w.read(b, true)
			}
			b.StopTimer()
			w.flushed(b)
			b.ReportMetric(float64(w.recorded(b)-before)/float64(b.N), "recorded-B/op")
			audittest.Exec(b, w.super, "ALTER ROLE "+w.Role+" RESET log_statement")
		})
	}
}

// BenchmarkRun reconciles 2,000 transactions.
func BenchmarkRun(b *testing.B) {
	w := newWorld(b)
	from := w.now(b)
	for range 2000 {
		w.read(b, true)
	}
	w.flushed(b)
	var lines int64
	for b.Loop() {
		r, err := reconcile.Run(ctx, reconcile.Options{Cell: w.sealer, Dir: w.dir, From: from})
		require.NoError(b, err)
		require.Equal(b, 2000, r.Tenants[0].Matched)
		lines += r.Lines
	}
	b.ReportMetric(float64(lines)/b.Elapsed().Seconds(), "lines/s")
}
