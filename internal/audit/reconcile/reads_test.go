package reconcile_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/audit/reconcile"
	"github.com/caresphere/caresphere/tenants"
)

// announce reads the clients as the nurse in a context that names an entry.
func (w *world) announce(t testing.TB, signed string) {
	t.Helper()
	var b pgx.Batch
	b.Queue("SELECT set_config('caresphere.context', $1, true)", signed)
	b.Queue("SELECT id FROM client WHERE facility_id = $1", [16]byte(w.facility))
	require.NoError(t, w.conn.SendBatch(ctx, &b).Close())
}

// later is the reconciliation as it will be when nothing is too fresh any more.
func (w *world) later(t testing.TB, from time.Time) reconcile.Report {
	t.Helper()
	w.flushed(t)
	r, err := reconcile.Run(ctx, reconcile.Options{Cell: w.sealer, Dir: w.dir, From: from, To: time.Now().Add(time.Hour)})
	require.NoError(t, err)
	return r
}

// TestAReadIsMatchedByTheEntryItNamed has reads announce their entries: each of those
// that follow matches one, whatever group it came in.
func TestAReadIsMatchedByTheEntryItNamed(t *testing.T) {
	w := newWorld(t)
	writer := w.Connect(t)
	from := w.now(t)
	ids := []tenants.ID{tenants.NewID(), tenants.NewID(), tenants.NewID()}
	for _, id := range ids {
		w.announce(t, w.ReadContext(w.conn, w.nurse, id))
	}
	got := w.reconcile(t, from).Tenants[0]
	require.Equal(t, 3, got.Running, "their entries may still come")
	require.NoError(t, w.WriteGroup(ctx, writer, w.nurse,
		audit.Event{ID: ids[0], Action: "client.list", RecordType: "client"},
		audit.Event{ID: ids[1], Action: "client.list", RecordType: "client", Outcome: audit.OutcomeFailed},
		audit.Event{Action: "client.list", RecordType: "client", Outcome: audit.OutcomeFailed, Detail: map[string]string{audit.InsteadOf: ids[2].String()}}))
	r := w.later(t, from)
	require.Empty(t, ours(r, w.cell))
	got = r.Tenants[0]
	require.Equal(t, 3, got.Transactions)
	require.Equal(t, 1, got.Matched)
	require.Equal(t, 2, got.Refused, "one that failed, and one whose entry had to be written anew")

	w.announce(t, w.ReadContext(w.conn, w.nurse, tenants.NewID()))
	r = w.later(t, from)
	found := ours(r, w.cell)
	require.Len(t, found, 1)
	require.Contains(t, found[0].Why, "no audit entry")
	require.Equal(t, []tenants.ID{w.ID}, found[0].Tenants)
	require.Equal(t, 1, r.Tenants[0].Unmatched)
	require.False(t, r.OK)
}

// TestAnEntryTellsOfOneReadOnly shows a context twice, and names entries that tell of
// something else.
func TestAnEntryTellsOfOneReadOnly(t *testing.T) {
	w := newWorld(t)
	writer := w.Connect(t)
	early, written, kept := tenants.NewID(), tenants.NewID(), tenants.NewID()
	require.NoError(t, w.WriteGroup(ctx, writer, w.nurse, audit.Event{ID: early, Action: "client.list"}))
	from := w.now(t)
	// One that another transaction wrote for its own reach.
	require.NoError(t, w.InTx(ctx, w.conn, w.nurse, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT id FROM client"); err != nil {
			return err
		}
		return audit.Insert(ctx, tx, w.nurse, audit.Event{ID: written, Action: "client.list"})
	}))
	signed := w.ReadContext(w.conn, w.nurse, kept)
	w.announce(t, signed)
	require.NoError(t, w.WriteGroup(ctx, writer, w.nurse, audit.Event{ID: kept, Action: "client.list"}))
	r := w.later(t, from)
	require.Empty(t, ours(r, w.cell))
	require.Equal(t, 2, r.Tenants[0].Matched)

	again := w.now(t)
	w.announce(t, signed)
	for _, since := range []time.Time{from, again} {
		found := ours(w.later(t, since), w.cell)
		require.Len(t, found, 1)
		require.Contains(t, found[0].Why, "which tells of another")
	}
	w.announce(t, w.ReadContext(w.conn, w.nurse, early))
	w.announce(t, w.ReadContext(w.conn, w.nurse, written))
	require.Len(t, ours(w.later(t, from), w.cell), 3)
}
