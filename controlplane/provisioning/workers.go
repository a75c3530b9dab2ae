package provisioning

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/caresphere/caresphere/controlplane/jobs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"
)

const (
	// provisionTries is how often a job is tried before the organization counts as
	// failed: with the pauses between, some two minutes.
	provisionTries = 8
	// jobTime bounds one try; River takes a job whose process was killed away after
	// rescueAfter, and the watch (see Watch) much earlier.
	jobTime     = 3 * time.Minute
	rescueAfter = 4 * time.Minute
	// softStop is how long a job that is under way when the process is told to end may go
	// on: a proof of a cell would for minutes. All can be taken up again. With what comes
	// after, it is less than whoever started the process waits (10 s).
	softStop = 6 * time.Second
)

// Registrar adds workers and their queues of another package's jobs.
type Registrar interface {
	Register(workers *river.Workers, queues map[string]river.QueueConfig)
}

// Client returns the River client that works the provisioner's jobs and those of
// the others; the caller starts and stops it. It works the queues of its cell and those
// of no cell. The gates' queues have workers of their own. The pool is of the control
// database and for the queues alone: jobs use that of the Config.
func (p *Provisioner) Client(queue *pgxpool.Pool, log *slog.Logger, others ...Registrar) (*river.Client[pgx.Tx], error) {
	workers := river.NewWorkers()
	queues := map[string]river.QueueConfig{
		jobs.QueueGate(p.CellID):      {MaxWorkers: 8},
		jobs.AnyGate:                  {MaxWorkers: 2},
		jobs.QueueProvision(p.CellID): {MaxWorkers: 4},
		jobs.AnyProvision:             {MaxWorkers: 4},
		jobs.QueueRenew(p.CellID):     {MaxWorkers: 1},
		// A few at a time: rotations are in no hurry, and share the KMS with requests.
		jobs.QueueRotate(p.CellID): {MaxWorkers: 2},
	}
	for _, o := range others {
		o.Register(workers, queues)
	}
	river.AddWorker(workers, &provisionWorker{p: p})
	river.AddWorker(workers, &gateWorker{p: p})
	river.AddWorker(workers, &renewWorker{p: p})
	river.AddWorker(workers, &rotateWorker{p: p})
	return river.NewClient(riverpgxv5.New(queue), &river.Config{
		ID:                   p.Holder,
		Logger:               log,
		Workers:              workers,
		JobTimeout:           jobTime,
		RescueStuckJobsAfter: rescueAfter,
		FetchCooldown:        50 * time.Millisecond,
		FetchPollInterval:    500 * time.Millisecond,
		FetchOnlyKnownKinds:  true,
		SoftStopTimeout:      softStop,
		Queues:               queues,
	})
}

// Inserter returns a River client that inserts jobs and works none, for the parts
// that a transaction of the provisioner calls.
func Inserter(control *pgxpool.Pool, log *slog.Logger) (*river.Client[pgx.Tx], error) {
	return river.NewClient(riverpgxv5.New(control), &river.Config{Logger: log})
}

type provisionWorker struct {
	river.WorkerDefaults[jobs.Provision]
	p *Provisioner
}

// Work implements river.Worker.
func (w *provisionWorker) Work(ctx context.Context, job *river.Job[jobs.Provision]) error {
	last := job.Attempt >= min(job.MaxAttempts, provisionTries)
	err := w.p.Provision(ctx, job.Args.OrganizationID, last)
	var f *Failure
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrBusy):
		// Whoever holds the lease may die: look again after its end.
		return river.JobSnooze(w.p.LeaseLife / 2)
	case errors.Is(err, ErrFenced):
		w.p.Log.WarnContext(ctx, "provisioning was taken over by another process", "tenant", job.Args.OrganizationID.String())
		return nil
	case errors.As(err, &f) && (f.Final || last):
		w.p.Log.ErrorContext(ctx, "provisioning failed", "tenant", job.Args.OrganizationID.String(), "reason", f.Reason, "error", err)
		return river.JobCancel(errors.New(readable(err)))
	}
	w.p.Log.WarnContext(ctx, "provisioning is tried again", "tenant", job.Args.OrganizationID.String(), "attempt", job.Attempt, "error", err)
	// What River stores of an error appears in operators' tools: the readable part only.
	return errors.New(readable(err))
}

// NextRetry implements river.Worker: 1 s, 2 s, 4 s... up to 30 s, a little scattered.
func (*provisionWorker) NextRetry(job *river.Job[jobs.Provision]) time.Time {
	pause := min(time.Second<<min(job.Attempt-1, 10), 30*time.Second)
	return time.Now().Add(pause*3/4 + rand.N(pause/2)) //nolint:gosec // scattering, no secret
}

type gateWorker struct {
	river.WorkerDefaults[jobs.ApplyGate]
	p *Provisioner
}

// Work implements river.Worker.
func (w *gateWorker) Work(ctx context.Context, job *river.Job[jobs.ApplyGate]) error {
	err := w.p.ApplyGate(ctx, job.Args.OrganizationID)
	if err == nil {
		return nil
	}
	var f *Failure
	if errors.As(err, &f) && f.Final {
		return river.JobCancel(err)
	}
	w.p.Log.ErrorContext(ctx, "a gate was not applied; it is tried again", "tenant", job.Args.OrganizationID.String(), "error", err)
	return errors.New(readable(err))
}

// Timeout implements river.Worker.
func (*gateWorker) Timeout(*river.Job[jobs.ApplyGate]) time.Duration { return 30 * time.Second }

// NextRetry implements river.Worker: soon, and for as long as River lets it; the
// watch goes on after that.
func (*gateWorker) NextRetry(*river.Job[jobs.ApplyGate]) time.Time {
	return time.Now().Add(500*time.Millisecond + rand.N(500*time.Millisecond)) //nolint:gosec // scattering, no secret
}

type renewWorker struct {
	river.WorkerDefaults[jobs.RenewCredentials]
	p *Provisioner
}

// Work implements river.Worker.
func (w *renewWorker) Work(ctx context.Context, _ *river.Job[jobs.RenewCredentials]) error {
	n, err := w.p.RenewCredentials(ctx)
	if n > 0 {
		w.p.Log.InfoContext(ctx, "credentials renewed", "count", n)
	}
	if err != nil {
		w.p.Log.ErrorContext(ctx, "credentials were not renewed", "error", err)
		return errors.New(readable(err))
	}
	return nil
}

// inserts is what Watch needs of River.
type inserts interface {
	Insert(ctx context.Context, args river.JobArgs, opts *river.InsertOpts) (*rivertype.JobInsertResult, error)
}
