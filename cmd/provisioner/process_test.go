package main

import (
	"context"
	"fmt"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/provisioning"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/testkit/prove"
	"github.com/caresphere/caresphere/tenants"
)

// lock takes an advisory lock, which triggers wait for, until the connection is closed.
func (w *world) lock(dsn string, number int) *pgx.Conn {
	w.t.Helper()
	ctx := context.Background()
	conn, err := pg.Connect(ctx, dsn, pg.Options{})
	require.NoError(w.t, err)
	_, err = conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, number)
	require.NoError(w.t, err)
	return conn
}

// hold makes every process stop where a step's record takes on the state, until
// release is called: a trigger waits for a lock that the test has.
func (w *world) hold(step, state string) (reached func() bool, release func()) {
	w.t.Helper()
	conn := w.lock(w.control.Superuser(w.t), 42)
	w.exec(`CREATE OR REPLACE FUNCTION hold_step() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		PERFORM pg_advisory_xact_lock_shared(42); RETURN NEW; END $$`)
	w.exec(`DROP TRIGGER IF EXISTS hold_step ON provisioning_step`)
	w.exec(fmt.Sprintf(`CREATE TRIGGER hold_step BEFORE UPDATE ON provisioning_step FOR EACH ROW
		WHEN (NEW.step = '%s' AND NEW.state = '%s') EXECUTE FUNCTION hold_step()`, step, state))
	reached = func() bool {
		return w.text(`SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND objid = 42 AND NOT granted`) != "0"
	}
	return reached, func() {
		_ = conn.Close(context.Background())
		require.Eventually(w.t, func() bool { return !reached() }, 5*time.Second, 10*time.Millisecond)
		w.exec(`DROP TRIGGER hold_step ON provisioning_step`)
	}
}

// endHeld ends the transactions of a stopped process that hold keeps, as a server ends
// those whose client is gone too long; any other that the process was stopped in would
// keep the trigger from being dropped.
func (w *world) endHeld() {
	w.t.Helper()
	w.exec(`SELECT pg_terminate_backend(pid, 5000) FROM (SELECT DISTINCT pid FROM pg_locks WHERE pid <> pg_backend_pid()
		AND (locktype = 'advisory' AND objid = 42 AND NOT granted OR relation = 'provisioning_step'::regclass)) AS stopped`)
}

// TestKilledAnywhereItResumes kills one process after the other, each at the next
// boundary of a step: before its work and after it, before that is recorded.
func TestKilledAnywhereItResumes(t *testing.T) {
	w := newWorld(t)
	org := w.organization()
	for _, step := range provisioning.Steps() {
		for _, state := range []string{"running", "done"} {
			reached, release := w.hold(step, state)
			p := w.start()
			require.Eventually(t, reached, 60*time.Second, 10*time.Millisecond, "%s was never %s", step, state)
			p.kill(t)
			release()
			// What twelve seconds would do: the lease of the dead runs out.
			w.exec(`UPDATE provisioning_lease SET until = now() - interval '1 second'`)
		}
	}
	w.start()
	// One of everything, and nothing that belongs to nobody.
	prove.State(t, prove.KilledProvisioning, 2*len(provisioning.Steps()), w.settled(t, org))
	w.accounted(t)
}

// TestKilledWithoutHelpItResumes lets the lease of the killed process run out by itself.
func TestKilledWithoutHelpItResumes(t *testing.T) {
	w := newWorld(t)
	org := w.organization()
	reached, release := w.hold("key", "done")
	p := w.start()
	require.Eventually(t, reached, 30*time.Second, 10*time.Millisecond)
	p.kill(t)
	release()
	w.start()
	w.eventually(40*time.Second, "live", `SELECT state FROM organization WHERE id = $1`, org)
}

