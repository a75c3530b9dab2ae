package provisioning

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/caresphere/caresphere/controlplane/jobs"
	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/tenants"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
)

const (
	// rotateAskEvery is how often it is asked whose key is due.
	rotateAskEvery = time.Minute
	// rotateAtOnce is how many rotations one look asks for, so that a fleet whose keys
	// are all of one age is not rotated in one go.
	rotateAtOnce = 20
)

type rotateWorker struct {
	river.WorkerDefaults[jobs.RotateKey]
	p *Provisioner
}

// Work implements river.Worker.
func (w *rotateWorker) Work(ctx context.Context, job *river.Job[jobs.RotateKey]) error {
	organization := job.Args.OrganizationID
	wait, err := w.p.RotateKey(ctx, organization)
	var f *Failure
	switch {
	case err == nil && wait > 0:
		return river.JobSnooze(wait)
	case err == nil, errors.Is(err, ErrFenced):
		return nil
	case errors.Is(err, ErrBusy):
		return river.JobSnooze(w.p.LeaseLife / 2)
	case tenants.IsKind(err, tenants.KindGateClosed):
		// The watch asks again once the gate is open.
		w.p.Log.InfoContext(ctx, "a rotation waits for the gate", "tenant", organization.String())
		return nil
	case errors.As(err, &f) && f.Final:
		w.p.Log.ErrorContext(ctx, "a rotation failed", "tenant", organization.String(), "reason", f.Reason, "error", err)
		return river.JobCancel(errors.New(readable(err)))
	}
	w.p.Log.WarnContext(ctx, "a rotation is tried again", "tenant", organization.String(), "attempt", job.Attempt, "error", err)
	return errors.New(readable(err))
}

// NextRetry implements river.Worker: 1 s, 2 s, 4 s... up to 5 min, a little scattered.
func (*rotateWorker) NextRetry(job *river.Job[jobs.RotateKey]) time.Time {
	pause := min(time.Second<<min(job.Attempt-1, 10), 5*time.Minute)
	return time.Now().Add(pause*3/4 + rand.N(pause/2)) //nolint:gosec // scattering, no secret
}

// resumeRotations asks for rotations that are under way and wait for nobody: their
// process was killed, their grace is over, or their gate is open again.
func (p *Provisioner) resumeRotations(ctx context.Context, queue inserts) error {
	stalled, err := p.q.RotationStalled(ctx, p.CellID)
	if err != nil {
		return wrap(err, "listing rotations that stopped")
	}
	for _, id := range stalled {
		if _, err := queue.Insert(ctx, jobs.RotateKey{OrganizationID: id}, &river.InsertOpts{Queue: jobs.QueueRotate(p.CellID)}); err != nil {
			return wrap(err, "asking for a rotation to go on")
		}
	}
	return nil
}

// AskDueRotations asks for the rotation of keys that are older than RotateEvery, of
// organizations whose gate is open, and returns how many. The watch then sees to them.
func (p *Provisioner) AskDueRotations(ctx context.Context) (asked int, err error) {
	err = pg.InTx(ctx, p.Control, func(tx pgx.Tx) error {
		asked = 0
		// One asker at a time: the others then see what the first one asked for.
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('caresphere key rotation ' || $1, 0))`, p.CellID); err != nil {
			return fmt.Errorf("waiting for another asker: %w", err)
		}
		q := p.q.WithTx(tx)
		due, err := q.RotationDue(ctx, store.RotationDueParams{CellID: &p.CellID, EverySeconds: p.RotateEvery.Seconds(), Count: rotateAtOnce})
		if err != nil {
			return fmt.Errorf("listing keys that are due: %w", err)
		}
		for _, organization := range due {
			id := tenants.NewID()
			if err := q.RotationAsk(ctx, store.RotationAskParams{ID: id, OrganizationID: organization, CellID: p.CellID, AskedBy: "schedule"}); err != nil {
				return fmt.Errorf("asking for a rotation: %w", err)
			}
			if err := audit.Insert(ctx, tx, system(), audit.Event{Action: "key.rotate.ask", RecordType: "key_rotation", RecordID: id.String(),
				OrganizationID: organization, Detail: map[string]string{"asked_by": "schedule"}}); err != nil {
				return err
			}
			asked++
		}
		if asked == 0 {
			return nil
		}
		return audit.Notify(ctx, tx, audit.ControlLog())
	})
	return asked, err
}
