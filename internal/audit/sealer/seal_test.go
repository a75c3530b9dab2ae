package sealer

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/audit/audittest"
	"github.com/caresphere/caresphere/internal/audit/record"
	"github.com/caresphere/caresphere/internal/audit/tree"
	"github.com/caresphere/caresphere/tenants"
)

var ctx = context.Background()

// bench is a tenant with its sealer, as the provisioner holds them.
type fixture struct {
	*audittest.Tenant
	log   Log
	super *pgx.Conn
}

func setup(t testing.TB) *fixture {
	t.Helper()
	n := audittest.NewTenant(t, audittest.Cell(t))
	private, _ := audittest.Key(t, "caresphere-audit")
	signer, verifier, _, err := tree.ParseSigner(private)
	require.NoError(t, err)
	return &fixture{Tenant: n, super: audittest.Connect(t, "super", n.Database), log: Log{
		Log: n.Log(), Pool: audittest.Pool(t, "cell_sealer", n.Database), Signer: signer, Verifier: verifier,
		Anchor: PostgresAnchor{audittest.Pool(t, "provisioner", audittest.Control(t))},
	}}
}

func (f *fixture) write(t testing.TB, n int) {
	t.Helper()
	c := f.Connect(t)
	for range n {
		f.Record(t, c, f.Member(tenants.RoleNurse), audit.Event{Action: "client.read", RecordType: "client", RecordID: tenants.NewID().String()})
	}
	_ = c.Close(ctx)
}

// sealTo seals until the log has the size: other tests' transactions in the same
// server may hold entries back for a moment.
func (f *fixture) sealTo(t testing.TB, size int64) {
	t.Helper()
	require.Eventually(t, func() bool {
		r, err := f.log.Seal(ctx)
		require.NoError(t, err)
		require.LessOrEqual(t, r.Size, size)
		return r.Size == size
	}, 20*time.Second, 10*time.Millisecond)
	f.whole(t, size)
}

// whole recomputes the tree from the entries by the library's own code and holds
// it against what is stored, signed and anchored.
func (f *fixture) whole(t testing.TB, size int64) {
	t.Helper()
	rows, err := f.super.Query(ctx, "SELECT "+audit.EntryColumns(f.log.Log, "e")+" FROM "+f.log.Log.Table("audit_leaf")+" l JOIN "+
		f.log.Log.Table("audit_entry")+" e USING (seq) ORDER BY leaf_index")
	require.NoError(t, err)
	var hashes []tlog.Hash
	reader := tlog.HashReaderFunc(func(at []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(at))
		for i, x := range at {
			out[i] = hashes[x]
		}
		return out, nil
	})
	n := int64(0)
	for rows.Next() {
		e, err := audit.ScanEntry(f.log.Log, rows)
		require.NoError(t, err)
		more, err := tlog.StoredHashes(n, record.Append(nil, &e), reader)
		require.NoError(t, err)
		hashes = append(hashes, more...)
		n++
	}
	require.NoError(t, rows.Err())
	require.Equal(t, size, n)
	root, err := tlog.TreeHash(n, reader)
	require.NoError(t, err)
	epoch, err := tree.Newest(ctx, f.super, f.log.Log, note.VerifierList(f.log.Verifier))
	require.NoError(t, err)
	head, err := tree.Latest(ctx, f.super, f.log.Log, epoch.Number)
	require.NoError(t, err)
	require.Equal(t, root, head.Root)
	anchored, err := f.log.Anchor.Last(ctx, f.log.Log.Origin(epoch.Number))
	require.NoError(t, err)
	require.Equal(t, size, anchored.Size)
	require.Equal(t, root, anchored.Root)
	report, err := f.log.Check(ctx)
	require.NoError(t, err)
	require.Empty(t, report.Findings)
	require.Equal(t, size, report.Entries)
}

func TestSealExtendsAndAnchors(t *testing.T) {
	f := setup(t)
	r, err := f.log.Seal(ctx)
	require.NoError(t, err)
	require.Zero(t, r)
	f.write(t, 3)
	f.sealTo(t, 3)
	f.write(t, 10)
	f.log.Batch = 4
	f.sealTo(t, 13)
	// A batch that is exactly full, and none after it.
	f.write(t, 8)
	f.sealTo(t, 21)
	f.sealTo(t, 21)
}

