package isolation

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/controlplane/jobs"
	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/tenants"
)

const (
	// askEvery is how often it is asked whether a scheduled proof is due.
	askEvery = 5 * time.Second
	// keepAllFor is how long every scheduled proof is kept; keepFor those that did not
	// go well, and the last of each day. A report of ten thousand tenants has ten
	// megabytes.
	keepAllFor, keepFor = 7 * 24 * time.Hour, 90 * 24 * time.Hour
	// purgeAtOnce is how many are removed when one is asked for.
	purgeAtOnce = 5
	// abandoned is why a run failed that was killed on its job's last try.
	abandoned = "its process ended, and its job was given up"
)

// Schedule asks for a proof of the whole cell whenever the last one is old enough,
// until the context ends. Several provisioners of a cell ask for one.
func (p *Prover) Schedule(ctx context.Context, queue Jobs) {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		if err := p.ask(ctx, queue); err != nil && ctx.Err() == nil {
			p.Log.WarnContext(ctx, "a scheduled proof was not asked for", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (p *Prover) ask(ctx context.Context, queue Jobs) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	asked := false
	err := p.inControl(ctx, func(tx pgx.Tx, q *store.Queries) error {
		// One asker at a time: the others then see what the first one asked for.
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('caresphere isolation schedule ' || $1, 0))`, p.CellID); err != nil {
			return fmt.Errorf("waiting for another asker: %w", err)
		}
		if err := p.giveUp(ctx, tx, q); err != nil {
			return err
		}
		id := tenants.NewID()
		n, err := q.IsolationSchedule(ctx, store.IsolationScheduleParams{ID: id, CellID: p.CellID, EverySeconds: p.Every.Seconds()})
		if err != nil || n == 0 {
			return wrap(err, "asking for a proof")
		}
		asked = true
		_, err = queue.InsertTx(ctx, tx, jobs.Isolation{RunID: id, Cell: p.CellID}, nil)
		return wrap(err, "asking for a proof")
	})
	if err != nil || !asked {
		return err
	}
	// By itself: that old proofs cannot be removed keeps no new one from being asked for.
	return p.inControl(ctx, func(_ pgx.Tx, q *store.Queries) error {
		_, err := q.IsolationPurge(ctx, store.IsolationPurgeParams{OlderSeconds: keepFor.Seconds(), ThinSeconds: keepAllFor.Seconds(), Count: purgeAtOnce})
		return wrap(err, "removing old proofs")
	})
}

// giveUp fails the cell's runs whose job is over: a process that is killed on the last
// try records nothing, and a run that goes on for ever keeps the next from being due.
func (p *Prover) giveUp(ctx context.Context, tx pgx.Tx, q *store.Queries) error {
	over, err := q.IsolationAbandoned(ctx, store.IsolationAbandonedParams{Reason: abandoned, CellID: p.CellID})
	if err != nil {
		return fmt.Errorf("looking for runs without a job: %w", err)
	}
	for _, run := range over {
		ev := audit.Event{Action: "isolation." + run.Kind, RecordType: "isolation_run", RecordID: run.ID.String(), Outcome: audit.OutcomeFailed,
			Detail: map[string]string{"cell": p.CellID, "asked_by": run.AskedBy, "reason": abandoned}}
		if run.OrganizationID != nil {
			ev.OrganizationID = *run.OrganizationID
		} else if err := p.dropParts(ctx, q, run.ID); err != nil {
			return err
		}
		if err := audit.Insert(ctx, tx, tenants.Actor{Kind: tenants.ActorSystem}, ev); err != nil {
			return err
		}
		p.Log.ErrorContext(ctx, "a run of isolation was given up", "run", run.ID.String(), "kind", run.Kind)
	}
	if len(over) == 0 {
		return nil
	}
	return audit.Notify(ctx, tx, audit.ControlLog())
}
