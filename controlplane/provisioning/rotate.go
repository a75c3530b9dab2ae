package provisioning

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/kms/driver"
	"github.com/caresphere/caresphere/tenants"

	"github.com/jackc/pgx/v5"
)

// Rewrapper is what a rotation needs of the KMS: it sees no data key. In Vault it is
// a role of its own, for the provisioner's may not rotate and its may not close.
type Rewrapper interface {
	Status(ctx context.Context, key string) (driver.Status, error)
	Rotate(ctx context.Context, key string) (version int, err error)
	Rewrap(ctx context.Context, key, purpose string, id tenants.ID, wrapped []byte) (newWrapped []byte, version int, err error)
	WrapVersion(wrapped []byte) (int, error)
	Retire(ctx context.Context, key string, minVersion int) error
}

// The states of a rotation, as operators see them.
const (
	RotationWaiting    = "waiting"
	RotationRotating   = "rotating"
	RotationRewrapping = "rewrapping"
	RotationGrace      = "grace"
	RotationDone       = "done"
	RotationFailed     = "failed"
)

const (
	// DefaultRotateGrace is how long the old version still unwraps: longer than backups
	// are usually kept, for one from before the rewrap is read with the old version alone.
	DefaultRotateGrace = 35 * 24 * time.Hour
	// DefaultRotateEvery is the age at which a key is rotated.
	DefaultRotateEvery = 365 * 24 * time.Hour
	// rewrapTime bounds one pass over a tenant's wraps; what it did stays done.
	rewrapTime = 2 * time.Minute
	// turnTime bounds the rotation itself.
	turnTime = 5 * time.Second
)

// rotation is one rotation under one lease.
type rotation struct {
	*lease
	row store.RotationOpenRow
	key string
}

// RotateKey takes the rotation of the organization's key that is under way as far as
// it goes now. It returns how long its grace still lasts, zero when there is nothing
// left to do. ErrBusy: another process is at the organization. ErrFenced: another
// process took over. KindGateClosed: the organization is left alone until its gate
// opens. A final *Failure ended the rotation.
func (p *Provisioner) RotateKey(ctx context.Context, organization tenants.ID) (wait time.Duration, err error) {
	row, err := p.q.RotationOpen(ctx, organization)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reading the rotation: %w", err)
	}
	if row.CellID != p.CellID {
		return 0, because("another cell's provisioner has to take this", nil)
	}
	ctx, l, drop, err := p.take(ctx, organization)
	if err != nil {
		return 0, err
	}
	defer drop()
	r := &rotation{lease: l, key: driver.KeyName(organization)}
	for {
		r.row, err = p.q.RotationOpen(ctx, organization)
		if errors.Is(err, pgx.ErrNoRows) {
			return 0, nil
		}
		if err != nil {
			return 0, fmt.Errorf("reading the rotation: %w", err)
		}
		if wait := r.wait(); wait > 0 {
			return wait, nil
		}
		if err := r.step(ctx); err != nil {
			return 0, r.stopped(ctx, err)
		}
	}
}

// wait is what is left of the grace.
func (r *rotation) wait() time.Duration {
	if r.row.State != RotationGrace {
		return 0
	}
	return time.Duration(r.row.WaitSeconds * float64(time.Second))
}

// step takes the step that the recorded state asks for. Each is repeated whole after
// a kill anywhere in it, and changes nothing that it did before.
func (r *rotation) step(ctx context.Context) error {
	if err := r.allowed(); err != nil {
		return err
	}
	switch r.row.State {
	case RotationWaiting:
		return r.begin(ctx)
	case RotationRotating:
		return r.turn(ctx)
	case RotationRewrapping:
		return r.rewrap(ctx)
	case RotationGrace:
		return r.retire(ctx)
	}
	return because("the rotation is in a state that this release does not know", nil)
}

// allowed leaves alone whose gate is closed: its role cannot log in, and what a
// quarantined or a leaving organization has is not changed behind its operators.
func (r *rotation) allowed() error {
	switch state := tenants.State(r.row.OrganizationState); {
	case state == tenants.StateClosed:
		return final("the organization is closed")
	case state != tenants.StateLive && state != tenants.StateReadOnly,
		tenants.GateMode(r.row.GateMode) == tenants.GateClosed, !r.row.KeyAlive:
		return tenants.NewError(tenants.KindGateClosed, gateClosed)
	}
	return nil
}

// gateClosed is why a rotation waits, in words for operators.
const gateClosed = "the organization's gate is closed; its key is rotated when it is open again"

// status returns the key's status, or an error unless it is alive.
func (r *rotation) status(ctx context.Context) (driver.Status, error) {
	s, err := r.p.Rewrapper.Status(ctx, r.key)
	switch {
	case err != nil:
		return s, fmt.Errorf("asking for the key: %w", err)
	case s.State == driver.StateShredded, s.State == driver.StateAbsent:
		return s, fmt.Errorf("asking for the key: %w", driver.ErrKeyGone)
	case s.State != driver.StateAlive:
		return s, fmt.Errorf("asking for the key: %w", driver.ErrKeyDisabled)
	}
	return s, nil
}

