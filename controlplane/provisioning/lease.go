package provisioning

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/tenants"

	"github.com/jackc/pgx/v5"
)

// DefaultLeaseLife is how long a process that was killed keeps others waiting; a
// living one keeps its lease three times within it.
const DefaultLeaseLife = 12 * time.Second

// seenTime bounds the look at the cell's fence.
const seenTime = 5 * time.Second

// lease is the right to provision one organization. Its fence is higher than that
// of every lease before it.
type lease struct {
	p            *Provisioner
	organization tenants.ID
	fence        int64
}

// take returns the lease and a context that ends when it is lost. ErrBusy if
// another process holds it. The caller drops it.
func (p *Provisioner) take(ctx context.Context, organization tenants.ID) (context.Context, *lease, func(), error) {
	fence, err := p.q.LeaseTake(ctx, store.LeaseTakeParams{
		OrganizationID: organization, Holder: p.Holder, Seconds: p.LeaseLife.Seconds(), Seen: p.seen(ctx, organization)})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil, nil, ErrBusy
	}
	if err != nil {
		return nil, nil, nil, fmt.Errorf("taking the provisioning lease: %w", err)
	}
	l := &lease{p: p, organization: organization, fence: fence}
	held, lose := context.WithCancelCause(ctx)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		l.keep(held, lose)
	}()
	drop := func() {
		lose(nil)
		<-stopped
		dctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if _, err := p.q.LeaseDrop(dctx, store.LeaseDropParams{OrganizationID: organization, Fence: fence}); err != nil {
			p.Log.WarnContext(ctx, "a provisioning lease was left to expire", "tenant", organization.String(), "error", err)
		}
	}
	return held, l, drop, nil
}

// seen is the highest fence that the cell has seen for the organization: above the
// lease's where the control database was restored from a backup. Of a cell that does not
// answer it is 0; the steps then say so, and the cell's fence holds all the same.
func (p *Provisioner) seen(ctx context.Context, organization tenants.ID) (fence int64) {
	ctx, cancel := context.WithTimeout(ctx, seenTime)
	defer cancel()
	err := p.Cell.QueryRow(ctx, `SELECT fence FROM cell.tenant_fence WHERE tenant_id = $1`, organization).Scan(&fence)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		p.Log.WarnContext(ctx, "the cell's fence could not be read", "tenant", organization.String(), "error", err)
	}
	return fence
}

// keep prolongs the lease until its context ends, and ends that context when
// somebody else has it or it could not be prolonged in time.
func (l *lease) keep(ctx context.Context, lose context.CancelCauseFunc) {
	tick := time.NewTicker(l.p.LeaseLife / 3)
	defer tick.Stop()
	kept := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		kctx, cancel := context.WithTimeout(ctx, l.p.LeaseLife/3)
		n, err := l.p.q.LeaseKeep(kctx, store.LeaseKeepParams{
			OrganizationID: l.organization, Fence: l.fence, Seconds: l.p.LeaseLife.Seconds()})
		cancel()
		switch {
		case err == nil && n == 1:
			kept = time.Now()
		case err == nil, time.Since(kept) > l.p.LeaseLife:
			lose(ErrFenced)
			return
		}
	}
}

// control runs fn in a transaction of the control database that commits only
// while the lease is ours: the next taker waits for it, and after a taker it is
// ErrFenced and nothing is written.
func (l *lease) control(ctx context.Context, fn func(pgx.Tx, *store.Queries) error) error {
	return pg.InTx(ctx, l.p.Control, func(tx pgx.Tx) error {
		q := l.p.q.WithTx(tx)
		_, err := q.LeaseLock(ctx, store.LeaseLockParams{OrganizationID: l.organization, Fence: l.fence})
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrFenced
		}
		if err != nil {
			return fmt.Errorf("checking the provisioning lease: %w", err)
		}
		return fn(tx, q)
	})
}

// cell runs fn in a transaction of the cell's database, as its owner, under the
// same condition: the cell remembers the highest fence that it has seen.
func (l *lease) cell(ctx context.Context, fn func(pgx.Tx) error) error {
	return pg.InTx(ctx, l.p.Cell, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
			INSERT INTO cell.tenant_fence AS f (tenant_id, fence) VALUES ($1, $2)
			ON CONFLICT ON CONSTRAINT tenant_fence_pk DO UPDATE SET fence = excluded.fence WHERE f.fence <= excluded.fence`,
			l.organization, l.fence)
		if err != nil {
			return fmt.Errorf("checking the cell's fence: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return ErrFenced
		}
		return fn(tx)
	})
}
