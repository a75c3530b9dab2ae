// Package fleet is what operators and owners see and do about organizations as
// wholes: their state, their provisioning steps, suspending and resuming them.
//
// It owns moves between states of the lifecycle that people ask for. It trusts the
// session gate for who asks. It never touches an agreement, a tenant's schema or a
// key: the gate decision that follows from a move is made in the same transaction
// by whoever owns gates.
package fleet

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/tenants"
)

// Gate decides an organization's gate anew, in the transaction of what changed.
type Gate interface {
	Decide(ctx context.Context, tx pgx.Tx, organization tenants.ID) error
}

// Jobs inserts a background job in a transaction; *river.Client does.
type Jobs interface {
	InsertTx(ctx context.Context, tx pgx.Tx, args river.JobArgs, opts *river.InsertOpts) (*rivertype.JobInsertResult, error)
}

// Service is the fleet of organizations.
type Service struct {
	pool *pgxpool.Pool
	gate Gate
	jobs Jobs
}

// New returns a service over the pool.
func New(pool *pgxpool.Pool, gate Gate, jobs Jobs) *Service {
	return &Service{pool: pool, gate: gate, jobs: jobs}
}

// operator refuses everybody but an operator with a second factor.
func operator(a tenants.Actor) error {
	switch {
	case a.Kind != tenants.ActorOperator || a.ID.IsZero():
		return tenants.NewError(tenants.KindForbidden, "only an operator may do this")
	case a.AuthenticatedAt.IsZero():
		return tenants.NewError(tenants.KindSecondFactor, "sign in with your second factor")
	}
	return nil
}

// member refuses everybody but a member of the organization; with owner, everybody
// but an owner of it. Another organization does not exist for a member.
func member(ctx context.Context, q *store.Queries, a tenants.Actor, organization tenants.ID, owner bool) error {
	if a.Kind != tenants.ActorMember || a.ID.IsZero() {
		return tenants.NewError(tenants.KindForbidden, "only a member of the organization may do this")
	}
	if a.AuthenticatedAt.IsZero() {
		return tenants.NewError(tenants.KindSecondFactor, "sign in with your second factor")
	}
	row, err := q.FleetAccount(ctx, a.ID)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("reading the account: %w", err)
	}
	if err != nil || row.DisabledAt != nil || row.OrganizationID != a.TenantID {
		return tenants.NewError(tenants.KindForbidden, "only a member of the organization may do this")
	}
	if row.OrganizationID != organization {
		return tenants.NotFound()
	}
	if owner && !row.Owner {
		return tenants.NewError(tenants.KindForbidden, "only an owner may do this")
	}
	return nil
}
