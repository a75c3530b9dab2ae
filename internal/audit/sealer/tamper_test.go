package sealer

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/internal/audit/audittest"
	"github.com/caresphere/caresphere/internal/audit/tree"
	"github.com/caresphere/caresphere/internal/testkit/prove"
	"github.com/caresphere/caresphere/tenants"
)

// tamper changes a table as a superuser with its triggers off: the statement, the table, its tail.
func (f *fixture) tamper(t testing.TB, table, sql string) {
	t.Helper()
	name := f.log.Log.Table(table)
	audittest.Exec(t, f.super, "ALTER TABLE "+name+" DISABLE TRIGGER ALL")
	audittest.Exec(t, f.super, sql+name+tail[sql])
	audittest.Exec(t, f.super, "ALTER TABLE "+name+" ENABLE TRIGGER ALL")
}

// tail is what follows the table's name in a statement.
var tail = map[string]string{
	"TRUNCATE ":    "",
	"DELETE FROM ": " WHERE tree_size > 10",
	"UPDATE ":      " SET hash = sha256('forged')",
}

// The next seal, which reads no old entry, finds whatever breaks the sealed tree.
func TestTheNextSealFindsABrokenTree(t *testing.T) {
	for name, test := range map[string]struct {
		table, sql, found string
	}{
		"hashes rewritten":     {"audit_hash", "UPDATE ", "do not give the signed root"},
		"leaves rewritten":     {"audit_leaf", "UPDATE ", "do not give the signed root"},
		"hashes truncated":     {"audit_hash", "TRUNCATE ", "hashes are missing"},
		"checkpoint removed":   {"audit_checkpoint", "DELETE FROM ", "it was cut: 21 entries are anchored, 10 are sealed here"},
		"everything truncated": {"audit_checkpoint", "TRUNCATE ", "it was cut: 21 entries are anchored, 0 are sealed here"},
	} {
		t.Run(name, func(t *testing.T) {
			f := setup(t)
			f.write(t, 10)
			f.sealTo(t, 10)
			f.write(t, 11)
			f.sealTo(t, 21)
			f.tamper(t, test.table, test.sql)
			f.write(t, 1)
			_, err := f.log.Seal(ctx)
			var tampered *TamperError
			require.ErrorAs(t, err, &tampered)
			require.Contains(t, tampered.What, test.found)
			// It stays stopped.
			_, err = f.log.Seal(ctx)
			require.ErrorAs(t, err, &tampered)
			var size int64
			require.NoError(t, f.super.QueryRow(ctx, "SELECT coalesce(max(tree_size), 0) FROM "+f.log.Log.Table("audit_checkpoint")).Scan(&size))
			require.LessOrEqual(t, size, int64(21))
			prove.State(t, prove.AuditForged, 1, 0)
		})
	}
}

// Old entries are found by the check, which reads them all.
func TestTheCheckFindsChangedEntries(t *testing.T) {
	for name, test := range map[string]struct {
		table, sql string
		want       Finding
	}{
		"changed":    {"audit_entry", "UPDATE %s SET action = 'client.forged' WHERE seq = 5", Finding{4, 5, "the entry was changed"}},
		"back-dated": {"audit_entry", "UPDATE %s SET at = at - interval '1 microsecond' WHERE seq = 5", Finding{4, 5, "the entry was changed"}},
		"endless":    {"audit_entry", "UPDATE %s SET at = 'infinity' WHERE seq = 5", Finding{4, 5, "the entry was changed: audit entry 5 has no time"}},
		"deleted":    {"audit_entry", "DELETE FROM %s WHERE seq = 7", Finding{6, 7, "the entry is gone"}},
		"leaf gone":  {"audit_leaf", "DELETE FROM %s WHERE seq = 7", Finding{6, 0, "leaves 6 to 6 are gone"}},
		"slipped in": {"audit_entry", "INSERT INTO %[1]s (id, xid, actor_kind, role, action, record_type, record_id, outcome, ip, device, request_id, detail) SELECT gen_random_uuid(), xid, 'system', '', 'x', '', '', 'ok', '', '', '', '{}' FROM %[1]s WHERE seq = 1", Finding{-1, 13, "the entry was put in behind the sealer's back"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := setup(t)
			f.write(t, 12)
			f.sealTo(t, 12)
			table := f.log.Log.Table(test.table)
			audittest.Exec(t, f.super, "ALTER TABLE "+table+" DISABLE TRIGGER ALL")
			audittest.Exec(t, f.super, strings.ReplaceAll(strings.ReplaceAll(test.sql, "%[1]s", table), "%s", table))
			report, err := f.log.Check(ctx)
			require.NoError(t, err)
			require.Contains(t, report.Findings, test.want)
			prove.State(t, prove.AuditForged, 1, 0)
		})
	}
}

// What has no canonical form cannot be sealed, and nothing goes past it.
func TestAnUnreadableEntryStopsTheSealer(t *testing.T) {
	f := setup(t)
	f.write(t, 12)
	f.sealTo(t, 12)
	f.write(t, 3)
	at := func(of string) {
		name := f.log.Log.Table("audit_entry")
		audittest.Exec(t, f.super, "ALTER TABLE "+name+" DISABLE TRIGGER ALL")
		audittest.Exec(t, f.super, "UPDATE "+name+" SET at = $1::timestamptz WHERE seq = 14", of)
		audittest.Exec(t, f.super, "ALTER TABLE "+name+" ENABLE TRIGGER ALL")
	}
	at("infinity")
	var err error
	require.Eventually(t, func() bool {
		_, err = f.log.Seal(ctx)
		return err != nil
	}, 20*time.Second, 10*time.Millisecond)
	require.ErrorContains(t, err, "audit entry 14 has no time")
	require.True(t, tenants.IsKind(err, tenants.KindIntegrity))
	at("now")
	f.sealTo(t, 15)
}

