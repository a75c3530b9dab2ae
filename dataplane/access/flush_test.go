package access_test

import (
	"context"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/dataplane/access"
	"github.com/caresphere/caresphere/dataplane/dptest"
	"github.com/caresphere/caresphere/dataplane/store"
	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/internal/testkit/prove"
	"github.com/caresphere/caresphere/tenants"
)

// TestAReleasedReadSurvivesACrash kills PostgreSQL under readers, and looks after
// its recovery for the entry of every read that was answered: of those that commit
// by themselves and wait for a flush, and of those whose entries are written in groups. Its
// twins commit as the door does but do not wait for the disk: there entries are lost, so
// the first crash would have shown it.
func TestAReleasedReadSurvivesACrash(t *testing.T) {
	server := testkit.DurablePostgres(t)
	cell := dptest.Start(t, dptest.WithDatabase(server.CellDB), dptest.WithLog(io.Discard))
	org := cell.Tenant(t, "harbor", tenants.Residential)
	actor := org.Actor(t, org.Owner)
	// Only a commit that waits writes the log: its writer would otherwise do so soon.
	cell.Exec(t, "ALTER SYSTEM SET wal_writer_delay = '10s'")
	cell.Exec(t, "ALTER SYSTEM SET wal_writer_flush_after = '1GB'")
	cell.Exec(t, "SELECT pg_reload_conf()")

	crashes := prove.Size(1, 5)
	for range crashes {
		released := read(t, cell, actor)
		server.Crash(t)
		released.wait()
		server.Restart(t)
		for _, kind := range []string{"flushed", "grouped"} {
			ids := released.ids[kind]
			n := kept(t, cell, org, ids)
			if n < 200 {
				t.Errorf("only %d %s reads have their entry", n, kind)
			}
			prove.State(t, prove.CrashedReads, len(ids), len(ids)-n)
		}
	}

	planted := 0
	for _, lose := range []func(testing.TB, *dptest.Tenant, tenants.Actor) []tenants.ID{unflushed, ungrouped} {
		lost := lose(t, org, actor)
		server.Crash(t)
		server.Restart(t)
		if n := kept(t, cell, org, lost); n < len(lost) {
			planted++
		}
	}
	prove.Plant(t, prove.CrashedReads, 2, planted)
}

// kept is how many of the records have an entry, as a superuser sees it now.
func kept(t *testing.T, cell *dptest.Cell, org *dptest.Tenant, ids []tenants.ID) (n int) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), cell.DB.Superuser(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = id.String()
	}
	if err := conn.QueryRow(context.Background(), "SELECT count(DISTINCT record_id) FROM "+org.Role+".audit_entry WHERE record_id = ANY ($1)", names).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// readers read until the database is gone, and note each read that was answered.
type readers struct {
	mu    sync.Mutex
	ids   map[string][]tenants.ID
	group sync.WaitGroup
}

func (r *readers) wait() { r.group.Wait() }

func (r *readers) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return min(len(r.ids["flushed"]), len(r.ids["grouped"]))
}

func read(t *testing.T, cell *dptest.Cell, actor tenants.Actor) *readers {
	t.Helper()
	r := &readers{ids: map[string][]tenants.ID{}}
	for i := range 8 {
		kind := []string{"flushed", "grouped"}[i%2]
		r.group.Go(func() {
			for {
				id := tenants.NewID()
				err := cell.Door.Do(context.Background(), actor, tenants.PermFacilityRead,
					access.Target{Action: "facility.read", RecordType: "facility", RecordID: id, Early: true, OneRead: kind == "grouped"},
					func(ctx context.Context, tx *access.Tx) error {
						_, err := tx.ListFacilities(ctx, store.ListFacilitiesParams{Facilities: tx.Actor.Facilities, PageSize: 5})
						return err
					})
				if err != nil {
					return
				}
				r.mu.Lock()
				r.ids[kind] = append(r.ids[kind], id)
				r.mu.Unlock()
			}
		})
	}
	deadline := time.Now().Add(30 * time.Second)
	for r.count() < 200 && time.Now().Before(deadline) {
		<-time.After(time.Millisecond)
	}
	return r
}

// unflushed commits entries without waiting for the disk, the last thing before the
// crash.
func unflushed(t testing.TB, org *dptest.Tenant, actor tenants.Actor) (ids []tenants.ID) {
	t.Helper()
	conn := org.Connect(t)
	signed := org.Context(conn, org.Owner, actor.Role)
	for range 50 {
		id := tenants.NewID()
		var b pgx.Batch
		b.Queue("BEGIN")
		b.Queue("SELECT set_config('caresphere.context', $1, true)", signed)
		b.Queue("INSERT INTO audit_entry (id, action, record_type, record_id, outcome, ip, device, request_id, detail) VALUES ($1, 'facility.read', 'facility', $2, 'ok', '', '', '', '{}')", tenants.NewID(), id.String())
		b.Queue("SET LOCAL synchronous_commit = off")
		b.Queue("COMMIT")
		if err := conn.SendBatch(context.Background(), &b).Close(); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

// ungrouped writes a group without waiting for the disk, the last thing before the crash.
func ungrouped(t testing.TB, org *dptest.Tenant, actor tenants.Actor) (ids []tenants.ID) {
	t.Helper()
	conn := org.Connect(t)
	if _, err := conn.Exec(context.Background(), "SET synchronous_commit = off"); err != nil {
		t.Fatal(err)
	}
	var entries [][]byte
	for range 50 {
		id := tenants.NewID()
		entries = append(entries, entryOf(t, actor, id))
		ids = append(ids, id)
	}
	if n, err := writeGroup(conn, org.SignEntries(conn.PgConn().PID(), audit.Entries(entries), time.Now().Add(time.Minute)), audit.Entries(entries)); err != nil || n != 50 {
		t.Fatalf("%d of 50 entries were written: %v", n, err)
	}
	return ids
}
