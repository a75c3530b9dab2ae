package provisioning_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/migrations"
	"github.com/caresphere/caresphere/tenants"
)

// BenchmarkProvision brings organizations to life, each with role, schema, key,
// credential, prefix, gate, probe and steps on record, in turns with the bare
// minimum: the same role and the same tables by the same SQL in one transaction, over a
// connection that is there, and through psql, if it is installed.
func BenchmarkProvision(b *testing.B) {
	ctx, w := context.Background(), setup(b)
	owner, err := pg.Connect(ctx, w.cell.DSN("cell_owner"), pg.Options{})
	require.NoError(b, err)
	b.Cleanup(func() { _ = owner.Close(ctx) })
	ddl := tenantDDL(b)
	var whole, bare, through []time.Duration
	psql, missing := exec.LookPath("psql")
	once := func() {
		org, _ := w.organization(b)
		began := time.Now()
		require.NoError(b, w.p.Provision(ctx, org, true))
		whole = append(whole, time.Since(began))

		began = time.Now()
		makeBare(b, owner, ddl)
		bare = append(bare, time.Since(began))

		if missing == nil {
			through = append(through, throughPsql(b, psql, w.cell.DSN("cell_owner"), owner, ddl))
		}
	}
	for b.Loop() {
		// A median needs several, and the first of each kind is slow.
		for range 11 {
			once()
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(middle(whole), "provision_ms")
	b.ReportMetric(middle(bare), "bare_ddl_ms")
	b.ReportMetric(share(whole, bare), "x_bare_ddl")
	if missing == nil {
		b.ReportMetric(middle(through), "psql_ms")
		b.ReportMetric(share(whole, through), "x_psql")
	}
	// Where the time goes, by the record that the steps leave.
	rows, err := w.admin.Query(ctx, `SELECT step, percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - started_at) * 1000) FROM provisioning_step GROUP BY step`)
	require.NoError(b, err)
	steps, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct {
		Step string
		MS   float64
	}])
	require.NoError(b, err)
	for _, s := range steps {
		b.ReportMetric(s.MS, s.Step+"_ms")
	}
}

// middle is the median, in milliseconds.
func middle(all []time.Duration) float64 {
	return float64(slices.Sorted(slices.Values(all))[len(all)/2].Microseconds()) / 1000
}

// share is the median of the ratios of what took turns.
func share(all, of []time.Duration) float64 {
	ratio := make([]float64, len(all))
	for i := range all {
		ratio[i] = float64(all[i]) / float64(of[i])
	}
	slices.Sort(ratio)
	return ratio[len(ratio)/2]
}

// bareScript is SQL that makes a role with tables; both go when the benchmark ends.
func bareScript(b *testing.B, owner *pgx.Conn, ddl string) string {
	b.Helper()
	ctx, role := context.Background(), tenants.RoleName(tenants.NewID())
	b.Cleanup(func() {
		_, _ = owner.Exec(ctx, "DROP SCHEMA "+role+" CASCADE")
		_, _ = owner.Exec(ctx, "DROP ROLE "+role)
	})
	return "CREATE ROLE " + role + "; CREATE SCHEMA " + role + "; SET LOCAL search_path = " + role + "; SET LOCAL caresphere.tenant_role = " + role + ";" + ddl
}

func makeBare(b *testing.B, owner *pgx.Conn, ddl string) {
	b.Helper()
	ctx, script := context.Background(), bareScript(b, owner, ddl)
	require.NoError(b, pg.InTx(ctx, owner, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, script, pgx.QueryExecModeSimpleProtocol)
		return err
	}))
}

// throughPsql makes the same by a program that starts, connects and ends.
func throughPsql(b *testing.B, psql, dsn string, owner *pgx.Conn, ddl string) time.Duration {
	b.Helper()
	file := filepath.Join(b.TempDir(), "tenant.sql")
	require.NoError(b, os.WriteFile(file, []byte(bareScript(b, owner, ddl)), 0o600))
	began := time.Now()
	out, err := exec.CommandContext(b.Context(), psql, "-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-d", dsn, "-f", file).CombinedOutput()
	require.NoError(b, err, "%s", out)
	return time.Since(began)
}

// tenantDDL is what the tenant migrations do, as one script.
func tenantDDL(b *testing.B) string {
	b.Helper()
	files, err := migrations.Tenant.ReadDir("tenant")
	require.NoError(b, err)
	var all strings.Builder
	for _, f := range files {
		raw, err := migrations.Tenant.ReadFile("tenant/" + f.Name())
		require.NoError(b, err)
		up, _, _ := strings.Cut(string(raw), "-- +goose Down")
		all.WriteString(up)
	}
	return all.String()
}
