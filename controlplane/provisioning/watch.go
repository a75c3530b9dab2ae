package provisioning

import (
	"context"
	"errors"
	"time"

	"github.com/caresphere/caresphere/controlplane/store"
)

const (
	watchEvery = time.Second
	// gatePatience is how long a decision may wait for its job.
	gatePatience = 2 * time.Second
	// heartbeatName is this process's row in the heartbeat table.
	heartbeatName = "provisioner"
)

// Watch repairs what a killed process left, until the context ends: it asks again
// for organizations that are being provisioned by nobody and for rotations that nobody
// takes on, applies gates whose job is lost or slow, asks for the rotation of old
// keys and for the renewal of credentials, and notes that this process is alive. All of
// its own cell: what another's provisioner left is for the next one there.
func (p *Provisioner) Watch(ctx context.Context, queue inserts) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	var asked, renewed time.Time
	for {
		wctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		if err := p.watchOnce(wctx, queue); err != nil && ctx.Err() == nil {
			p.Log.WarnContext(ctx, "the provisioner's watch failed", "error", err)
		}
		if now := time.Now(); now.Sub(asked) > rotateAskEvery {
			asked = now
			if _, err := p.RaiseForgotten(wctx); err != nil && ctx.Err() == nil {
				p.Log.WarnContext(ctx, "the cell's gates were not compared", "error", err)
			}
			if _, err := p.AskDueRotations(wctx); err != nil && ctx.Err() == nil {
				p.Log.WarnContext(ctx, "scheduled rotations were not asked for", "error", err)
			}
		}
		renewed = p.askRenewal(wctx, queue, renewed)
		cancel()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (p *Provisioner) watchOnce(ctx context.Context, queue inserts) error {
	pending, err := p.q.GatesPending(ctx, store.GatesPendingParams{CellID: &p.CellID, Seconds: gatePatience.Seconds()})
	if err != nil {
		return wrap(err, "listing gates that wait")
	}
	for _, g := range pending {
		if err := p.ApplyGate(ctx, g.ID); err != nil {
			p.Log.ErrorContext(ctx, "a gate was not applied; it is tried again", "tenant", g.ID.String(), "error", err)
		}
	}
	if err := p.resumeProvisioning(ctx, queue); err != nil {
		return err
	}
	// A rotation is in no hurry: what ails one does not make this process look dead.
	return errors.Join(p.resumeRotations(ctx, queue),
		wrap(p.q.HeartbeatSet(ctx, store.HeartbeatSetParams{Name: heartbeatName, Detail: p.Holder}), "noting the heartbeat"))
}

// Ready returns an error unless both databases answer; for readiness.
func (p *Provisioner) Ready(ctx context.Context) error {
	var x int
	if err := p.Control.QueryRow(ctx, `SELECT 1`).Scan(&x); err != nil {
		return wrap(err, "asking the control database")
	}
	return wrap(p.Cell.QueryRow(ctx, `SELECT 1`).Scan(&x), "asking the cell's database")
}
