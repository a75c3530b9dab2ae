package access

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/tenants"
)

// TrailReader reads an actor's trail in short transactions, after the entry that
// says so was committed. It is for one goroutine.
type TrailReader struct {
	door   *Door
	actor  tenants.Actor
	perm   tenants.Permission
	target Target
}

// ReadTrail decides whether the actor may read the trail or take it away, commits
// the entry that they did, and returns the reader. Errors are Do's.
func (d *Door) ReadTrail(ctx context.Context, actor tenants.Actor, perm tenants.Permission, target Target) (*TrailReader, error) {
	err := d.Do(ctx, actor, perm, target, func(_ context.Context, tx *Tx) error {
		actor = tx.Actor
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &TrailReader{door: d, actor: actor, perm: perm, target: target}, nil
}

// Read runs fn in a read-only transaction in the actor's context. The session and
// the authorization are checked each time: an export ends with them. One that changed
// is read and decided again before fn runs: KindForbidden if it allows this no more.
func (r *TrailReader) Read(ctx context.Context, fn func(pgx.Tx) error) error {
	err := r.read(ctx, fn)
	for range renewals {
		if !errors.Is(err, errStale) {
			return err
		}
		if r.actor, err = r.door.renew(ctx, r.actor); err != nil {
			return err
		}
		if err = r.door.decide(r.actor, r.perm, r.target, true); err != nil {
			return err
		}
		err = r.read(ctx, fn)
	}
	if errors.Is(err, errStale) {
		return unavailable(err)
	}
	return err
}

func (r *TrailReader) read(ctx context.Context, fn func(pgx.Tx) error) error {
	conn, tp, release, err := r.door.pools.acquire(ctx, r.actor.TenantID)
	if err != nil {
		return err
	}
	defer release()
	defer rollbackOpen(ctx, conn)
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite})
	if err != nil {
		return classify(fmt.Errorf("beginning to read the trail: %w", err))
	}
	var b pgx.Batch
	opening{signed: tp.login.member(conn, r.actor), seen: r.actor.AuthzVersion}.queueInside(&b, statementsOf(conn.Conn()).named)
	// What comes after is read-only; the check above may note the session's use.
	b.Queue("SET TRANSACTION READ ONLY")
	if _, err := runBatch(ctx, conn, &b, 0); err != nil {
		return classify(began(err))
	}
	if err := fn(tx); err != nil {
		return classify(err)
	}
	return classify(tx.Commit(ctx))
}
