package audit_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/audit/audittest"
	"github.com/caresphere/caresphere/tenants"
)

// BenchmarkInsert is the insert alone, a hundred in a round trip, without commits.
func BenchmarkInsert(b *testing.B) {
	n := audittest.NewTenant(b, audittest.Cell(b))
	c := n.Connect(b)
	a := n.Member(tenants.RoleNurse)
	ev := audit.Event{Action: "client.read", RecordType: "client", RecordID: tenants.NewID().String(), FacilityID: tenants.NewID()}
	require.NoError(b, n.InTx(ctx, c, a, func(tx pgx.Tx) error {
		var batch pgx.Batch
		for b.Loop() {
			batch.Queue(audit.InsertSQL(false), audit.InsertArgs(false, a, ev)...)
			if batch.Len() == 100 {
				if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
					return err
				}
				batch = pgx.Batch{}
			}
		}
		return tx.SendBatch(ctx, &batch).Close()
	}))
}
