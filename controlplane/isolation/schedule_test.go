package isolation

import (
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/jobs"
	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/tenants"
)

// TestARunWhoseJobIsOverKeepsNothingFromBeingAsked plants what a process leaves that is
// killed on the last try of its job, beside a run whose job is to be tried again.
func TestARunWhoseJobIsOverKeepsNothingFromBeingAsked(t *testing.T) {
	ctx, db := t.Context(), testkit.ControlDB(t)
	control, err := pg.Open(ctx, db.DSN("provisioner"), pg.Options{})
	require.NoError(t, err)
	defer control.Close()
	admin, err := pgx.Connect(ctx, db.Superuser(t))
	require.NoError(t, err)
	defer func() { _ = admin.Close(ctx) }()
	exec := func(sql string, args ...any) {
		t.Helper()
		_, err := admin.Exec(ctx, sql, args...)
		require.NoError(t, err)
	}
	text := func(sql string, args ...any) (s string) {
		t.Helper()
		require.NoError(t, admin.QueryRow(ctx, sql, args...).Scan(&s))
		return s
	}
	queue, err := river.NewClient(riverpgxv5.New(control), &river.Config{})
	require.NoError(t, err)
	p := &Prover{Config: Config{Control: control, CellID: "main", Every: time.Minute, Log: slog.New(slog.DiscardHandler)}, q: store.New(control)}

	org := tenants.NewID()
	exec(`INSERT INTO cell (id) VALUES ('main') ON CONFLICT DO NOTHING`)
	exec(`INSERT INTO organization (id, slug, legal_name, care_setting, state, cell_id) VALUES ($1, 'willow', 'Willow', 'clinic', 'live', 'main')`, org)
	run := tenants.NewID()
	exec(`INSERT INTO isolation_run (id, kind, cell_id, asked_by, state, asked_at, started_at) VALUES ($1, 'proof', 'main', 'schedule', 'running', now() - interval '1 hour', now())`, run)
	exec(`INSERT INTO isolation_result (organization_id, run_id, verdict, part) VALUES ($1, $2, 'proven', '{}')`, org, run)
	tx, err := control.Begin(ctx)
	require.NoError(t, err)
	_, err = queue.InsertTx(ctx, tx, jobs.Isolation{RunID: run, Cell: "main"}, nil)
	require.NoError(t, err)
	require.NoError(t, tx.Commit(ctx))

	states := func() string {
		return text(`SELECT string_agg(state, ' ' ORDER BY asked_at) FROM isolation_run WHERE cell_id = 'main'`)
	}
	for _, state := range []string{"running", "retryable", "scheduled", "available"} {
		exec(`UPDATE river_job SET state = $1::text::river_job_state`, state)
		require.NoError(t, p.ask(ctx, queue))
		require.Equal(t, "running", states(), "its job is %s", state)
	}
	exec(`UPDATE river_job SET state = 'discarded', finalized_at = now()`)
	require.NoError(t, p.ask(ctx, queue))
	require.Equal(t, "failed waiting", states())
	require.Equal(t, abandoned, text(`SELECT reason FROM isolation_run WHERE id = $1 AND finished_at IS NOT NULL`, run))
	require.Equal(t, "1", text(`SELECT count(*)::text FROM audit_entry WHERE action = 'isolation.proof' AND outcome = 'failed' AND record_id = $1`, run.String()))
	require.Equal(t, "0", text(`SELECT count(*)::text FROM isolation_result WHERE part IS NOT NULL`))
	// The one that was asked for waits with a job of its own.
	require.NoError(t, p.ask(ctx, queue))
	require.Equal(t, "failed waiting", states())
	// A run whose job is gone is over too, and one of another cell is not this one's.
	exec(`INSERT INTO cell (id) VALUES ('other')`)
	exec(`INSERT INTO isolation_run (id, kind, cell_id, asked_by, state) VALUES ($1, 'proof', 'other', 'schedule', 'running')`, tenants.NewID())
	exec(`DELETE FROM river_job`)
	require.NoError(t, p.ask(ctx, queue))
	require.Equal(t, "failed failed", states())
	require.Equal(t, "running", text(`SELECT state FROM isolation_run WHERE cell_id = 'other'`))
}

// TestTheRoundIsTheCellsOwn counts whole proofs among everything else that has a number.
func TestTheRoundIsTheCellsOwn(t *testing.T) {
	ctx, db := t.Context(), testkit.ControlDB(t)
	control, err := pg.Open(ctx, db.DSN("provisioner"), pg.Options{})
	require.NoError(t, err)
	defer control.Close()
	q := store.New(control)
	admin, err := pgx.Connect(ctx, db.Superuser(t))
	require.NoError(t, err)
	defer func() { _ = admin.Close(ctx) }()
	org := tenants.NewID()
	for _, sql := range []string{`INSERT INTO cell (id) VALUES ('one'), ('two')`,
		`INSERT INTO organization (id, slug, legal_name, care_setting, state, cell_id) VALUES ('` + org.String() + `', 'willow', 'Willow', 'clinic', 'live', 'one')`} {
		_, err := admin.Exec(ctx, sql)
		require.NoError(t, err)
	}
	begin := func(cell, kind string, of *tenants.ID) store.IsolationStartRow {
		t.Helper()
		id := tenants.NewID()
		_, err := admin.Exec(ctx, `INSERT INTO isolation_run (id, kind, cell_id, organization_id, asked_by) VALUES ($1, $2, $3, $4, 'schedule')`, id, kind, cell, of)
		require.NoError(t, err)
		r, err := q.IsolationStart(ctx, id)
		require.NoError(t, err)
		return r
	}
	end := func(r store.IsolationStartRow, state string) {
		t.Helper()
		_, err := q.IsolationFinish(ctx, store.IsolationFinishParams{ID: r.ID, State: state})
		require.NoError(t, err)
		require.NoError(t, q.IsolationRoundDone(ctx, r.ID))
	}
	list := make([]subject, 8)
	for i := range list {
		list[i].id = tenants.NewID()
	}
	const most = 4
	require.EqualValues(t, 2, pairs(len(list), most, 0).Rounds, "an even number of rounds is what numbers in turn miss")
	met := map[string]map[tenants.ID]bool{"one": {}, "two": {}}
	for round := range int64(2) {
		for _, cell := range []string{"one", "two"} {
			r := begin(cell, kindProof, nil)
			require.Equal(t, round, r.Round)
			for _, o := range sample(list, list[0], most, r.Round) {
				met[cell][o.id] = true
			}
			end(r, "done")
			if cell == "one" {
				end(begin(cell, kindProof, &org), "done")
				end(begin(cell, kindRepair, &org), "done")
			}
		}
	}
	require.Len(t, met["one"], len(list)-1)
	require.Len(t, met["two"], len(list)-1)

	// One that failed tried nothing for certain; one that is taken up again goes on.
	r := begin("one", kindProof, nil)
	end(r, "failed")
	r = begin("one", kindProof, nil)
	require.EqualValues(t, 2, r.Round)
	beside := begin("one", kindProof, nil)
	require.EqualValues(t, 2, beside.Round)
	end(beside, "done")
	again, err := q.IsolationStart(ctx, r.ID)
	require.NoError(t, err)
	require.EqualValues(t, 2, again.Round)
	end(r, "done")
	require.EqualValues(t, 3, begin("one", kindProof, nil).Round, "two of one round count once")
}
