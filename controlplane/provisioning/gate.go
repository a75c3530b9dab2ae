package provisioning

import (
	"context"
	"errors"
	"fmt"

	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/kms/driver"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/tenants"

	"github.com/jackc/pgx/v5"
)

// ApplyGate carries the newest decision about the organization's gate to where it
// holds: its login role, its sessions, its key. Closed: the role cannot log in,
// its sessions end, the key refuses. It may run at any time, any number of times
// and in several processes: the cell keeps the highest version that was applied.
func (p *Provisioner) ApplyGate(ctx context.Context, organization tenants.ID) error {
	for {
		d, err := p.q.GateDecision(ctx, organization)
		if errors.Is(err, pgx.ErrNoRows) {
			return final("there is no such organization")
		}
		if err != nil {
			return fmt.Errorf("reading the gate: %w", err)
		}
		if d.CellID != nil && *d.CellID != p.CellID {
			return nil
		}
		open := tenants.GateMode(d.GateMode) != tenants.GateClosed
		if err := p.apply(ctx, organization, d.GateVersion, open); err != nil {
			return err
		}
		if err := p.q.GateApplied(ctx, store.GateAppliedParams{ID: organization, Version: d.GateVersion}); err != nil {
			return fmt.Errorf("recording the gate: %w", err)
		}
		// A decision that fell meanwhile may have been applied by another process
		// before the last of our effects.
		again, err := p.q.GateDecision(ctx, organization)
		if err != nil {
			return fmt.Errorf("reading the gate: %w", err)
		}
		if again.GateVersion == d.GateVersion {
			return nil
		}
	}
}

// apply makes one version of the decision hold. Closing begins with what stops
// requests, opening ends with what lets them in.
func (p *Provisioner) apply(ctx context.Context, organization tenants.ID, version int64, open bool) error {
	key := driver.KeyName(organization)
	if open {
		if err := p.Keys.Enable(ctx, key); err != nil {
			return fmt.Errorf("enabling the key: %w", err)
		}
		return p.switchRole(ctx, organization, version, true)
	}
	// Whatever one of these cannot do, the others still do: a role that somebody gave
	// attributes above ours may not be switched by us, and its key must refuse all the same.
	failed := []error{p.switchRole(ctx, organization, version, false), p.endSessions(ctx, tenants.RoleName(organization))}
	// An organization without a key yet has nothing to disable.
	if err := p.Keys.Disable(ctx, key); err != nil && !errors.Is(err, driver.ErrKeyGone) {
		failed = append(failed, fmt.Errorf("disabling the key: %w", err))
	}
	return errors.Join(failed...)
}

// switchRole lets the role log in or not, and tells the workers. A newer decision
// that was applied already stays.
func (p *Provisioner) switchRole(ctx context.Context, organization tenants.ID, version int64, open bool) error {
	role := tenants.RoleName(organization)
	var refused error
	err := pg.InTx(ctx, p.Cell, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
			INSERT INTO cell.tenant_fence AS f (tenant_id, gate_version, gate_open) VALUES ($1, $2, $3)
			ON CONFLICT ON CONSTRAINT tenant_fence_pk
			DO UPDATE SET gate_version = excluded.gate_version, gate_open = excluded.gate_open
			WHERE f.gate_version <= excluded.gate_version`, organization, version, open)
		if err != nil {
			return fmt.Errorf("recording the gate in the cell: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return nil
		}
		var there bool
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)`, role).Scan(&there); err != nil {
			return fmt.Errorf("looking for the login role: %w", err)
		}
		if there {
			login := " NOLOGIN"
			if open {
				login = " LOGIN"
			}
			if refused, err = p.alterRole(ctx, tx, "ALTER ROLE "+quote(role)+login); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, `SELECT pg_notify($1, $2)`, tenantdb.GateChannel, tenantdb.HintTag(tenantdb.GateChannel, organization))
		return wrap(err, "telling the workers")
	})
	return errors.Join(err, refused)
}

// alterRole tells a refusal apart: the workers are told of the gate also when the
// role is out of our reach.
func (p *Provisioner) alterRole(ctx context.Context, tx pgx.Tx, sql string) (refused, err error) {
	err = pgx.BeginFunc(ctx, tx, func(nested pgx.Tx) error {
		_, err := nested.Exec(ctx, sql)
		return err
	})
	if pg.IsCode(err, "42501") {
		return fmt.Errorf("switching the login role: %w", err), nil
	}
	return nil, wrap(err, "switching the login role")
}

// endSessions ends every session of the role, and looks again: one that was
// logging in when the role was switched may appear after the first look.
func (p *Provisioner) endSessions(ctx context.Context, role string) error {
	for range 20 {
		var ended int
		if err := p.Cell.QueryRow(ctx, `
			SELECT count(*) FROM (SELECT pg_terminate_backend(pid, 500) FROM pg_stat_activity WHERE usename = $1) ended`, role).
			Scan(&ended); err != nil {
			return fmt.Errorf("ending the role's sessions: %w", err)
		}
		if ended == 0 {
			return nil
		}
	}
	return because("sessions of the organization do not end", nil)
}
