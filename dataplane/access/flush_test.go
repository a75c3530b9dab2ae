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
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/tenants"
)

// TestAReleasedReadSurvivesACrash kills PostgreSQL under readers, and looks after
// its recovery for the entry of every read that was answered. Its twin commits as
// the door does but does not wait for the flush: there entries are lost, so the first
// crash would have shown it.
func TestAReleasedReadSurvivesACrash(t *testing.T) {
	server := testkit.DurablePostgres(t)
	cell := dptest.Start(t, dptest.WithDatabase(server.CellDB), dptest.WithLog(io.Discard))
	org := cell.Tenant(t, "harbor", tenants.Residential)
	actor := org.Actor(t, org.Owner)
	// Only a commit that waits writes the log: its writer would otherwise do so soon.
	cell.Exec(t, "ALTER SYSTEM SET wal_writer_delay = '10s'")
	cell.Exec(t, "ALTER SYSTEM SET wal_writer_flush_after = '1GB'")
	cell.Exec(t, "SELECT pg_reload_conf()")

	released := read(t, cell, actor)
	server.Crash(t)
	released.wait()
	server.Restart(t)
	if n := kept(t, cell, org, released.ids); n != len(released.ids) || n < 200 {
		t.Errorf("of %d answered reads %d have their entry", len(released.ids), n)
	}

	lost := unflushed(t, org, actor)
	server.Crash(t)
	server.Restart(t)
	if n := kept(t, cell, org, lost); n == len(lost) {
		t.Errorf("all %d entries that nobody waited for are there: the crash proves nothing", n)
	}
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
	ids   []tenants.ID
	group sync.WaitGroup
}

func (r *readers) wait() { r.group.Wait() }

func (r *readers) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.ids)
}

func read(t *testing.T, cell *dptest.Cell, actor tenants.Actor) *readers {
	t.Helper()
	r := &readers{}
	for range 8 {
		r.group.Go(func() {
			for {
				id := tenants.NewID()
				err := cell.Door.Do(context.Background(), actor, tenants.PermFacilityRead,
					access.Target{Action: "facility.read", RecordType: "facility", RecordID: id, Early: true},
					func(ctx context.Context, tx *access.Tx) error {
						_, err := tx.ListFacilities(ctx, store.ListFacilitiesParams{Facilities: tx.Actor.Facilities, PageSize: 5})
						return err
					})
				if err != nil {
					return
				}
				r.mu.Lock()
				r.ids = append(r.ids, id)
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
func unflushed(t *testing.T, org *dptest.Tenant, actor tenants.Actor) (ids []tenants.ID) {
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
