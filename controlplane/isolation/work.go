package isolation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/caresphere/caresphere/controlplane/jobs"
	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/isolation"
	"github.com/caresphere/caresphere/tenants"
)

const (
	// jobTime bounds one try of a run. One over all tenants of a cell begins no look
	// after Config.Part, and is taken up again where it was.
	jobTime = 15 * time.Minute
)

// Jobs inserts a background job in a transaction; *river.Client does.
type Jobs interface {
	InsertTx(ctx context.Context, tx pgx.Tx, args river.JobArgs, opts *river.InsertOpts) (*rivertype.JobInsertResult, error)
}

// Register adds the worker of proofs and repairs, and its queue.
func (p *Prover) Register(workers *river.Workers, queues map[string]river.QueueConfig) {
	river.AddWorker(workers, &worker{p: p})
	queues[jobs.QueueIsolation(p.CellID)] = river.QueueConfig{MaxWorkers: 2}
}

type worker struct {
	river.WorkerDefaults[jobs.Isolation]
	p *Prover
}

// Timeout implements river.Worker.
func (*worker) Timeout(*river.Job[jobs.Isolation]) time.Duration { return jobTime }

// NextRetry implements river.Worker.
func (*worker) NextRetry(job *river.Job[jobs.Isolation]) time.Time {
	return time.Now().Add(time.Second << min(job.Attempt, 6))
}

// Work implements river.Worker.
func (w *worker) Work(ctx context.Context, job *river.Job[jobs.Isolation]) error {
	err := w.p.Run(ctx, job.Args.RunID, job.Attempt >= job.MaxAttempts)
	if errors.Is(err, errMore) {
		return river.JobSnooze(0)
	}
	if err != nil {
		w.p.Log.ErrorContext(ctx, "a run of isolation failed", "run", job.Args.RunID.String(), "error", err)
		return errors.New(readable(err))
	}
	return nil
}

// errMore means that there are tenants left for the run's next part.
var errMore = errors.New("the run goes on")

// Run does one run that was asked for. A run that is done is left alone. With last
// a run that fails is recorded as failed; before, it is tried again.
func (p *Prover) Run(ctx context.Context, id tenants.ID, last bool) error {
	run, err := p.q.IsolationStart(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("taking the run: %w", err)
	}
	if run.CellID != p.CellID {
		return errors.New("the run is of another cell")
	}
	var only tenants.ID
	if run.OrganizationID != nil {
		only = *run.OrganizationID
		if err := p.q.IsolationResultsDrop(ctx, id); err != nil {
			return fmt.Errorf("clearing the run: %w", err)
		}
	}
	end, err := p.doRun(ctx, run, only)
	if errors.Is(err, errMore) {
		return err
	}
	if err != nil {
		if !last {
			return err
		}
		end = store.IsolationFinishParams{State: "failed", Reason: cut(readable(err), 500)}
	}
	end.ID = id
	fctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return errors.Join(err, p.inControl(fctx, func(tx pgx.Tx, q *store.Queries) error {
		n, err := q.IsolationFinish(fctx, end)
		if err != nil || n == 0 {
			return wrap(err, "recording the run")
		}
		if only.IsZero() {
			if err := q.IsolationRoundDone(fctx, id); err != nil {
				return wrap(err, "counting the cell's proofs")
			}
			if err := p.dropParts(fctx, q, id); err != nil {
				return err
			}
		}
		ev := audit.Event{Action: "isolation." + run.Kind, RecordType: "isolation_run", RecordID: id.String(), Outcome: audit.OutcomeOK,
			Detail: map[string]string{"cell": p.CellID, "asked_by": run.AskedBy, "proven": fmt.Sprint(end.Proven), "failed": fmt.Sprint(end.Failed), "unproven": fmt.Sprint(end.Unproven)}}
		if !end.Ok && run.Kind != kindPlan {
			ev.Outcome = audit.OutcomeFailed
		}
		if run.OrganizationID != nil {
			ev.OrganizationID = only
		}
		if err := audit.Insert(fctx, tx, tenants.Actor{Kind: tenants.ActorSystem}, ev); err != nil {
			return err
		}
		return audit.Notify(fctx, tx, audit.ControlLog())
	}))
}

// dropParts removes what a run of all tenants kept for its next part.
func (p *Prover) dropParts(ctx context.Context, q *store.Queries, run tenants.ID) error {
	return wrap(q.IsolationPartsDrop(ctx, store.IsolationPartsDropParams{RunID: run, CellID: &p.CellID}), "clearing the run's parts")
}

// The kinds of run.
const (
	kindProof  = "proof"
	kindPlan   = "plan"
	kindRepair = "repair"
)

func (p *Prover) doRun(ctx context.Context, run store.IsolationStartRow, only tenants.ID) (store.IsolationFinishParams, error) {
	end := store.IsolationFinishParams{State: "done"}
	if run.Kind == kindProof {
		report, err := p.Prove(ctx, run, only)
		if err != nil {
			return end, err
		}
		end.Ok = report.OK
		tally(&end, report.Tenants...)
		if only.IsZero() {
			p.measure(report)
		}
		end.Document, err = isolation.Sign(report, p.Signer)
		return end, err
	}
	t, err := p.subject(ctx, only)
	if err != nil {
		return end, err
	}
	var r Repair
	if run.Kind == kindPlan {
		if r, _, err = p.plan(ctx, t); err == nil {
			end.Ok = len(r.Differences) == 0
		}
	} else if r, err = p.repair(ctx, run, t); err == nil {
		end.Ok = r.Proof.Verdict == isolation.Proven
		tally(&end, *r.Proof)
	}
	if err != nil {
		return end, err
	}
	end.Document, err = json.Marshal(r)
	return end, wrap(err, "encoding the repair")
}

func tally(end *store.IsolationFinishParams, list ...isolation.Tenant) {
	for _, t := range list {
		switch t.Verdict {
		case isolation.Proven:
			end.Proven++
		case isolation.Failed:
			end.Failed++
		default:
			end.Unproven++
		}
	}
}

func (p *Prover) measure(r isolation.Report) {
	count := map[isolation.Verdict]float64{isolation.Proven: 0, isolation.Failed: 0, isolation.Unproven: 0}
	for _, t := range r.Tenants {
		count[t.Verdict]++
	}
	for v, n := range count {
		p.gauges.tenants.WithLabelValues(string(v)).Set(n)
	}
	p.gauges.last.Set(float64(r.FinishedAt.Unix()))
	p.gauges.seconds.Set(r.FinishedAt.Sub(r.StartedAt).Seconds())
	if !r.OK {
		p.Log.Error("isolation is not proven", "cell", r.Cell, "failed", count[isolation.Failed], "unproven", count[isolation.Unproven])
	}
}

func wrap(err error, doing string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}
