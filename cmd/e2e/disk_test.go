package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/demo"
	"github.com/caresphere/caresphere/internal/devstack"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/internal/testkit/prove"
	"github.com/caresphere/caresphere/tenants"
)

// TestAFullDiskLosesNothing fills the disks of stacks that have small ones: the
// database's, so that its tables cannot grow, then so that its log cannot and the
// server dies of it, and the object store's.
func TestAFullDiskLosesNothing(t *testing.T) {
	if why := testkit.CannotMount(t); why != "" {
		for _, f := range []*prove.Figure{prove.DiskServed, prove.DiskRecovered, prove.DiskWrites} {
			prove.Cannot(t, f, why)
		}
		return
	}
	options := map[string][]testkit.StackOption{"files and keyring": {testkit.Named("disk"), testkit.OnDisks()}}
	if prove.Nightly() {
		options["S3 and Vault"] = []testkit.StackOption{testkit.Named("disk"), testkit.OnDisks(), testkit.Full()}
	}
	for name, stack := range options {
		t.Run(name, func(t *testing.T) {
			s := besiege(t, open(t, stack...))
			t.Run("tables", s.tablesCannotGrow)
			t.Run("log", s.logCannotGrow)
			t.Run("objects", s.objectsCannotGrow)
			s.nothingLost(t, prove.DiskWrites)
		})
	}
}

// round sends every kind of request once, and says which were refused. One that is
// neither served nor refused clearly and in time counts against the platform. Where
// PostgreSQL still answers but has no room for a new connection's files, Kratos calls
// itself ready and every session unknown: halfReady lets that refusal pass.
func (s *besieged) round(t *testing.T, halfReady bool) (refused map[string]bool) {
	t.Helper()
	refused = map[string]bool{}
	wrong := 0
	for name := range s.requests {
		begun := time.Now()
		a, err := s.requests[name](within(t, noLater+time.Second))
		if err == nil && a.status < 300 {
			continue
		}
		refused[name] = true
		if halfReady && err == nil && a.status == http.StatusUnauthorized && a.problem() == string(tenants.KindUnauthenticated) {
			continue
		}
		if err == nil {
			err = refusal(a, time.Since(begun))
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			wrong++
		}
	}
	prove.State(t, prove.DiskServed, len(s.requests), wrong)
	return refused
}

// lives are the process numbers of our own programs.
func (s *besieged) lives(t *testing.T) map[string]int {
	t.Helper()
	pids := map[string]int{}
	for _, program := range devstack.Programs() {
		pids[program] = s.PID(t, program)
	}
	return pids
}

// recovers wants everything served again, by the same processes.
func (s *besieged) recovers(t *testing.T, lives map[string]int) {
	t.Helper()
	ended := time.Now()
	var why error
	ok := polled(recovered, func() bool {
		if why = s.whole(t); why == nil {
			_, why = s.ask(t, aWrite)
		}
		for _, program := range devstack.Programs() {
			if why == nil && !s.ready(t, program) {
				why = fmt.Errorf("%s does not say that it is ready", program)
			}
		}
		return why == nil
	})
	if !ok {
		t.Errorf("%s after there is room again: %v", time.Since(ended), why)
	}
	now := s.lives(t)
	if !maps.Equal(lives, now) {
		t.Errorf("programs were started anew: %v, before %v", now, lives)
		ok = false
	}
	prove.State(t, prove.DiskRecovered, 1, count(!ok))
	t.Logf("over after %s", time.Since(ended).Round(time.Millisecond))
}

// tablesCannotGrow fills the disk and sends requests until writes are refused: the
// room in pages and in the log's current file is used up first.
func (s *besieged) tablesCannotGrow(t *testing.T) {
	require.True(t, polled(30*time.Second, func() bool { return s.whole(t) == nil }), "before: %v", s.whole(t))
	lives := s.lives(t)
	s.Fill(t, testkit.DatabaseDisk)
	until(t, time.Minute, "writes are refused", func() (bool, string) { return s.round(t, true)[aWrite], "they are made" })
	for range prove.Size(3, 20) {
		_ = s.round(t, true) // the server's own cleaning may make room for a row meanwhile
	}
	s.Free(t, testkit.DatabaseDisk)
	s.StartDatabase(t)
	s.recovers(t, lives)
}

// logCannotGrow has the server need a new file for its log, of which it dies. It
// cannot start before there is room; then whoever operates it starts it.
func (s *besieged) logCannotGrow(t *testing.T) {
	lives := s.lives(t)
	super := s.database(t, devstack.ControlDatabase)
	s.Fill(t, testkit.DatabaseDisk)
	var err error
	for err == nil {
		_, err = super.Exec(within(t, 20*time.Second), `SELECT pg_logical_emit_message(false, 'test', repeat('x', 1000000)), pg_switch_wal()`)
	}
	t.Logf("the server died: %v", err)
	for _, program := range []string{devstack.ControlPlane, devstack.Provisioner, devstack.WorkerA, devstack.WorkerB} {
		require.True(t, polled(readyIn, func() bool { return !s.ready(t, program) }), "%s still says that it is ready", program)
	}
	for range prove.Size(2, 5) {
		refused := s.round(t, false)
		require.True(t, refused[aWrite] && refused[aColdKey] && refused[anAdmin], "served without a database: %v", refused)
	}
	// The twins: a refusal that is none or tells too much, and a platform that is not
	// back yet.
	noticed := count(refusal(reply{status: http.StatusInternalServerError, head: http.Header{}}, 0) != nil) +
		count(refusal(reply{status: http.StatusServiceUnavailable, head: http.Header{}, body: "could not extend file: SQLSTATE 53100"}, 0) != nil)
	prove.Plant(t, prove.DiskServed, 2, noticed)
	prove.Plant(t, prove.DiskRecovered, 1, count(s.whole(t) != nil))
	s.Free(t, testkit.DatabaseDisk)
	s.StartDatabase(t)
	s.recovers(t, lives)
}

