package provisioning

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/caresphere/caresphere/controlplane/jobs"
	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/kms/driver"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/tenants"

	"github.com/jackc/pgx/v5"
)

// keyTime bounds one call that switches a key; fenceTime is how long the server lets a
// process that was stopped in between keep the fence.
const (
	keyTime   = 4 * time.Second
	fenceTime = 6 * time.Second
)

// newerThere means that the cell has a decision of that version, above the one at hand.
type newerThere int64

// Error implements error.
func (v newerThere) Error() string {
	return fmt.Sprintf("provisioning: the cell has version %d of the gate's decision", int64(v))
}

// ApplyGate carries the newest decision about the organization's gate to where it
// holds: its login role, its sessions, its key. Closed: the role cannot log in,
// its sessions end, the key refuses. It may run at any time, any number of times
// and in several processes: the cell keeps the highest version that was applied. A
// decision below that one was forgotten by the control database, which then was
// restored: it gets a version above the cell's, and holds. One of another cell's
// organization is handed over.
func (p *Provisioner) ApplyGate(ctx context.Context, organization tenants.ID) error {
	for {
		d, err := p.decision(ctx, organization)
		if err != nil {
			return err
		}
		if cell, other := p.elsewhere(d.CellID); other {
			return p.handOver(ctx, jobs.ApplyGate{OrganizationID: organization, Version: d.GateVersion}, jobs.QueueGate(cell))
		}
		open := tenants.GateMode(d.GateMode) != tenants.GateClosed
		err = p.apply(ctx, organization, d.GateVersion, open)
		var ahead newerThere
		if errors.As(err, &ahead) {
			if err := p.raise(ctx, organization, int64(ahead)); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if err := p.q.GateApplied(ctx, store.GateAppliedParams{ID: organization, Version: d.GateVersion}); err != nil {
			return fmt.Errorf("recording the gate: %w", err)
		}
		// A decision that fell meanwhile has its own job, which may be lost.
		again, err := p.decision(ctx, organization)
		if err != nil {
			return err
		}
		if again.GateVersion == d.GateVersion {
			return nil
		}
	}
}

func (p *Provisioner) decision(ctx context.Context, organization tenants.ID) (store.GateDecisionRow, error) {
	d, err := p.q.GateDecision(ctx, organization)
	if errors.Is(err, pgx.ErrNoRows) {
		return d, final("there is no such organization")
	}
	return d, wrap(err, "reading the gate")
}

// apply makes one version of the decision hold. Closing begins with what stops
// requests, opening ends with what lets them in. The key is switched under the cell's
// fence, like the role: whoever comes with an older decision, however late, does not
// reach it, and whoever comes with a newer one waits. The error is newerThere if the
// cell has a newer decision.
func (p *Provisioner) apply(ctx context.Context, organization tenants.ID, version int64, open bool) error {
	var refused error
	role := func(tx pgx.Tx) (err error) {
		refused, err = p.switchRole(ctx, tx, organization, open)
		return err
	}
	if open {
		err := p.fenced(ctx, organization, version, true, func(tx pgx.Tx) error {
			if err := p.switchKey(ctx, organization, true); err != nil {
				return err
			}
			return role(tx)
		})
		return errors.Join(err, refused)
	}
	err := p.fenced(ctx, organization, version, false, role)
	var newer newerThere
	if errors.As(err, &newer) {
		return err
	}
	// Whatever one of these cannot do, the others still do: a role that somebody gave
	// attributes above ours may not be switched by us, and its key must refuse all the same.
	failed := []error{err, refused, p.endSessions(ctx, tenants.RoleName(organization))}
	if err != nil {
		// Without the fence, for a cell that does not answer must not keep a key alive. It
		// is an error, so the newest decision is applied again.
		return errors.Join(append(failed, p.switchKey(ctx, organization, false))...)
	}
	err = p.fenced(ctx, organization, version, false, func(pgx.Tx) error { return p.switchKey(ctx, organization, false) })
	if errors.As(err, &newer) {
		return err
	}
	return errors.Join(append(failed, err)...)
}

// fenced runs fn in a transaction that holds the organization's fence in the cell and
// records the decision there, unless the cell has a newer one: newerThere.
func (p *Provisioner) fenced(ctx context.Context, organization tenants.ID, version int64, open bool, fn func(pgx.Tx) error) error {
	return pg.InTx(ctx, p.Cell, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT set_config('idle_in_transaction_session_timeout', $1, true)`,
			strconv.FormatInt(fenceTime.Milliseconds(), 10)); err != nil {
			return fmt.Errorf("bounding the hold of the fence: %w", err)
		}
		tag, err := tx.Exec(ctx, `
			INSERT INTO cell.tenant_fence AS f (tenant_id, gate_version, gate_open) VALUES ($1, $2, $3)
			ON CONFLICT ON CONSTRAINT tenant_fence_pk
			DO UPDATE SET gate_version = excluded.gate_version, gate_open = excluded.gate_open
			WHERE f.gate_version <= excluded.gate_version`, organization, version, open)
		if err != nil {
			return fmt.Errorf("recording the gate in the cell: %w", err)
		}
		if tag.RowsAffected() == 0 {
			var newer newerThere
			if err := tx.QueryRow(ctx, `SELECT gate_version FROM cell.tenant_fence WHERE tenant_id = $1`, organization).Scan(&newer); err != nil {
				return fmt.Errorf("reading the cell's gate: %w", err)
			}
			return newer
		}
		return fn(tx)
	})
}

// switchKey lets the key serve or refuse. An organization without a key yet has
// nothing to disable.
func (p *Provisioner) switchKey(ctx context.Context, organization tenants.ID, open bool) error {
	ctx, cancel := context.WithTimeout(ctx, keyTime)
	defer cancel()
	key := driver.KeyName(organization)
	if open {
		return wrap(p.Keys.Enable(ctx, key), "enabling the key")
	}
	if err := p.Keys.Disable(ctx, key); err != nil && !errors.Is(err, driver.ErrKeyGone) {
		return fmt.Errorf("disabling the key: %w", err)
	}
	return nil
}

// switchRole lets the role log in or not, and tells the workers. refused is what the
// database's rights forbid: the workers are told of the gate all the same.
func (p *Provisioner) switchRole(ctx context.Context, tx pgx.Tx, organization tenants.ID, open bool) (refused, err error) {
	role := tenants.RoleName(organization)
	var there bool
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)`, role).Scan(&there); err != nil {
		return nil, fmt.Errorf("looking for the login role: %w", err)
	}
	if there {
		login := " NOLOGIN"
		if open {
			login = " LOGIN"
		}
		if refused, err = p.alterRole(ctx, tx, "ALTER ROLE "+quote(role)+login); err != nil {
			return nil, err
		}
	}
	_, err = tx.Exec(ctx, `SELECT pg_notify($1, $2)`, tenantdb.GateChannel, tenantdb.HintTag(tenantdb.GateChannel, organization))
	return refused, wrap(err, "telling the workers")
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
