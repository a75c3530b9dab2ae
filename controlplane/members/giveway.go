package members

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/tenants"
)

// SignUpLifetime is how long a sign-up that nobody confirms keeps its address and its
// short name from others: as long as its letter says that the code is good.
const SignUpLifetime = InvitationLifetime

// lapseBatch is how many lapsed sign-ups are read at a time; see LapsedSignUps.
const lapseBatch = 200

// Why a sign-up ended or an account was withdrawn, in the audit trail.
const (
	signedUpAgain = "signed_up_again"
	enrolledAnew  = "address_enrolled_anew"
	neverProven   = "never_confirmed"
)

// Release closes the earlier sign-ups of an address that nobody confirmed, in the
// caller's transaction, and frees their short names: whoever signs up again may have
// the name that they asked for. It does the same, and an observer sees the same,
// whether or not the address has an account. Accounts give way in Enrol.
func (s *Service) Release(ctx context.Context, tx pgx.Tx, by tenants.Actor, email, fingerprint string) error {
	q := store.New(tx)
	if err := q.LockEmail(ctx, email); err != nil {
		return fmt.Errorf("locking an address: %w", err)
	}
	// The account before the organization, as whoever proves the address locks them.
	if _, err := q.LockAccountByEmail(ctx, email); err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("looking for an account: %w", err)
	}
	ended, err := q.ReleaseSignUps(ctx, store.ReleaseSignUpsParams{SignUpAddress: &fingerprint, StateReason: "the address signed up again"})
	if err != nil {
		return fmt.Errorf("releasing sign-ups: %w", err)
	}
	for _, id := range ended {
		if err := recordEnd(ctx, tx, by, "organization.sign_up_released", id, signedUpAgain); err != nil {
			return err
		}
	}
	return nil
}

// giveWay removes an account whose address nobody proved, so that another can have
// the address, and closes the sign-up that it was the owner of. Its identity goes
// with every code that was mailed for it: an older letter opens nothing.
func (s *Service) giveWay(ctx context.Context, tx pgx.Tx, by tenants.Actor, have store.LockAccountByEmailRow) error {
	n, err := store.New(tx).EndSignUp(ctx, store.EndSignUpParams{ID: have.OrganizationID, StateReason: "the address was enrolled elsewhere"})
	if err != nil {
		return fmt.Errorf("closing a sign-up: %w", err)
	}
	if n > 0 {
		if err := recordEnd(ctx, tx, by, "organization.sign_up_closed", have.OrganizationID, enrolledAnew); err != nil {
			return err
		}
	}
	return s.withdraw(ctx, tx, by, have, enrolledAnew)
}

// withdraw removes an account and its identity. Kratos is not part of the
// transaction: when that fails afterwards, the account stays without an identity,
// and gives way or lapses like before.
func (s *Service) withdraw(ctx context.Context, tx pgx.Tx, by tenants.Actor, have store.LockAccountByEmailRow, reason string) error {
	gone, err := store.New(tx).WithdrawAccount(ctx, have.IdentityID)
	if err != nil {
		return fmt.Errorf("withdrawing an account: %w", err)
	}
	if !gone {
		return errors.New("withdrawing an account: its address was proven")
	}
	err = audit.Insert(ctx, tx, by, audit.Event{Action: "account.withdrawn", RecordType: "account", RecordID: have.IdentityID.String(),
		OrganizationID: have.OrganizationID, Detail: map[string]string{"reason": reason}})
	if err != nil {
		return err
	}
	return s.ids.Remove(ctx, have.IdentityID)
}

func recordEnd(ctx context.Context, tx pgx.Tx, by tenants.Actor, action string, organization tenants.ID, reason string) error {
	return audit.Insert(ctx, tx, by, audit.Event{Action: action, RecordType: "organization", RecordID: organization.String(),
		OrganizationID: organization, Detail: map[string]string{"reason": reason}})
}

// Lapse closes the sign-ups that nobody confirmed in SignUpLifetime, withdraws their
// accounts and frees their short names, each in a transaction of its own. One that
// fails does not keep the others, and is tried again next time.
func (s *Service) Lapse(ctx context.Context) error {
	for {
		due, err := store.New(s.pool).LapsedSignUps(ctx, lapseBatch)
		if err != nil {
			return fmt.Errorf("looking for lapsed sign-ups: %w", err)
		}
		var failed []error
		for _, id := range due {
			if err := s.lapse(ctx, id); err != nil {
				failed = append(failed, err)
			}
			if ctx.Err() != nil {
				break
			}
		}
		if len(failed) > 0 || len(due) < lapseBatch {
			return errors.Join(failed...)
		}
	}
}

func (s *Service) lapse(ctx context.Context, organization tenants.ID) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	by := tenants.Actor{Kind: tenants.ActorSystem}
	return pg.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		q := store.New(tx)
		accounts, err := lockAccounts(ctx, q, organization)
		if err != nil {
			return err
		}
		n, err := q.LapseSignUp(ctx, store.LapseSignUpParams{ID: organization, StateReason: "nobody confirmed the sign-up"})
		if err != nil {
			return fmt.Errorf("closing a lapsed sign-up: %w", err)
		}
		if n == 0 {
			return nil // confirmed meanwhile, or done by another process
		}
		if err := recordEnd(ctx, tx, by, "organization.sign_up_lapsed", organization, neverProven); err != nil {
			return err
		}
		for _, have := range accounts {
			if err := s.withdraw(ctx, tx, by, have, neverProven); err != nil {
				return err
			}
		}
		return nil
	})
}

// lockAccounts returns the organization's accounts that give way, locked in the order
// in which enrolment locks them: the address, the account, then the organization.
func lockAccounts(ctx context.Context, q *store.Queries, organization tenants.ID) ([]store.LockAccountByEmailRow, error) {
	list, err := q.ListAccounts(ctx, organization)
	if err != nil {
		return nil, fmt.Errorf("listing accounts: %w", err)
	}
	var out []store.LockAccountByEmailRow
	for _, a := range list {
		if err := q.LockEmail(ctx, a.Email); err != nil {
			return nil, fmt.Errorf("locking an address: %w", err)
		}
		have, err := q.LockAccountByEmail(ctx, a.Email)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return nil, fmt.Errorf("locking an account: %w", err)
		}
		if err == nil && have.GivesWay && have.OrganizationID == organization {
			out = append(out, have)
		}
	}
	return out, nil
}
