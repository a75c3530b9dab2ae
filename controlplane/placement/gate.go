package placement

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/caresphere/caresphere/controlplane/acts"
	"github.com/caresphere/caresphere/controlplane/jobs"
	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/tenants"
)

// Jobs inserts a background job in a transaction; *river.Client does.
type Jobs interface {
	InsertTx(ctx context.Context, tx pgx.Tx, args river.JobArgs, opts *river.InsertOpts) (*rivertype.JobInsertResult, error)
}

// Gates decides and stores gates.
type Gates struct {
	jobs  Jobs
	clock acts.Clock
}

// NewGates returns a decider; a nil clock means the database's.
func NewGates(j Jobs, clock acts.Clock) *Gates {
	if clock == nil {
		clock = acts.DatabaseClock
	}
	return &Gates{jobs: j, clock: clock}
}

// Decide decides the organization's gate from what the transaction sees and
// stores the decision in it. A new mode gets a new gate version, an audit row and,
// once the organization has a place, a job that carries it there; the route table
// gets a new version whenever the organization has, had or gets a route. It locks
// the organization's row. The error is KindNotFound for an unknown organization.
func (g *Gates) Decide(ctx context.Context, tx pgx.Tx, organization tenants.ID) error {
	q := store.New(tx)
	row, err := q.GateLock(ctx, organization)
	if errors.Is(err, pgx.ErrNoRows) {
		return tenants.NotFound()
	}
	if err != nil {
		return fmt.Errorf("locking the organization: %w", err)
	}
	baa, err := agreement(ctx, q, organization)
	if err != nil {
		return err
	}
	now, err := g.clock(ctx, tx)
	if err != nil {
		return err
	}
	next := decide(tenants.State(row.State), baa, row.KeyAlive, now)
	was := decision{Gate: tenants.Gate{Mode: tenants.GateMode(row.GateMode), Reason: tenants.GateReason(row.GateReason)}, until: row.GateUntil}
	if next.Mode != tenants.GateClosed || was.Mode != tenants.GateClosed {
		if err := Publish(ctx, tx); err != nil {
			return err
		}
	}
	if next.equal(was) {
		return nil
	}
	return g.store(ctx, tx, row, was, next)
}

// decision is a gate with the moment until which it holds by itself.
type decision struct {
	tenants.Gate
	until *time.Time
}

func decide(state tenants.State, baa tenants.BAA, keyAlive bool, now time.Time) decision {
	d := decision{Gate: tenants.DecideGate(state, baa, keyAlive, now)}
	if d.Mode != tenants.GateClosed {
		d.until = &baa.ExpiresAt
	}
	return d
}

func (d decision) equal(o decision) bool {
	if d.Gate != o.Gate || (d.until == nil) != (o.until == nil) {
		return false
	}
	return d.until == nil || d.until.Equal(*o.until)
}

func agreement(ctx context.Context, q *store.Queries, organization tenants.ID) (tenants.BAA, error) {
	row, err := q.GateAgreement(ctx, organization)
	if errors.Is(err, pgx.ErrNoRows) {
		return tenants.BAA{}, nil
	}
	if err != nil {
		return tenants.BAA{}, fmt.Errorf("reading the agreement in force: %w", err)
	}
	return asBAA(row.ID, organization, row.State, row.ExecutedAt, row.ExpiresAt), nil
}

func asBAA(id, organization tenants.ID, state string, executed, expires *time.Time) tenants.BAA {
	b := tenants.BAA{ID: id, OrganizationID: organization, State: tenants.BAAState(state)}
	if executed != nil && expires != nil {
		b.ExecutedAt, b.ExpiresAt = *executed, *expires
	}
	return b
}

func (g *Gates) store(ctx context.Context, tx pgx.Tx, row store.GateLockRow, was, next decision) error {
	step := int64(0)
	if next.Mode != was.Mode {
		step = 1
	}
	version, err := store.New(tx).GateStore(ctx, store.GateStoreParams{ID: row.ID, GateMode: string(next.Mode),
		GateReason: string(next.Reason), GateUntil: next.until, Step: step})
	if err != nil {
		return fmt.Errorf("storing the gate: %w", err)
	}
	if step == 0 {
		return nil
	}
	if row.CellID != nil {
		if _, err := g.jobs.InsertTx(ctx, tx, jobs.ApplyGate{OrganizationID: row.ID, Version: version},
			&river.InsertOpts{Queue: jobs.QueueGate(*row.CellID)}); err != nil {
			return fmt.Errorf("asking for the gate to be applied: %w", err)
		}
	}
	return audit.Insert(ctx, tx, acts.System, audit.Event{Action: "gate.change", RecordType: "organization",
		RecordID: row.ID.String(), OrganizationID: row.ID, Detail: map[string]string{
			"from": string(was.Mode), "to": string(next.Mode), "reason": string(next.Reason), "version": strconv.FormatInt(version, 10)}})
}

// Publish gives the route table a new version in the transaction that changed
// what it shows, and wakes the feeds when that commits. Versions are handed out
// one transaction at a time, so that whoever sees a version sees all before it.
func Publish(ctx context.Context, tx pgx.Tx) error {
	q := store.New(tx)
	version, err := q.RouteBump(ctx)
	if err != nil {
		return fmt.Errorf("raising the route table's version: %w", err)
	}
	if err := q.RouteNotify(ctx, strconv.FormatInt(version, 10)); err != nil {
		return fmt.Errorf("announcing the route table's version: %w", err)
	}
	return nil
}
