package baa

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/controlplane/acts"
	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/tenants"
)

// end moves an agreement to a final state, by the one table of legal moves.
func end(ctx context.Context, q *store.Queries, id tenants.ID, from, to tenants.BAAState, reason string, now time.Time) error {
	if err := tenants.CheckBAAMove(from, to); err != nil {
		return err
	}
	n, err := q.BAAEnd(ctx, store.BAAEndParams{ID: id, OldState: string(from), NewState: string(to), EndedAt: &now, EndedReason: reason})
	return changedOne(n, err, "ending the agreement")
}

// Terminate ends an agreement that is signed or executed, by an owner of the
// organization or by an operator. The gate closes in the same transaction.
// Errors: KindInvalid (reason), KindForbidden, KindSecondFactor, KindNotFound,
// KindConflict if there is nothing to terminate.
func (s *Service) Terminate(ctx context.Context, p Person, id tenants.ID, reason string) (Agreement, error) {
	reason = strings.TrimSpace(reason)
	if err := checkLine("body.reason", reason, 3, 500); err != nil {
		return Agreement{}, err
	}
	ev := audit.Event{Action: "baa.terminate", RecordType: "baa", RecordID: id.String(), OrganizationID: p.TenantID}
	err := acts.Do(ctx, s.Pool, p.Actor, ev, func(tx pgx.Tx, ev *audit.Event) error {
		q := store.New(tx)
		if err := party(ctx, q, p, p.TenantID); err != nil {
			return err
		}
		org, row, err := lock(ctx, q, id)
		if err != nil {
			return err
		}
		if err := party(ctx, q, p, org.ID); err != nil {
			return err
		}
		ev.OrganizationID = org.ID
		now, err := s.Clock(ctx, tx)
		if err != nil {
			return err
		}
		if err := end(ctx, q, id, tenants.BAAState(row.State), tenants.BAATerminated, reason, now); err != nil {
			return err
		}
		ev.Detail = map[string]string{"was": row.State, "reason": reason}
		return s.Gate.Decide(ctx, tx, org.ID)
	})
	if err != nil {
		return Agreement{}, err
	}
	return s.load(ctx, id)
}

// ExpireDue ends every agreement that is past its term, and returns how many this
// call ended. Several control planes may call it at once: each agreement is ended
// by one of them.
func (s *Service) ExpireDue(ctx context.Context) (int, error) {
	now, err := s.Clock(ctx, s.Pool)
	if err != nil {
		return 0, err
	}
	due, err := store.New(s.Pool).BAADue(ctx, &now)
	if err != nil {
		return 0, fmt.Errorf("listing agreements past their term: %w", err)
	}
	ended := 0
	var failed []error
	for _, d := range due {
		done, err := s.expire(ctx, d.ID)
		if err != nil {
			failed = append(failed, fmt.Errorf("expiring agreement %s: %w", d.ID, err))
		}
		if done {
			ended++
		}
	}
	return ended, errors.Join(failed...)
}

// errAlreadyEnded says that another instance was first: nothing to do, nothing to record.
var errAlreadyEnded = errors.New("already ended")

func (s *Service) expire(ctx context.Context, id tenants.ID) (bool, error) {
	ev := audit.Event{Action: "baa.expire", RecordType: "baa", RecordID: id.String()}
	err := acts.Do(ctx, s.Pool, acts.System, ev, func(tx pgx.Tx, ev *audit.Event) error {
		q := store.New(tx)
		org, row, err := lock(ctx, q, id)
		if err != nil {
			return err
		}
		now, err := s.Clock(ctx, tx)
		if err != nil {
			return err
		}
		if tenants.BAAState(row.State) != tenants.BAAExecuted || row.ExpiresAt == nil || now.Before(*row.ExpiresAt) {
			return errAlreadyEnded
		}
		ev.OrganizationID = org.ID
		if err := end(ctx, q, id, tenants.BAAExecuted, tenants.BAAExpired, "the term ended", now); err != nil {
			return err
		}
		return s.Gate.Decide(ctx, tx, org.ID)
	})
	if errors.Is(err, errAlreadyEnded) {
		return false, nil
	}
	return err == nil, err
}

// Sweep calls ExpireDue every interval until the context ends; report gets every error.
func (s *Service) Sweep(ctx context.Context, interval time.Duration, report func(error)) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if _, err := s.ExpireDue(ctx); err != nil && ctx.Err() == nil {
			report(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
