package access

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/tenants"
)

// TrailReader reads an actor's trail in short transactions, after the entry that
// says so was committed.
type TrailReader struct {
	door  *Door
	actor tenants.Actor
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
	return &TrailReader{door: d, actor: actor}, nil
}

// Read runs fn in a read-only transaction in the actor's context. The session and
// the authorization are checked each time: an export ends with them.
func (r *TrailReader) Read(ctx context.Context, fn func(pgx.Tx) error) error {
	conn, tp, release, err := r.door.pools.acquire(ctx, r.actor.TenantID)
	if err != nil {
		return err
	}
	defer release()
	defer rollbackOpen(ctx, conn)
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{})
	if err != nil {
		return classify(fmt.Errorf("beginning to read the trail: %w", err))
	}
	var b pgx.Batch
	b.Queue("SELECT set_config('caresphere.context', $1, true)", tp.login.member(conn, r.actor))
	b.Queue("SELECT cell.begin_request($1)", r.actor.AuthzVersion)
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
