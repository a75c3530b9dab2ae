package main

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/fleet"
	provers "github.com/caresphere/caresphere/controlplane/isolation"
	"github.com/caresphere/caresphere/controlplane/placement"
	"github.com/caresphere/caresphere/controlplane/provisioning"
	"github.com/caresphere/caresphere/internal/isolation"
	"github.com/caresphere/caresphere/internal/testkit/prove"
	"github.com/caresphere/caresphere/tenants"
)

// yard is a running provisioner with live tenants, and the operators' side of it.
type yard struct {
	*world
	running *process
	desk    *provers.Service
	fleet   *fleet.Service
	tenants []tenants.ID
}

var riley = tenants.Actor{Kind: tenants.ActorOperator, ID: tenants.NewID(), AuthenticatedAt: time.Now()}

func newYard(t *testing.T, n int, env ...string) *yard {
	t.Helper()
	y := &yard{world: newWorld(t)}
	y.env = append(y.env, env...)
	for range n {
		y.tenants = append(y.tenants, y.organization())
	}
	y.running = y.start()
	for _, id := range y.tenants {
		y.eventually(60*time.Second, "live", `SELECT state FROM organization WHERE id = $1`, id)
		y.eventually(30*time.Second, "true", `SELECT (gate_applied = gate_version)::text FROM organization WHERE id = $1`, id)
	}
	// The first scheduled proof would judge what a test plants once more, when it is mended.
	y.eventually(60*time.Second, "true", `SELECT (count(*) > 0 AND count(*) = count(finished_at))::text FROM isolation_run WHERE asked_by = 'schedule'`)
	// A gate's job that comes late would mend what a test plants.
	y.eventually(30*time.Second, "0", `SELECT count(*)::text FROM river_job WHERE kind = 'apply_gate' AND state IN ('available', 'running', 'retryable', 'scheduled')`)
	pool := y.open(y.control.DSN("controlplane"))
	jobs, err := provisioning.Inserter(pool, nil)
	require.NoError(t, err)
	y.desk = provers.NewService(pool, jobs)
	y.fleet = fleet.New(pool, placement.NewGates(jobs, nil), jobs)
	return y
}

func (y *yard) slug(id tenants.ID) string {
	return y.text(`SELECT slug FROM organization WHERE id = $1`, id)
}

func (y *yard) wait(s provers.Status) provers.Status {
	y.t.Helper()
	require.Eventually(y.t, func() bool {
		var err error
		s, err = y.desk.Get(context.Background(), riley, s.ID)
		return err == nil && s.FinishedAt != nil
	}, 60*time.Second, 20*time.Millisecond)
	require.Equal(y.t, "done", s.State, s.Reason)
	return s
}

// prove asks for a proof as an operator does, and verifies its report.
func (y *yard) prove(slug string) isolation.Report {
	y.t.Helper()
	asked, err := y.desk.AskProof(context.Background(), riley, slug, "")
	require.NoError(y.t, err)
	return y.report(asked)
}

// report waits for a proof that was asked for, and verifies its report.
func (y *yard) report(asked provers.Status) isolation.Report {
	y.t.Helper()
	file, err := y.desk.Report(context.Background(), riley, y.wait(asked).ID)
	require.NoError(y.t, err)
	key, err := isolation.ParseKey(y.isolationPub)
	require.NoError(y.t, err)
	r, err := isolation.Verify(file, key)
	require.NoError(y.t, err)
	return r
}

func (y *yard) repair(slug string, apply bool) provers.Repair {
	y.t.Helper()
	asked, err := y.desk.AskRepair(context.Background(), riley, slug, apply)
	require.NoError(y.t, err)
	r, err := y.desk.Repair(context.Background(), riley, y.wait(asked).ID)
	require.NoError(y.t, err)
	return r
}

// cellExec plants, once no proof is under way: that which a release asks for would
// quarantine a tenant under the proof that the test looks at.
func (y *yard) cellExec(sql string) {
	y.t.Helper()
	y.eventually(60*time.Second, "0", `SELECT count(*)::text FROM isolation_run WHERE finished_at IS NULL`)
	_, err := y.cellAdmin.Exec(context.Background(), sql)
	require.NoError(y.t, err, sql)
}

func all(t isolation.Tenant) string {
	var b strings.Builder
	for _, f := range t.Findings {
		b.WriteString(f.String() + "\n")
	}
	for _, u := range t.Unproven {
		b.WriteString("unproven " + u + "\n")
	}
	return b.String()
}