// begin records the versions before anything happens to the key.
func (r *rotation) begin(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stepTime)
	defer cancel()
	s, err := r.status(ctx)
	if err != nil {
		return err
	}
	from, to := int32(s.Version), int32(s.Version+1)
	return r.move(ctx, "key.rotate.begin", map[string]string{"from": strconv.Itoa(s.Version), "to": strconv.Itoa(s.Version + 1), "asked_by": r.row.AskedBy},
		func(q *store.Queries) (int64, error) {
			return q.RotationBegin(ctx, store.RotationBeginParams{ID: r.row.ID, FromVersion: &from, ToVersion: &to})
		})
}

// turn rotates the key, unless it was. The lease's row is locked meanwhile, so that
// nobody else takes it; the deadline ends before a lease that was kept in time does,
// so that who stood still for longer rotates nothing any more.
func (r *rotation) turn(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, min(turnTime, r.p.LeaseLife/2))
	defer cancel()
	from, to := int(r.row.FromVersion), int(r.row.ToVersion)
	return r.move(ctx, "key.rotate.rotated", map[string]string{"to": strconv.Itoa(to)}, func(q *store.Queries) (int64, error) {
		s, err := r.status(ctx)
		if err != nil {
			return 0, err
		}
		if s.Version < from {
			return 0, because("the key is older than when the rotation began: it was restored, and a person has to look", nil)
		}
		if s.Version == from {
			if s.Version, err = r.p.Rewrapper.Rotate(ctx, r.key); err != nil {
				return 0, fmt.Errorf("rotating the key: %w", err)
			}
		}
		if s.Version < to {
			return 0, because("the key was rotated and its version is not there", nil)
		}
		return q.RotationTurned(ctx, r.row.ID)
	})
}

// rewrap brings every wrap of the tenant to the new version and looks again.
func (r *rotation) rewrap(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, rewrapTime)
	defer cancel()
	wraps, err := r.renewWraps(ctx)
	if err != nil {
		return err
	}
	return r.move(ctx, "key.rotate.rewrapped", map[string]string{"to": strconv.Itoa(int(r.row.ToVersion)), "wraps": strconv.Itoa(wraps)},
		func(q *store.Queries) (int64, error) {
			return q.RotationRewrapped(ctx, store.RotationRewrappedParams{ID: r.row.ID, Wraps: int32(wraps), GraceSeconds: r.p.RotateGrace.Seconds()})
		})
}

// retire destroys the old versions. The wraps are gone through once more before: who
// got one of the old version just before the key was rotated may have stored it
// after the first pass.
func (r *rotation) retire(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, rewrapTime)
	defer cancel()
	wraps, err := r.renewWraps(ctx)
	if err != nil {
		return err
	}
	to := int(r.row.ToVersion)
	if err := r.p.Rewrapper.Retire(ctx, r.key, to); err != nil {
		return fmt.Errorf("retiring old versions: %w", err)
	}
	s, err := r.status(ctx)
	if err != nil {
		return err
	}
	if s.MinVersion < to {
		return because("old versions were retired and still serve", nil)
	}
	return r.move(ctx, "key.rotate.done", map[string]string{"to": strconv.Itoa(to), "wraps": strconv.Itoa(wraps)}, func(q *store.Queries) (int64, error) {
		return q.RotationEnd(ctx, store.RotationEndParams{ID: r.row.ID, State: RotationDone, Wraps: int32(wraps)})
	})
}

// move records a step with its audit entry in one transaction, while the lease is ours.
func (r *rotation) move(ctx context.Context, action string, detail map[string]string, set func(*store.Queries) (int64, error)) error {
	return r.control(ctx, func(tx pgx.Tx, q *store.Queries) error {
		n, err := set(q)
		if err != nil {
			return err
		}
		if n != 1 {
			return errors.New("recording the rotation: it is in another state than when it was read")
		}
		return r.audit(ctx, tx, action, audit.OutcomeOK, detail)
	})
}

func (r *rotation) audit(ctx context.Context, tx pgx.Tx, action string, o audit.Outcome, detail map[string]string) error {
	if err := audit.Insert(ctx, tx, system(), audit.Event{Action: action, RecordType: "key_rotation", RecordID: r.row.ID.String(),
		OrganizationID: r.organization, Outcome: o, Detail: detail}); err != nil {
		return err
	}
	return audit.Notify(ctx, tx, audit.ControlLog())
}

// stopped records why a rotation does not go on now, or that it never will.
func (r *rotation) stopped(ctx context.Context, cause error) error {
	if errors.Is(context.Cause(ctx), ErrFenced) || errors.Is(cause, ErrFenced) {
		return ErrFenced
	}
	var f *Failure
	over := errors.As(cause, &f) && f.Final || errors.Is(cause, driver.ErrKeyGone)
	reason := readable(cause)
	// The record must be made even if what failed is the context's end.
	rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := r.control(rctx, func(tx pgx.Tx, q *store.Queries) error {
		if !over {
			return q.RotationReason(rctx, store.RotationReasonParams{ID: r.row.ID, Reason: reason})
		}
		if _, err := q.RotationEnd(rctx, store.RotationEndParams{ID: r.row.ID, State: RotationFailed, Reason: reason}); err != nil {
			return err
		}
		return r.audit(rctx, tx, "key.rotate.failed", audit.OutcomeFailed, map[string]string{"state": r.row.State, "reason": reason})
	})
	if over {
		cause = &Failure{Reason: reason, Final: true, cause: cause}
	}
	if err != nil {
		return errors.Join(cause, fmt.Errorf("recording why the rotation stopped: %w", err))
	}
	return cause
}
