package members

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/tenants"
)

// Standing is what the data plane decided about a person.
type Standing struct {
	Organization, Identity tenants.ID
	Role                   tenants.Role
	Active                 bool
	// Version rises with each decision about the person.
	Version int64
}

// Stand takes over a decision of the data plane: who is an owner now, and who is
// disabled, whose sessions end at Kratos too. One that is older than what is known
// changes nothing, and the same one again ends again the sessions of who is disabled.
// Errors: KindNotFound for somebody who has no account in that organization,
// KindUnavailable.
func (s *Service) Stand(ctx context.Context, in Standing, requestID string) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	stale := false
	err := pg.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		q := store.New(tx)
		was, err := q.LockAccount(ctx, in.Identity)
		if errors.Is(err, pgx.ErrNoRows) || err == nil && was.OrganizationID != in.Organization {
			return tenants.NotFound()
		}
		if err != nil {
			return fmt.Errorf("reading an account: %w", err)
		}
		if stale = in.Version < was.MemberVersion; in.Version <= was.MemberVersion {
			return nil
		}
		is, err := q.SetStanding(ctx, store.SetStandingParams{IdentityID: in.Identity, Role: string(in.Role), Version: in.Version, Active: in.Active})
		if err != nil {
			return fmt.Errorf("keeping a person's standing: %w", err)
		}
		for _, action := range changes(was.Owner, is.Owner, was.DisabledAt, is.DisabledAt) {
			err := audit.Insert(ctx, tx, tenants.Actor{Kind: tenants.ActorSystem, RequestID: requestID}, audit.Event{
				Action: action, RecordType: "account", RecordID: in.Identity.String(), OrganizationID: in.Organization})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || stale || in.Active {
		return err
	}
	// After the commit: from then on no new session is let in either.
	return s.ids.EndSessions(ctx, in.Identity)
}

// changes names what has become different, for the audit trail.
func changes(wasOwner, owner bool, wasDisabled, disabled *time.Time) []string {
	var out []string
	switch {
	case wasDisabled == nil && disabled != nil:
		out = append(out, "account.disabled")
	case wasDisabled != nil && disabled == nil:
		out = append(out, "account.enabled")
	}
	switch {
	case wasOwner && !owner:
		out = append(out, "account.owner.withdrawn")
	case !wasOwner && owner:
		out = append(out, "account.owner.granted")
	}
	return out
}