func requireProven(t *testing.T, r isolation.Report) {
	t.Helper()
	for _, one := range r.Tenants {
		require.Equal(t, isolation.Proven, one.Verdict, all(one))
	}
	require.True(t, r.OK)
}

func TestSoundTenantsAreProven(t *testing.T) {
	y := newYard(t, 3)
	r := y.prove("")
	requireProven(t, r)
	require.Len(t, r.Tenants, 3)
	require.True(t, r.Pairs.All)
	require.Equal(t, "all", r.Scope)
	for _, one := range r.Tenants {
		require.Len(t, one.Peers, 2)
		counts := map[string]isolation.Layer{}
		for _, l := range one.Layers {
			counts[l.Layer] = l
		}
		for _, name := range []string{isolation.LayerRoute, isolation.LayerSession, isolation.LayerSQL, isolation.LayerContext, isolation.LayerKey, isolation.LayerStorage} {
			require.Positive(t, counts[name].Refused, "%s: no refusal", name)
			require.Positive(t, counts[name].Allowed, "%s: no twin", name)
		}
		require.Greater(t, counts[isolation.LayerSQL].Refused, 60)
		require.Greater(t, counts[isolation.LayerDeclared].Allowed, 300)
		state(t, one, counts[isolation.LayerDeclared].Allowed)
	}
	// The reference left nothing behind.
	require.Equal(t, "3", y.cellText(`SELECT count(*)::text FROM pg_namespace WHERE nspname ~ '^t_'`))
	require.Equal(t, "1", y.cellText(`SELECT count(*)::text FROM pg_namespace WHERE nspname ~ '^cell'`))

	// A closed gate is proven closed.
	ctx := context.Background()
	require.NoError(t, y.fleet.Suspend(ctx, riley, y.tenants[0], "for the test"))
	y.eventually(30*time.Second, "true", `SELECT (gate_applied = gate_version)::text FROM organization WHERE id = $1`, y.tenants[0])
	requireProven(t, y.prove(y.slug(y.tenants[0])))
	require.NoError(t, y.fleet.Resume(ctx, riley, y.tenants[0], "for the test"))
	y.eventually(30*time.Second, "true", `SELECT (gate_applied = gate_version)::text FROM organization WHERE id = $1`, y.tenants[0])
	requireProven(t, y.prove(y.slug(y.tenants[0])))
}

// state adds a tenant's part of a proof to the figures.
func state(t *testing.T, one isolation.Tenant, declared int) {
	t.Helper()
	refused, passed, differ := 0, 0, 0
	for _, l := range one.Layers {
		refused += l.Refused
	}
	for _, f := range one.Findings {
		if f.Layer == isolation.LayerDeclared {
			differ++
		} else {
			passed++
		}
	}
	prove.State(t, prove.IsolationAttempts, refused, passed)
	prove.State(t, prove.IsolationDeclared, declared, differ)
}

// TestAPartThatDoesNotAnswerQuarantinesNobody takes the public address and then the
// object store away: the proof says that it shows nothing.
func TestAPartThatDoesNotAnswerQuarantinesNobody(t *testing.T) {
	y := newYard(t, 2)
	y.silent.Store(true)
	r := y.prove("")
	require.False(t, r.OK)
	for _, one := range r.Tenants {
		require.Equal(t, isolation.Unproven, one.Verdict, all(one))
		require.Contains(t, all(one), "its own probe did not succeed")
		require.Contains(t, all(one), "a request without a session: the answer was 503")
		require.Equal(t, "live", y.text(`SELECT state FROM organization WHERE id = $1`, one.ID))
	}
	y.silent.Store(false)
	requireProven(t, y.prove(""))
}

// TestABreachIsFoundAlsoWhereTheCatalogLooksRight lets the front serve whoever asks.
func TestABreachIsFoundAlsoWhereTheCatalogLooksRight(t *testing.T) {
	y := newYard(t, 2)
	y.careless.Store(true)
	r := y.prove("")
	for _, one := range r.Tenants {
		require.Equal(t, isolation.Failed, one.Verdict)
		for _, says := range []string{"its probe at another's name was allowed", "another's probe at its name was allowed", "a request without a session was allowed",
			"an expired probe was allowed", "a probe that another key signed was allowed"} {
			require.Contains(t, all(one), says)
		}
		require.Equal(t, "quarantined", y.text(`SELECT state FROM organization WHERE id = $1`, one.ID))
		prove.Plant(t, prove.IsolationAttempts, 1, 1)
	}
}

