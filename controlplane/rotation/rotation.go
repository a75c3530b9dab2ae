// Package rotation is what operators ask of the rotation of tenants' keys, and what
// they see of it.
//
// It owns the asking and no key: the provisioner of the cell does the work, as a job.
// It trusts the session gate for who calls. It never asks for the rotation of a key
// whose organization's gate is closed, and never for a second while one is under way.
package rotation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/caresphere/caresphere/controlplane/acts"
	"github.com/caresphere/caresphere/controlplane/jobs"
	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/tenants"
)

// Jobs inserts a background job in a transaction; *river.Client does.
type Jobs interface {
	InsertTx(ctx context.Context, tx pgx.Tx, args river.JobArgs, opts *river.InsertOpts) (*rivertype.JobInsertResult, error)
}

// Service asks for rotations and shows them.
type Service struct {
	pool *pgxpool.Pool
	jobs Jobs
}

// NewService returns a service over the control plane's pool.
func NewService(pool *pgxpool.Pool, j Jobs) *Service { return &Service{pool, j} }

// Status is a rotation and how far it is.
type Status struct {
	ID       tenants.ID
	TenantID tenants.ID
	Slug     string
	Cell     string
	AskedBy  string
	// State is waiting, rotating, rewrapping, grace, done or failed.
	State string
	// Reason says why it does not go on, or failed.
	Reason string
	// FromVersion and ToVersion are 0 until it began.
	FromVersion, ToVersion int
	// Wraps is how many wrapped keys were found to be of the new version.
	Wraps   int
	AskedAt time.Time
	// RetireAfter is when the old version is destroyed.
	RotatedAt, RewrappedAt, RetireAfter, FinishedAt *time.Time
}

// Key is the key of one organization, as the rotations tell it.
type Key struct {
	TenantID tenants.ID
	Slug     string
	State    string
	Cell     string
	Gate     string
	// Version is 1 for a key that was never rotated; Since is when it was made.
	Version int
	Since   time.Time
	// RotationID is NilID where there was none; State and Reason are the newest's.
	RotationID                    tenants.ID
	RotationState, RotationReason string
}

func operator(a tenants.Actor) error {
	switch {
	case a.Kind != tenants.ActorOperator || a.ID.IsZero():
		return tenants.NewError(tenants.KindForbidden, "only an operator may do this")
	case a.AuthenticatedAt.IsZero():
		return tenants.NewError(tenants.KindSecondFactor, "sign in with your second factor")
	}
	return nil
}

// Ask asks for the rotation of one organization's key, by its short name. Errors:
// KindForbidden, KindSecondFactor, KindNotFound for one without a key, KindGateClosed
// while its gate is closed, KindConflict while one is under way.
func (s *Service) Ask(ctx context.Context, a tenants.Actor, slug string) (Status, error) {
	id := tenants.NewID()
	ev := audit.Event{Action: "key.rotate.ask", RecordType: "key_rotation", RecordID: id.String(), Detail: map[string]string{"asked_by": "operator", "tenant": slug}}
	err := acts.Do(ctx, s.pool, a, ev, func(tx pgx.Tx, ev *audit.Event) error {
		if err := operator(a); err != nil {
			return err
		}
		q := store.New(tx)
		org, err := q.RotationPlace(ctx, slug)
		if errors.Is(err, pgx.ErrNoRows) || err == nil && (org.CellID == nil || !org.KeyAlive) {
			return tenants.NotFound()
		}
		if err != nil {
			return fmt.Errorf("reading the organization: %w", err)
		}
		ev.OrganizationID = org.ID
		if state := tenants.State(org.State); state != tenants.StateLive && state != tenants.StateReadOnly || tenants.GateMode(org.GateMode) == tenants.GateClosed {
			return tenants.NewError(tenants.KindGateClosed, "the organization's gate is closed: its key is rotated when it is open")
		}
		under := tenants.NewError(tenants.KindConflict, "a rotation of this key is under way")
		there, err := q.RotationUnderWay(ctx, org.ID)
		if err != nil {
			return fmt.Errorf("looking for a rotation: %w", err)
		}
		if there {
			return under
		}
		err = q.RotationAsk(ctx, store.RotationAskParams{ID: id, OrganizationID: org.ID, CellID: *org.CellID, AskedBy: "operator"})
		if pg.IsUnique(err, "key_rotation_under_way") {
			return under
		}
		if err != nil {
			return fmt.Errorf("asking for the rotation: %w", err)
		}
		if _, err := s.jobs.InsertTx(ctx, tx, jobs.RotateKey{OrganizationID: org.ID}, &river.InsertOpts{Queue: jobs.QueueRotate(*org.CellID)}); err != nil {
			return fmt.Errorf("asking for the rotation: %w", err)
		}
		return nil
	})
	if err != nil {
		return Status{}, err
	}
	return s.Get(ctx, a, id)
}

// Get returns a rotation. Operators only.
func (s *Service) Get(ctx context.Context, a tenants.Actor, id tenants.ID) (Status, error) {
	if err := operator(a); err != nil {
		return Status{}, err
	}
	r, err := store.New(s.pool).RotationGet(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return Status{}, tenants.NotFound()
	}
	if err != nil {
		return Status{}, fmt.Errorf("reading the rotation: %w", err)
	}
	return Status{ID: r.ID, TenantID: r.OrganizationID, Slug: r.Slug, Cell: r.CellID, AskedBy: r.AskedBy, State: r.State, Reason: r.Reason,
		FromVersion: int(r.FromVersion), ToVersion: int(r.ToVersion), Wraps: int(r.Wraps), AskedAt: r.AskedAt,
		RotatedAt: r.RotatedAt, RewrappedAt: r.RewrappedAt, RetireAfter: r.RetireAfter, FinishedAt: r.FinishedAt}, nil
}

// Keys returns organizations' keys in the order of their short names: the one that is
// named, or with "" a page of at most count after that name. Operators only;
// KindNotFound for a name without a key.
func (s *Service) Keys(ctx context.Context, a tenants.Actor, slug, after string, count int) ([]Key, error) {
	if err := operator(a); err != nil {
		return nil, err
	}
	rows, err := store.New(s.pool).RotationKeys(ctx, store.RotationKeysParams{Slug: slug, AfterSlug: after, Count: int32(min(count, 500))})
	if err != nil {
		return nil, fmt.Errorf("listing keys: %w", err)
	}
	if slug != "" && len(rows) == 0 {
		return nil, tenants.NotFound()
	}
	out := make([]Key, 0, len(rows))
	for _, r := range rows {
		k := Key{TenantID: r.ID, Slug: r.Slug, State: r.State, Cell: r.CellID, Gate: r.GateMode, Version: int(r.Version), Since: r.Since,
			RotationState: r.RotationState, RotationReason: r.RotationReason}
		if k.RotationState != "" {
			k.RotationID = r.RotationID
		}
		out = append(out, k)
	}
	return out, nil
}
