package sealer

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/caresphere/caresphere/internal/audit/audittest"
	"github.com/caresphere/caresphere/internal/audit/tree"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/testkit/prove"
)

// alter runs statements on an insert-only table as a superuser with its triggers off;
// %s is the table.
func (f *fixture) alter(t testing.TB, table string, sqls ...string) {
	t.Helper()
	name := f.log.Log.Table(table)
	audittest.Exec(t, f.super, "ALTER TABLE "+name+" DISABLE TRIGGER ALL")
	for _, sql := range sqls {
		audittest.Exec(t, f.super, strings.ReplaceAll(sql, "%s", name))
	}
	audittest.Exec(t, f.super, "ALTER TABLE "+name+" ENABLE TRIGGER ALL")
}

// stopped demands that neither a seal nor a check passes, and what they say.
func (f *fixture) stopped(t testing.TB, what string) {
	t.Helper()
	_, err := f.log.Seal(ctx)
	var tampered *TamperError
	require.ErrorAs(t, err, &tampered)
	require.Contains(t, tampered.What, what)
	report, err := f.log.Check(ctx)
	require.NoError(t, err)
	require.NotEmpty(t, report.Findings)
}

// An epoch moves where sealing begins: whoever may write its row, and cannot sign,
// must not be able to make the sealer look away.
func TestAnEpochThatNobodySignedStopsTheLog(t *testing.T) {
	const planted = "INSERT INTO %s VALUES (2, 0, 9000000000000000000, 'x')"
	for name, test := range map[string]struct {
		sql, undo, what string
	}{
		"planted":    {planted, "DELETE FROM %s WHERE epoch = 2", "was not stated"},
		"from here":  {"INSERT INTO %s VALUES (2, 5, 5, 'x')", "DELETE FROM %s WHERE epoch = 2", "was not stated"},
		"first seq":  {"UPDATE %s SET min_seq = 9000000000000000000", "UPDATE %s SET min_seq = 0", "the first epoch begins"},
		"first size": {"UPDATE %s SET start_size = 5", "UPDATE %s SET start_size = 0", "the first epoch begins"},
		"none":       {"UPDATE %s SET epoch = 7", "UPDATE %s SET epoch = 1", "was not stated"},
	} {
		t.Run(name, func(t *testing.T) {
			f := setup(t)
			f.write(t, 5)
			if name != "none" {
				f.sealTo(t, 5)
			}
			f.alter(t, "audit_epoch", test.sql)
			f.write(t, 3)
			f.stopped(t, test.what)
			prove.State(t, prove.AuditForged, 1, 0)
			f.alter(t, "audit_epoch", test.undo)
			f.sealTo(t, 8)
		})
	}
	// The sealer's login may write the row, and has no key.
	f := setup(t)
	f.sealTo0(t)
	audittest.Exec(t, audittest.Connect(t, "cell_sealer", f.Database), strings.ReplaceAll(planted, "%s", f.log.Log.Table("audit_epoch")))
	f.write(t, 2)
	f.stopped(t, "was not stated")
}

// sealTo0 seals a log without entries.
func (f *fixture) sealTo0(t testing.TB) {
	t.Helper()
	r, err := f.log.Seal(ctx)
	require.NoError(t, err)
	require.Zero(t, r)
}

