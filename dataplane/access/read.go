package access

import (
	"context"
	"fmt"

	"github.com/caresphere/caresphere/dataplane/store"
	"github.com/caresphere/caresphere/tenants"
)

// read is an attempt of one reading statement, among others of the tenant: one round trip to the database, and
// the entry in one commit with others'.
//
// The statement travels with its opening as a transaction of its own, which nothing can
// write in once it was opened. What it read is shown only after its entry is durable.
// The context names the entry, and so does the mark in the server's log: a read whose
// entry was not written shows there.
func (d *Door) read(ctx context.Context, actor tenants.Actor, target *Target, fn func(context.Context, *Tx) error) error {
	target.entry = tenants.NewID()
	if err := d.readOne(ctx, actor, target, fn); err != nil {
		return err
	}
	if err := d.record(ctx, actor, *target, outcomeOK); err != nil {
		// It may be there or not: the refusal's own entry needs another name.
		target.insteadOf, target.entry = target.entry, tenants.NilID
		if tenants.IsKind(err, tenants.KindGateClosed) {
			return err
		}
		return unavailable(fmt.Errorf("writing the entry of a read: %w", err))
	}
	return nil
}

// readOne runs fn with the one statement that it may run.
func (d *Door) readOne(ctx context.Context, actor tenants.Actor, target *Target, fn func(context.Context, *Tx) error) error {
	conn, tp, release, err := d.pools.acquire(ctx, actor.TenantID)
	if err != nil {
		return err
	}
	defer release()
	defer rollbackOpen(ctx, conn)
	tp.entries.coming.Add(1)
	defer tp.entries.coming.Add(-1)
	g := &guard{conn: conn.Conn(), opening: opening{signed: tp.login.read(conn, actor, target.entry), seen: actor.AuthzVersion, alone: true}, single: true}
	defer g.close()
	err = fn(ctx, &Tx{Queries: store.New(g), Actor: actor, target: target, cipher: d.cipher})
	g.close()
	if g.refused != nil {
		// Whatever fn made of it.
		return g.refused
	}
	if !g.begun {
		// It ran nothing: the session is asked about all the same, and first.
		if over := begin(ctx, conn, g.opening); over != nil {
			return over
		}
	}
	return err
}