// objectsCannotGrow: nothing that a user asks for needs the object store. The control
// plane's heads are anchored there, and new organizations get a prefix: both catch up.
// Tenants' heads are anchored in the control database, full disk or not.
func (s *besieged) objectsCannotGrow(t *testing.T) {
	lives := s.lives(t)
	fresh, err := demo.SignUp(within(t, time.Minute), s.options(), "late-"+word())
	require.NoError(t, err)
	cell, control := s.database(t, devstack.CellDatabase), s.database(t, devstack.ControlDatabase)
	everyHead := func() (bool, string) {
		of, kept := s.anchored(t, control)
		return of > 0 && kept == of && sealed(t, control, "public"), fmt.Sprintf("%d of %d entries are anchored", kept, of)
	}
	until(t, 30*time.Second, "every head is anchored", everyHead)
	before := s.sealFailures(t)
	s.Fill(t, testkit.ObjectDisk)
	require.NoError(t, fresh.Agree(within(t, time.Minute), s.operator(t)))
	for range prove.Size(3, 20) {
		require.Empty(t, s.round(t, false), "refused for want of room in the object store")
	}
	until(t, 30*time.Second, "the sealer says that it fails", func() (bool, string) {
		n := s.sealFailures(t)
		return n > before, fmt.Sprintf("%v failures, %v before", n, before)
	})
	of, kept := s.anchored(t, control)
	require.Less(t, kept, of, "a head was anchored where there is no room")
	until(t, 30*time.Second, "a tenant's entries are sealed", func() (bool, string) { return sealed(t, cell, s.schema(t)), "not yet" })
	s.Free(t, testkit.ObjectDisk)
	s.recovers(t, lives)
	until(t, recovered, "every head is anchored", everyHead)
	until(t, time.Minute, fresh.Slug+" goes live", func() (bool, string) {
		p, err := fresh.Owner.Provisioning(within(t, 10*time.Second))
		return err == nil && p.State == "live", fmt.Sprint(p.State, err)
	})
	a := s.wire(t, s.URL(devstack.PortHealthProvisioner)).do(t, http.MethodGet, "/metrics", nil)
	for _, gauge := range []string{"caresphere_audit_tampered_logs", "caresphere_audit_damaged_logs"} {
		require.Contains(t, a.body, "\n"+gauge+" 0\n", "a full disk is not tampering")
	}
}

// sealFailures is how many attempts to seal a log have failed, as the metrics say.
func (s *besieged) sealFailures(t *testing.T) (n float64) {
	t.Helper()
	a := s.wire(t, s.URL(devstack.PortHealthProvisioner)).do(t, http.MethodGet, "/metrics", nil)
	_, rest, found := strings.Cut(a.body, "\ncaresphere_audit_seal_failures_total ")
	require.True(t, found)
	_, err := fmt.Sscan(rest, &n)
	require.NoError(t, err)
	return n
}

// schema is where the living tenant's tables are.
func (s *besieged) schema(t *testing.T) string {
	t.Helper()
	id, err := tenants.ParseID(s.living.ID)
	require.NoError(t, err)
	return tenants.SchemaName(id)
}

// sealed tells whether the last entry of the log in this schema is sealed.
func sealed(t *testing.T, db *pgx.Conn, schema string) (done bool) {
	t.Helper()
	require.NoError(t, db.QueryRow(context.Background(), `SELECT EXISTS (SELECT 1 FROM `+schema+`.audit_leaf WHERE seq = (SELECT max(seq) FROM `+schema+`.audit_entry))`).Scan(&done))
	return done
}

// anchored reads how many entries of the control plane's log its newest head is of, and of
// how many the newest is that the object store keeps. Both stores are folders.
func (s *besieged) anchored(t *testing.T, control *pgx.Conn) (of, kept int64) {
	t.Helper()
	require.NoError(t, control.QueryRow(context.Background(), `SELECT coalesce(max(tree_size), 0) FROM audit_checkpoint`).Scan(&of))
	for _, store := range []string{s.Layout().Path("blobs"), s.Layout().Path("s3", "objects", devstack.Bucket)} {
		names, err := filepath.Glob(filepath.Join(store, "anchors", "*", "latest"))
		require.NoError(t, err)
		for _, name := range names {
			body, err := os.ReadFile(name)
			require.NoError(t, err)
			var head struct {
				Size int64 `json:"size"`
			}
			require.NoError(t, json.Unmarshal(body, &head))
			kept = max(kept, head.Size)
		}
	}
	return of, kept
}