// What was openly begun cannot be changed, taken back or begun twice, and what it
// went on from is held against the statement until a head of it is anchored.
func TestAStatedEpochHolds(t *testing.T) {
	for name, test := range map[string]struct {
		table, sql, what string
	}{
		"moved":      {"audit_epoch", "UPDATE %s SET min_seq = 100 WHERE epoch = 2", "was not stated"},
		"resized":    {"audit_epoch", "UPDATE %s SET start_size = 0 WHERE epoch = 2", "was not stated"},
		"taken out":  {"audit_epoch", "DELETE FROM %s WHERE epoch = 2", "epoch 2 was stated and is not here"},
		"first head": {"audit_checkpoint", "DELETE FROM %s WHERE epoch = 2", "epoch 2 began with 5 entries, 0 are sealed here"},
	} {
		t.Run(name, func(t *testing.T) {
			f := setup(t)
			f.write(t, 5)
			f.sealTo(t, 5)
			number, err := f.log.StartEpoch(ctx, "moved to another server")
			require.NoError(t, err)
			require.Equal(t, 2, number)
			if test.table == "audit_epoch" {
				// Its heads refer to it.
				f.alter(t, "audit_checkpoint", "DELETE FROM %s WHERE epoch = 2")
			}
			f.alter(t, test.table, test.sql)
			f.write(t, 1)
			f.stopped(t, test.what)
			prove.State(t, prove.AuditForged, 1, 0)
		})
	}
}

// With the key stolen too, a statement counts only where the anchor has it.
func TestAStatementCountsOnlyWithItsAnchor(t *testing.T) {
	f := setup(t)
	f.write(t, 4)
	f.sealTo(t, 4)
	ours := f.log.Anchor
	f.log.Anchor = PostgresAnchor{audittest.Pool(t, "provisioner", audittest.Control(t))}
	_, err := f.log.StartEpoch(ctx, "not by us")
	require.NoError(t, err)
	_, err = f.log.Seal(ctx)
	require.NoError(t, err)
	f.log.Anchor = ours
	f.stopped(t, "not the one that was stated outside")
	prove.State(t, prove.AuditForged, 1, 0)
}

// failing is an anchor that keeps a statement and says that it did not.
type failing struct{ Anchor }

func (a failing) Put(ctx context.Context, h Anchored) error {
	if err := a.Anchor.Put(ctx, h); err != nil {
		return err
	}
	return errors.New("away")
}

func TestAnEpochThatWasNotBegunToTheEndIsBegunAgain(t *testing.T) {
	for reason, number := range map[string]int{"restored": 2, "restored on Monday": 3} {
		f := setup(t)
		f.write(t, 3)
		f.sealTo(t, 3)
		ours := f.log.Anchor
		f.log.Anchor = failing{ours}
		_, err := f.log.StartEpoch(ctx, "restored")
		require.ErrorContains(t, err, "away")
		f.log.Anchor = ours
		f.stopped(t, "starting it did not end")
		begun, err := f.log.StartEpoch(ctx, reason)
		require.NoError(t, err)
		require.Equal(t, number, begun, "another statement has another number")
		f.sealTo(t, 3)
		f.write(t, 2)
		f.sealTo(t, 5)
	}
}

// A log rewritten and signed again, before a head of its epoch is anchored, is held
// against what the statement says that the epoch went on from.
func TestAnEpochGoesOnFromWhatWasStated(t *testing.T) {
	f := setup(t)
	f.write(t, 6)
	f.sealTo(t, 6)
	_, err := f.log.StartEpoch(ctx, "restored")
	require.NoError(t, err)
	for _, table := range []string{"audit_leaf", "audit_hash", "audit_checkpoint"} {
		f.alter(t, table, "TRUNCATE %s")
	}
	f.alter(t, "audit_entry", "UPDATE %s SET outcome = 'denied' WHERE seq = 2")
	// The sealer itself makes the other tree and, its key stolen, the other head.
	err = pg.InTx(ctx, f.log.Pool, func(tx pgx.Tx) error {
		size, _, err := f.log.withDefaults().adopt(ctx, tx, 0, 0)
		if err != nil {
			return err
		}
		root, err := tlog.TreeHash(size, tree.Reader(ctx, tx, f.log.Log))
		if err != nil {
			return err
		}
		_, err = f.log.checkpoint(ctx, tx, 2, size, root, window{lastSeq: 6, done: true})
		return err
	})
	require.NoError(t, err)
	f.stopped(t, "does not continue the anchored tree of 6 entries")
	prove.State(t, prove.AuditForged, 1, 0)
}