// TestTheScheduleProvesAndQuarantines lets the provisioner find a fault by itself:
// nobody asks.
func TestTheScheduleProvesAndQuarantines(t *testing.T) {
	y := newYard(t, 2, "CARESPHERE_ISOLATION_EVERY=1s", "CARESPHERE_ALERT_MAIL=operators@caresphere.example")
	y.eventually(30*time.Second, "true", `SELECT (count(*) > 0)::text FROM isolation_run WHERE asked_by = 'schedule' AND ok`)
	y.cellExec(`ALTER TABLE ` + tenants.SchemaName(y.tenants[0]) + `.client NO FORCE ROW LEVEL SECURITY`)
	y.eventually(40*time.Second, "quarantined", `SELECT state FROM organization WHERE id = $1`, y.tenants[0])
	require.Equal(t, "live", y.text(`SELECT state FROM organization WHERE id = $1`, y.tenants[1]))
	require.Equal(t, "1", y.text(`SELECT count(*)::text FROM mail WHERE recipient = 'operators@caresphere.example' AND template = 'quarantine'`))
	require.Equal(t, "1", y.text(`SELECT count(*)::text FROM audit_entry WHERE action = 'organization.quarantine' AND actor_kind = 'system' AND organization_id = $1`, y.tenants[0]))
	y.eventually(30*time.Second, "true", `SELECT (gate_applied = gate_version AND gate_mode = 'closed')::text FROM organization WHERE id = $1`, y.tenants[0])
	require.Error(t, y.asTenant(context.Background(), y.tenants[0], `SELECT 1`))
	require.NoError(t, y.asTenant(context.Background(), y.tenants[1], `SELECT 1`))
}

// TestOldProofsAreThinnedOut plants runs of other days and lets the schedule ask for the
// next: of a day that is a week past, the last good one is kept and each that was not good.
func TestOldProofsAreThinnedOut(t *testing.T) {
	y := newYard(t, 1, "CARESPHERE_ISOLATION_EVERY=1s")
	kept, gone := map[string]bool{}, map[string]bool{}
	for _, r := range []struct {
		by, state, ago string
		ok, kept       bool
	}{
		{"schedule", "done", "100 days", false, false},
		{"schedule", "done", "100 days", true, false},
		{"operator", "done", "100 days", true, true},
		{"release", "done", "100 days", true, true},
		{"schedule", "done", "30 days", true, false},
		{"schedule", "done", "30 days", true, false},
		{"schedule", "done", "30 days", true, true}, // the last of its day
		{"schedule", "done", "30 days", false, true},
		{"schedule", "failed", "30 days", false, true},
		{"schedule", "done", "29 days", true, true},
		{"schedule", "done", "3 days", true, true},
		{"schedule", "done", "3 days", true, true},
	} {
		id := tenants.NewID()
		// In the order of the list, all at the start of their day.
		y.exec(`INSERT INTO isolation_run (id, kind, cell_id, asked_by, state, ok, asked_at, finished_at)
			SELECT $1, 'proof', id, $2, $3, $4, d, d FROM cell, (SELECT date_trunc('day', now(), 'UTC') - $5::interval + make_interval(secs => $6)) AS x(d)`,
			id, r.by, r.state, r.ok, r.ago, float64(len(kept)+len(gone)))
		y.exec(`INSERT INTO isolation_result (organization_id, run_id, verdict) VALUES ($1, $2, 'proven')`, y.tenants[0], id)
		if r.kept {
			kept[id.String()] = true
		} else {
			gone[id.String()] = true
		}
	}
	count := func(ids map[string]bool) string {
		return y.text(`SELECT count(*)::text || ' ' || (SELECT count(*) FROM isolation_result WHERE run_id = ANY($1::uuid[])) FROM isolation_run WHERE id = ANY($1::uuid[])`,
			slices.Collect(maps.Keys(ids)))
	}
	require.Eventually(t, func() bool { return count(gone) == "0 0" }, 60*time.Second, 50*time.Millisecond)
	require.Equal(t, "8 8", count(kept))
	// Once more, for what the first round left because it takes a few at a time.
	before := y.text(`SELECT count(*)::text FROM isolation_run WHERE asked_by = 'schedule' AND finished_at > now() - interval '1 hour'`)
	require.Eventually(t, func() bool {
		return y.text(`SELECT count(*)::text FROM isolation_run WHERE asked_by = 'schedule' AND finished_at > now() - interval '1 hour'`) != before
	}, 60*time.Second, 50*time.Millisecond)
	require.Equal(t, "8 8", count(kept))
}