// Writers with transactions of all lengths, some rolled back, while sealers
// compete: every committed entry gets one leaf.
func TestNothingIsSkippedOrSealedTwice(t *testing.T) {
	f := setup(t)
	f.log.Batch = 16
	var writers, sealers sync.WaitGroup
	stop := make(chan struct{})
	committed := make([]int, 6)
	for w := range committed {
		c := f.Connect(t)
		writers.Go(func() {
			a := f.Member(tenants.RoleNurse)
			for i := range 40 {
				rollback := errors.New("rolled back")
				written := 1 + rand.IntN(3)
				err := f.InTx(ctx, c, a, func(tx pgx.Tx) error {
					for range written {
						if err := audit.Insert(ctx, tx, a, audit.Event{Action: "client.read"}); err != nil {
							return err
						}
					}
					// Work after the insert, which keeps the transaction open.
					if _, err := tx.Exec(ctx, "SELECT pg_sleep($1)", rand.Float64()*0.02); err != nil {
						return err
					}
					if i%7 == 3 {
						return rollback
					}
					return nil
				})
				if err == nil {
					committed[w] += written
				} else if !errors.Is(err, rollback) {
					t.Error(err)
				}
			}
		})
	}
	for range 3 {
		sealers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := f.log.Seal(ctx); err != nil && !errors.Is(err, ErrBusy) {
					t.Error(err)
					return
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	sealers.Wait()
	total := 0
	for _, n := range committed {
		total += n
	}
	f.sealTo(t, int64(total))
}

func TestALongTransactionHoldsBackAndIsNotLost(t *testing.T) {
	f := setup(t)
	c := f.Connect(t)
	a := f.Member(tenants.RoleNurse)
	require.NoError(t, f.InTx(ctx, c, a, func(tx pgx.Tx) error {
		require.NoError(t, audit.Insert(ctx, tx, a, audit.Event{Action: "client.create"}))
		f.write(t, 5) // later numbers, committed first
		r, err := f.log.Seal(ctx)
		require.NoError(t, err)
		require.Zero(t, r.Sealed)
		require.False(t, r.Oldest.IsZero())
		return nil
	}))
	f.sealTo(t, 6)
}

// A range that a batch began is gone on with by number: entries that are not of it have
// larger numbers too, of transactions that another one holds back.
func TestALaterBatchOfARangeTakesNothingElse(t *testing.T) {
	f := setup(t)
	f.log.Batch = 2
	f.write(t, 5)
	a := f.Member(tenants.RoleNurse)
	require.NoError(t, f.InTx(ctx, f.Connect(t), a, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "SELECT pg_current_xact_id()")
		require.NoError(t, err)
		f.write(t, 3)
		var size int64
		require.Eventually(t, func() bool {
			r, err := f.log.Seal(ctx)
			require.NoError(t, err)
			size = r.Size
			return size >= 5
		}, 20*time.Second, 10*time.Millisecond)
		require.EqualValues(t, 5, size)
		return audit.Insert(ctx, tx, a, audit.Event{Action: "client.read"})
	}))
	f.sealTo(t, 9)
}

// stubborn fails or ends the sealer at the anchor: the moment between commit and
// anchor that no real anchor can be made to hit.
type stubborn struct {
	Anchor
	fail error
}

func (s *stubborn) Put(ctx context.Context, a Anchored) error {
	if s.fail != nil {
		return s.fail
	}
	return s.Anchor.Put(ctx, a)
}

func TestASealerThatDiedBeforeItsAnchorIsMended(t *testing.T) {
	f := setup(t)
	f.write(t, 4)
	f.sealTo(t, 4)
	dead := &stubborn{Anchor: f.log.Anchor, fail: errors.New("killed")}
	f.log.Anchor = dead
	f.write(t, 3)
	require.Eventually(t, func() bool {
		_, err := f.log.Seal(ctx)
		return errors.Is(err, dead.fail)
	}, 20*time.Second, 10*time.Millisecond)
	// Committed and not anchored: it does not go on without the anchor.
	f.write(t, 2)
	_, err := f.log.Seal(ctx)
	require.ErrorIs(t, err, dead.fail)
	dead.fail = nil
	f.sealTo(t, 9)
}

// The sealer's connection is cut in the middle of a batch, as by SIGKILL.
func TestAKilledSealerResumes(t *testing.T) {
	f := setup(t)
	f.log.Batch = 50
	f.write(t, 400)
	killer := audittest.Connect(t, "super", f.Database)
	killed := 0
	for delay := time.Duration(0); delay < 40*time.Millisecond; delay += time.Millisecond {
		cut := make(chan struct{})
		time.AfterFunc(delay, func() {
			defer close(cut)
			_, _ = killer.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'cell_sealer' AND datname = current_database()")
		})
		if _, err := f.log.Seal(ctx); err != nil {
			killed++
		}
		<-cut
		f.write(t, 10)
	}
	require.Positive(t, killed)
	// The pool may still hold connections that were cut.
	require.Eventually(t, func() bool {
		_, err := f.log.Seal(ctx)
		return err == nil
	}, 20*time.Second, 10*time.Millisecond)
	f.sealTo(t, 800)
}

func TestTheControlLogIsSealedByTheProvisioner(t *testing.T) {
	f := setup(t)
	db := audittest.Control(t)
	f.log.Log = audit.ControlLog()
	f.log.Pool = audittest.Pool(t, "provisioner", db)
	f.super = audittest.Connect(t, "super", db)
	c := audittest.Connect(t, "controlplane", db)
	for range 5 {
		require.NoError(t, pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
			return audit.Insert(ctx, tx, tenants.Actor{Kind: tenants.ActorAnonymous}, audit.Event{Action: "signup.create", OrganizationID: tenants.NewID()})
		}))
	}
	f.sealTo(t, 5)
}
