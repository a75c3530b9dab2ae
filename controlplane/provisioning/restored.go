package provisioning

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/tenants"

	"github.com/jackc/pgx/v5"
)

// raise gives the organization's decision a version above the one that the cell has, if
// the control database does not know that one: a backup of it was restored. Then the
// decision counts again as not applied. What was closed since is not opened by that, for
// an agreement may have ended: it is an error until somebody has suspended the
// organization, which raises the version, and resumed it.
func (p *Provisioner) raise(ctx context.Context, organization tenants.ID, cell int64) error {
	known := cell
	err := pg.InTx(ctx, p.Control, func(tx pgx.Tx) error {
		q := p.q.WithTx(tx)
		d, err := q.GateDecision(ctx, organization)
		if err != nil {
			return fmt.Errorf("reading the gate: %w", err)
		}
		if d.GateVersion >= cell {
			// It was decided meanwhile: the cell is not ahead.
			return nil
		}
		if tenants.GateMode(d.GateMode) != tenants.GateClosed {
			var open bool
			if err := p.Cell.QueryRow(ctx, `SELECT gate_open FROM cell.tenant_fence WHERE tenant_id = $1`, organization).Scan(&open); err != nil {
				return fmt.Errorf("reading the cell's gate: %w", err)
			}
			if !open {
				p.Log.ErrorContext(ctx, "THE CELL IS AHEAD OF THE CONTROL DATABASE, as after a restore, and closed: it stays so until the organization is suspended and resumed",
					"tenant", organization.String(), "cell_version", cell, "control_version", d.GateVersion)
				return because("the cell was closed by a decision that the control database does not know; suspend and resume the organization if it may be served", nil)
			}
		}
		n, err := q.GateRaise(ctx, store.GateRaiseParams{ID: organization, Version: cell + 1})
		if err != nil {
			return fmt.Errorf("raising the gate's version: %w", err)
		}
		if n == 0 {
			return nil
		}
		known = d.GateVersion
		if err := audit.Insert(ctx, tx, system(), audit.Event{Action: "gate.raise", RecordType: "organization", RecordID: organization.String(),
			OrganizationID: organization, Detail: map[string]string{"from": strconv.FormatInt(d.GateVersion, 10), "version": strconv.FormatInt(cell+1, 10)}}); err != nil {
			return err
		}
		return audit.Notify(ctx, tx, audit.ControlLog())
	})
	if err == nil && known < cell {
		p.Log.ErrorContext(ctx, "THE CELL IS AHEAD OF THE CONTROL DATABASE, as after a restore: its gate is applied anew",
			"tenant", organization.String(), "cell_version", cell, "control_version", known)
	}
	return err
}

// RaiseForgotten finds the organizations of this cell whose gate the control database
// knows by a lower version than the cell does, and has their decisions applied anew;
// it returns how many. Nothing else would: to a restored database they look applied.
func (p *Provisioner) RaiseForgotten(ctx context.Context) (int, error) {
	// The cell first: a version that it has was in the control database before.
	rows, err := p.Cell.Query(ctx, `SELECT tenant_id, gate_version FROM cell.tenant_fence`)
	if err != nil {
		return 0, fmt.Errorf("reading the cell's gates: %w", err)
	}
	there := map[tenants.ID]int64{}
	var (
		id      tenants.ID
		version int64
	)
	if _, err := pgx.ForEachRow(rows, []any{&id, &version}, func() error { there[id] = version; return nil }); err != nil {
		return 0, fmt.Errorf("reading the cell's gates: %w", err)
	}
	known, err := p.q.GateVersions(ctx, &p.CellID)
	if err != nil {
		return 0, fmt.Errorf("reading the gates: %w", err)
	}
	var (
		failed []error
		raised int
	)
	for _, o := range known {
		if there[o.ID] <= o.GateVersion {
			continue
		}
		if err := p.raise(ctx, o.ID, there[o.ID]); err != nil {
			failed = append(failed, fmt.Errorf("organization %s: %w", o.ID, err))
			continue
		}
		raised++
	}
	return raised, errors.Join(failed...)
}
