package provisioning_test

import (
	"context"
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
// minimum: the same role and the same tables by the same SQL in one transaction.
func BenchmarkProvision(b *testing.B) {
	ctx, w := context.Background(), setup(b)
	owner, err := pg.Connect(ctx, w.cell.DSN("cell_owner"), pg.Options{})
	require.NoError(b, err)
	b.Cleanup(func() { _ = owner.Close(ctx) })
	ddl := tenantDDL(b)
	var whole, bare []time.Duration
	for b.Loop() {
		org, _ := w.organization(b)
		began := time.Now()
		require.NoError(b, w.p.Provision(ctx, org, true))
		whole = append(whole, time.Since(began))

		began = time.Now()
		makeBare(b, owner, ddl)
		bare = append(bare, time.Since(began))
	}
	ratio := make([]float64, len(whole))
	for i := range whole {
		ratio[i] = float64(whole[i]) / float64(bare[i])
	}
	slices.Sort(whole)
	slices.Sort(bare)
	slices.Sort(ratio)
	half := len(whole) / 2
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(whole[half].Microseconds())/1000, "provision_ms")
	b.ReportMetric(float64(bare[half].Microseconds())/1000, "bare_ddl_ms")
	b.ReportMetric(ratio[half], "x_bare_ddl")
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

func makeBare(b *testing.B, owner *pgx.Conn, ddl string) {
	b.Helper()
	ctx, role := context.Background(), tenants.RoleName(tenants.NewID())
	b.Cleanup(func() {
		_, _ = owner.Exec(ctx, "DROP SCHEMA "+role+" CASCADE")
		_, _ = owner.Exec(ctx, "DROP ROLE "+role)
	})
	require.NoError(b, pg.InTx(ctx, owner, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "CREATE ROLE "+role+"; CREATE SCHEMA "+role+"; SET LOCAL search_path = "+role+"; SET LOCAL caresphere.tenant_role = "+role+";"+ddl,
			pgx.QueryExecModeSimpleProtocol)
		return err
	}))
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
