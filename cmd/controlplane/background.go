package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/caresphere/caresphere/controlplane/idempotency"
	"github.com/caresphere/caresphere/internal/mail"
	"github.com/caresphere/caresphere/internal/obs"
)

const (
	housekeepEvery = 10 * time.Minute
	reconcileEvery = 2 * time.Second
	expireEvery    = time.Second
)

// background runs what goes on beside requests, until the context ends.
func (p *plane) background(ctx context.Context) *sync.WaitGroup {
	var wg sync.WaitGroup
	report := func(what string) func(error) {
		return func(err error) {
			if ctx.Err() == nil {
				slog.ErrorContext(ctx, what+" failed", obs.Err(err))
			}
		}
	}
	if p.sender != nil {
		d := &mail.Delivery{Outbox: p.outbox, Sender: p.sender, Log: p.obs.Log}
		wg.Go(func() { d.Run(ctx) })
	}
	wg.Go(func() { p.feed.Run(ctx, report("publishing routes")) })
	wg.Go(func() { p.reconciler.Run(ctx, reconcileEvery, report("reconciling gates")) })
	wg.Go(func() { p.agreements.Sweep(ctx, expireEvery, report("expiring agreements")) })
	wg.Go(func() { p.housekeep(ctx, report("housekeeping")) })
	return &wg
}

// housekeep removes what no rule looks at any more, and the sign-ups that nobody confirmed.
func (p *plane) housekeep(ctx context.Context, report func(error)) {
	tick := time.NewTicker(housekeepEvery)
	defer tick.Stop()
	for {
		for _, purge := range []func(context.Context) error{
			p.counter.Purge, p.customers.gate.Purge, p.members.Lapse,
			func(ctx context.Context) error { return idempotency.Purge(ctx, p.pool) },
		} {
			if err := purge(ctx); err != nil {
				report(err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