// An attacker with the database and no signing key builds a whole new log; one
// with a stolen key too is found by the anchor.
func TestARewrittenLogIsFoundByTheAnchor(t *testing.T) {
	f := setup(t)
	f.write(t, 6)
	f.sealTo(t, 6)
	rewritten := f.log
	rewritten.Anchor = PostgresAnchor{audittest.Pool(t, "provisioner", audittest.Control(t))}
	for _, table := range []string{"audit_leaf", "audit_hash", "audit_checkpoint"} {
		f.tamper(t, table, "TRUNCATE ")
	}
	name := f.log.Log.Table("audit_entry")
	audittest.Exec(t, f.super, "ALTER TABLE "+name+" DISABLE TRIGGER ALL")
	audittest.Exec(t, f.super, "UPDATE "+name+" SET outcome = 'denied' WHERE seq = 2")
	audittest.Exec(t, f.super, "ALTER TABLE "+name+" ENABLE TRIGGER ALL")
	_, err := rewritten.Seal(ctx) // the same key: it was stolen
	require.NoError(t, err)
	_, err = f.log.Seal(ctx)
	require.ErrorContains(t, err, "does not continue the anchored tree")
	// Also once it has grown past the anchored size.
	f.write(t, 5)
	_, err = rewritten.Seal(ctx)
	require.NoError(t, err)
	_, err = f.log.Seal(ctx)
	require.ErrorContains(t, err, "does not continue the anchored tree")
	report, err := f.log.Check(ctx)
	require.NoError(t, err)
	require.NotEmpty(t, report.Findings)
	prove.State(t, prove.AuditForged, 2, 0)
}

func TestAnchorsAreForGood(t *testing.T) {
	db := audittest.Control(t)
	a := PostgresAnchor{audittest.Pool(t, "provisioner", db)}
	none, err := a.Last(ctx, "x")
	require.NoError(t, err)
	require.Nil(t, none)
	first := Anchored{Origin: "x", Size: 3, Root: [32]byte{1}, Note: "n"}
	require.NoError(t, a.Put(ctx, first))
	require.NoError(t, a.Put(ctx, first))
	fork := first
	fork.Root[0] = 2
	require.ErrorIs(t, a.Put(ctx, fork), ErrFork)
	require.NoError(t, a.Put(ctx, Anchored{Origin: "x", Size: 9, Root: [32]byte{3}, Note: "m"}))
	last, err := a.Last(ctx, "x")
	require.NoError(t, err)
	require.EqualValues(t, 9, last.Size)

	// Several anchors: the largest counts, and two roots of one size are a fork.
	other := PostgresAnchor{audittest.Pool(t, "provisioner", audittest.Control(t))}
	both := Anchors{other, a}
	last, err = both.Last(ctx, "x")
	require.NoError(t, err)
	require.EqualValues(t, 9, last.Size)
	require.NoError(t, both.Put(ctx, Anchored{Origin: "y", Size: 1, Root: [32]byte{1}}))
	require.NoError(t, a.Put(ctx, Anchored{Origin: "z", Size: 1, Root: [32]byte{1}}))
	require.NoError(t, other.Put(ctx, Anchored{Origin: "z", Size: 1, Root: [32]byte{2}}))
	_, err = both.Last(ctx, "z")
	require.ErrorIs(t, err, ErrFork)
}

func TestAForkInsideTheDatabaseIsImpossible(t *testing.T) {
	f := setup(t)
	f.write(t, 2)
	f.sealTo(t, 2)
	sealer := audittest.Connect(t, "cell_sealer", f.Database)
	_, err := sealer.Exec(ctx, "INSERT INTO "+f.log.Log.Table("audit_checkpoint")+` (epoch, tree_size, root, note, xid_from, xid_to, last_seq, window_done)
		VALUES (1, 2, sha256('x'), '', '0', '1', 0, true)`)
	require.ErrorContains(t, err, "audit_checkpoint_pk")
}

// A database restored from an older state is refused, until somebody openly says
// so: the log then goes on under another origin.
func TestARestoreStartsAnEpoch(t *testing.T) {
	f := setup(t)
	f.write(t, 5)
	f.sealTo(t, 5)
	f.write(t, 4)
	f.sealTo(t, 9)
	// What a restore to an earlier moment leaves: two entries without a leaf.
	for _, undo := range []struct{ table, where string }{
		{"audit_entry", "seq > 7"}, {"audit_leaf", "leaf_index >= 5"}, {"audit_checkpoint", "tree_size > 5"},
		{"audit_hash", "hash_index >= 8"},
	} {
		name := f.log.Log.Table(undo.table)
		audittest.Exec(t, f.super, "ALTER TABLE "+name+" DISABLE TRIGGER ALL")
		audittest.Exec(t, f.super, "DELETE FROM "+name+" WHERE "+undo.where)
		audittest.Exec(t, f.super, "ALTER TABLE "+name+" ENABLE TRIGGER ALL")
	}
	_, err := f.log.Seal(ctx)
	require.ErrorContains(t, err, "it was cut")
	epoch, err := f.log.StartEpoch(ctx, "restored the backup of yesterday")
	require.NoError(t, err)
	require.Equal(t, 2, epoch)
	f.sealTo(t, 7)
	f.write(t, 3)
	f.sealTo(t, 10)
	last, err := f.log.Anchor.Last(ctx, f.log.Log.Origin(1))
	require.NoError(t, err)
	require.EqualValues(t, 9, last.Size) // what was lost stays on record
	e, err := tree.Newest(ctx, f.super, f.log.Log, note.VerifierList(f.log.Verifier))
	require.NoError(t, err)
	require.EqualValues(t, 7, e.StartSize)
}
