package access

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/tenants"
)

// opening is what begins a tenant's transaction: the signed context and, for a
// member's request, the version of the authorization that was decided by.
type opening struct {
	signed string
	seen   int64
	// alone opens a transaction of one statement that only reads: it has no BEGIN and
	// ends with its round trip.
	alone bool
}

// anyVersion begins a transaction that is no member's request: its session and
// authorization are not asked about.
const anyVersion = -1

// queue puts the opening at the front of a batch and returns how many statements
// it takes. What follows in the batch is not run when one of them fails.
func (o opening) queue(b *pgx.Batch) int {
	if o.alone && o.seen == anyVersion {
		b.Queue("SELECT set_config('caresphere.context', $1, true), set_config('transaction_read_only', 'on', true)", o.signed)
		return 1
	}
	if o.alone {
		// Read-only from here on, which nothing in the transaction can take back.
		b.Queue("SELECT set_config('caresphere.context', $1, true), cell.begin_request($2), set_config('transaction_read_only', 'on', true)", o.signed, o.seen)
		return 1
	}
	b.Queue("BEGIN")
	if o.seen == anyVersion {
		b.Queue("SELECT set_config('caresphere.context', $1, true)", o.signed)
		return 2
	}
	// One after the other, as they are written; the other way round the request would
	// find no context and fail.
	b.Queue("SELECT set_config('caresphere.context', $1, true), cell.begin_request($2)", o.signed, o.seen)
	return 2
}

// begin sends the opening alone.
func begin(ctx context.Context, conn *pgxpool.Conn, o opening) error {
	var b pgx.Batch
	o.queue(&b)
	_, err := runBatch(ctx, conn, &b, 0)
	return began(err)
}

// began reads how the beginning of a transaction ended.
func began(err error) error {
	switch {
	case err == nil:
		return nil
	case pg.IsCode(err, tenantdb.CodeSessionOver):
		return tenants.WrapError(tenants.KindUnauthenticated, "sign in again", err)
	case pg.IsCode(err, tenantdb.CodeNotActive):
		return tenants.WrapError(tenants.KindNotFound, "not found", err)
	case pg.IsCode(err, tenantdb.CodeStaleAuthz):
		return errStale
	}
	return fmt.Errorf("beginning a tenant's transaction: %w", err)
}

// ending is what ends a tenant's transaction: its audit entry and the commit.
type ending struct {
	// opening is sent along when nothing was sent yet.
	opening *opening
	target  Target
	outcome outcome
	// grouped commits without waiting for the disk: the answer must then wait for
	// flusher.wait.
	grouped bool
}

// commit sends the audit entry and COMMIT in one round trip: when the entry fails
// the server skips the COMMIT.
func (e ending) commit(ctx context.Context, conn *pgxpool.Conn, actor tenants.Actor) error {
	var b pgx.Batch
	first := 0
	if e.opening != nil {
		first = e.opening.queue(&b)
	}
	b.Queue(audit.InsertSQL(false), audit.InsertArgs(false, actor, e.target.event(e.outcome))...)
	if e.grouped {
		b.Queue("SET LOCAL synchronous_commit = off")
	}
	b.Queue("COMMIT")
	tag, err := runBatch(ctx, conn, &b, first)
	var o *openingError
	if errors.As(err, &o) {
		return began(o.err)
	}
	if err != nil {
		// Whatever it was, the action did not happen for lack of its entry.
		return unavailable(fmt.Errorf("committing with the audit entry: %w", err))
	}
	if tag != "COMMIT" {
		return unavailable(fmt.Errorf("the commit ended as %s", tag))
	}
	return nil
}

// openingError is a failure of a batch's opening.
type openingError struct{ err error }

// Error implements error.
func (e *openingError) Error() string { return e.err.Error() }

// Unwrap gives the cause.
func (e *openingError) Unwrap() error { return e.err }

// runBatch runs all statements in one round trip and returns the last one's tag. A
// failure among the first so many is an openingError.
func runBatch(ctx context.Context, conn *pgxpool.Conn, b *pgx.Batch, first int) (string, error) {
	res := conn.SendBatch(ctx, b)
	last := ""
	for i := range b.Len() {
		tag, err := res.Exec()
		if err != nil {
			_ = res.Close()
			if i < first {
				err = &openingError{err}
			}
			return "", err
		}
		last = tag.String()
	}
	return last, res.Close()
}

// rollbackOpen ends a transaction that was not committed, so that the connection
// can serve again. One that cannot be rolled back is closed by its release.
func rollbackOpen(ctx context.Context, conn *pgxpool.Conn) {
	if conn.Conn().IsClosed() || conn.Conn().PgConn().TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	_, _ = conn.Exec(ctx, "ROLLBACK")
}