// TestAPausedProcessIsFenced stops one process past its lease, lets another finish,
// and lets the first go on: one effect.
func TestAPausedProcessIsFenced(t *testing.T) {
	w := newWorld(t)
	org := w.organization()
	reached, release := w.hold("tables", "done")
	first := w.start()
	require.Eventually(t, reached, 30*time.Second, 10*time.Millisecond)
	first.signal(t, syscall.SIGSTOP)
	// Its transaction ends as a server ends one whose client is gone too long.
	w.endHeld()
	release()
	w.exec(`UPDATE provisioning_lease SET until = now() - interval '1 second'`)
	w.env = append(w.env, "CARESPHERE_HEALTH_LISTEN=127.0.0.1:0")
	w.start()
	w.eventually(30*time.Second, "live", `SELECT state FROM organization WHERE id = $1`, org)
	attempts := w.text(`SELECT string_agg(step || attempt, ',' ORDER BY position) FROM provisioning_step`)
	first.signal(t, syscall.SIGCONT)
	w.eventually(20*time.Second, "0", `SELECT count(*)::text FROM river_job WHERE kind = 'provision' AND state = 'running'`)
	require.Equal(t, "live", w.text(`SELECT state FROM organization WHERE id = $1`, org))
	require.Equal(t, attempts, w.text(`SELECT string_agg(step || attempt, ',' ORDER BY position) FROM provisioning_step`))
	require.Equal(t, "1", w.text(`SELECT count(*)::text FROM audit_entry WHERE action = 'organization.live'`))
}

func TestTheGateIsAppliedWithinASecondBesideABusyQueue(t *testing.T) {
	w := newWorld(t)
	org := w.organization()
	w.start()
	w.eventually(30*time.Second, "live", `SELECT state FROM organization WHERE id = $1`, org)
	// Every worker of the provisioning queue hangs at a step.
	reached, release := w.hold("schema", "running")
	defer release()
	for range 8 {
		w.organization()
	}
	require.Eventually(t, reached, 20*time.Second, 10*time.Millisecond)
	w.exec(`WITH closed AS (
		UPDATE organization SET state = 'suspended', gate_mode = 'closed', gate_version = gate_version + 1, updated_at = now() WHERE id = $1
		RETURNING id, gate_version)
		INSERT INTO river_job (kind, args, queue, max_attempts)
		SELECT 'apply_gate', jsonb_build_object('organization_id', id, 'version', gate_version), 'gate', 25 FROM closed`, org)
	start := time.Now()
	require.Eventually(t, func() bool {
		return w.cellText(`SELECT rolcanlogin::text FROM pg_roles WHERE rolname = $1`, tenants.RoleName(org)) == "false"
	}, 3*time.Second, 10*time.Millisecond)
	require.Less(t, time.Since(start), 1500*time.Millisecond)
	require.Error(t, w.asTenant(context.Background(), org, `SELECT 1`))

	// A decision whose job is lost is applied all the same.
	w.exec(`UPDATE organization SET state = 'live', gate_mode = 'open', gate_version = gate_version + 1, updated_at = now() WHERE id = $1`, org)
	w.eventually(10*time.Second, "true", `SELECT (gate_applied = gate_version)::text FROM organization WHERE id = $1`, org)
	require.NoError(t, w.asTenant(context.Background(), org, `SELECT 1`))
}

func TestItSealsIsReadyAndStopsClean(t *testing.T) {
	w := newWorld(t)
	org := w.organization()
	p := w.start()
	require.Eventually(t, func() bool { code, err := w.get("/readyz"); return err == nil && code == http.StatusOK }, 20*time.Second, 50*time.Millisecond)
	w.eventually(30*time.Second, "live", `SELECT state FROM organization WHERE id = $1`, org)
	w.eventually(10*time.Second, "true", `SELECT (at > now() - interval '5 seconds')::text FROM heartbeat WHERE name = 'provisioner'`)
	require.Positive(t, w.probed.Load())
	w.eventually(15*time.Second, "true", `SELECT (max(tree_size) >= 2)::text FROM audit_checkpoint`)
	w.eventually(15*time.Second, "1", `SELECT count(DISTINCT log)::text FROM audit_anchor WHERE log LIKE '%' || $1`, org.String())
	require.Eventually(t, func() bool { return len(w.anchors()) == 1 }, 10*time.Second, 20*time.Millisecond,
		"the control plane's heads are kept outside its database")
	code, err := w.get("/metrics")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, code)
	p.signal(t, syscall.SIGTERM)
	select {
	case err := <-p.done:
		require.NoError(t, err)
	case <-time.After(20 * time.Second):
		t.Fatal("it does not stop")
	}
}
