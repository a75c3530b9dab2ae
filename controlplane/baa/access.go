package baa

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/tenants"
)

// strict refuses a session without a second factor. The gate of the pages and the
// API asks for one as well; an agreement does not rely on it.
func (p Person) strict() error {
	if p.SecondFactorAt.IsZero() || p.SessionID.IsZero() || p.ID.IsZero() {
		return tenants.NewError(tenants.KindSecondFactor, "sign in with your second factor")
	}
	return nil
}

// operator refuses everybody but an operator with a second factor.
func (p Person) operator() error {
	if p.Kind != tenants.ActorOperator {
		return tenants.NewError(tenants.KindForbidden, "only an operator may do this")
	}
	return p.strict()
}

// owner refuses everybody but an owner of the organization that the session
// belongs to, and returns the account as the database has it.
func owner(ctx context.Context, q *store.Queries, p Person) (store.BAASignerRow, error) {
	var none store.BAASignerRow
	if p.Kind != tenants.ActorMember || p.TenantID.IsZero() {
		return none, tenants.NewError(tenants.KindForbidden, "only a member of an organization may do this")
	}
	if err := p.strict(); err != nil {
		return none, err
	}
	account, err := q.BAASigner(ctx, p.ID)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return none, tenants.NewError(tenants.KindForbidden, "only an owner may act on the agreement")
	case err != nil:
		return none, fmt.Errorf("reading the signer's account: %w", err)
	case account.OrganizationID != p.TenantID || !account.Owner:
		return none, tenants.NewError(tenants.KindForbidden, "only an owner may act on the agreement")
	}
	return account, nil
}

// party refuses everybody but an operator, or an owner of the organization. An
// agreement of another organization does not exist for an owner.
func party(ctx context.Context, q *store.Queries, p Person, organization tenants.ID) error {
	if p.Kind == tenants.ActorOperator {
		return p.operator()
	}
	account, err := owner(ctx, q, p)
	if err != nil {
		return err
	}
	if account.OrganizationID != organization {
		return tenants.NotFound()
	}
	return nil
}

// lock takes the organization and then the agreement, in the order that every
// change of either keeps.
func lock(ctx context.Context, q *store.Queries, id tenants.ID) (store.BAALockOrganizationRow, store.BAALockRow, error) {
	var (
		org store.BAALockOrganizationRow
		row store.BAALockRow
	)
	found, err := q.BAAGet(ctx, id)
	if err == nil {
		org, err = q.BAALockOrganization(ctx, found.OrganizationID)
	}
	if err == nil {
		row, err = q.BAALock(ctx, store.BAALockParams{ID: id, OrganizationID: org.ID})
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return org, row, tenants.NotFound()
	}
	if err != nil {
		return org, row, fmt.Errorf("locking the agreement: %w", err)
	}
	return org, row, nil
}
