package access

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
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

// asStarted gives a session the settings back that it began with, the pinned ones among
// them: SQL that slipped into a request before may have set others, for the session.
const asStarted = "RESET ALL"

// queue puts the opening at the front of a batch and returns how many statements
// it takes. What follows in the batch is not run when one of them fails. known is how
// many statements have names on the connection.
func (o opening) queue(b *pgx.Batch, known int) int {
	if !o.alone {
		// Said here, for a transaction takes these from the session before it can reset them.
		b.Queue("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
	}
	o.queueInside(b, known)
	return b.Len()
}

// queueInside is queue for a transaction that was begun already.
//
// The settings and the session's statements are looked at by statements that have no
// names themselves. A target list is worked off as it is written; the other way round
// a request would find no context and fail.
func (o opening) queueInside(b *pgx.Batch, known int) {
	b.Queue(asStarted)
	switch {
	case o.alone && o.seen == anyVersion:
		b.Queue("SELECT cell.own_statements($2), set_config('caresphere.context', $1, true), set_config('transaction_read_only', 'on', true)", o.signed, known)
	case o.alone:
		// Read-only from here on, which nothing in the transaction can take back.
		b.Queue("SELECT cell.own_statements($3), set_config('caresphere.context', $1, true), cell.begin_request($2), set_config('transaction_read_only', 'on', true)", o.signed, o.seen, known)
	case o.seen == anyVersion:
		b.Queue("SELECT cell.own_statements($2), set_config('caresphere.context', $1, true)", o.signed, known)
	default:
		b.Queue("SELECT cell.own_statements($3), set_config('caresphere.context', $1, true), cell.begin_request($2)", o.signed, o.seen, known)
	}
}

// begin sends the opening alone.
func begin(ctx context.Context, conn *pgxpool.Conn, o opening) error {
	named := statementsOf(conn.Conn())
	if err := named.ready(ctx, conn.Conn()); err != nil {
		return err
	}
	var b pgx.Batch
	o.queue(&b, named.named)
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
	case pg.IsCode(err, tenantdb.CodeForeignStatement):
		return foreign(err)
	}
	return fmt.Errorf("beginning a tenant's transaction: %w", err)
}

// ending is what ends a tenant's transaction: its audit entry and the commit.
type ending struct {
	// opening is sent along when nothing was sent yet.
	opening *opening
	// signed is the context that the entry is written in.
	signed  string
	target  Target
	outcome outcome
	// grouped commits without waiting for the disk: the answer must then wait for
	// flusher.wait.
	grouped bool
}

// commit sends the audit entry and COMMIT in one round trip: when the entry fails
// the server skips the COMMIT. Settings, context and statements are ours before it: SQL
// that slipped into the request may have changed any, and the entry tells of whoever made
// the request and is written where it belongs.
func (e ending) commit(ctx context.Context, conn *pgxpool.Conn, actor tenants.Actor) error {
	var b pgx.Batch
	first, insert, named := 0, audit.InsertSQL(false), statementsOf(conn.Conn())
	named.use(insert)
	if e.opening != nil {
		if err := named.ready(ctx, conn.Conn()); err != nil {
			return err
		}
		first = e.opening.queue(&b, named.named)
	} else {
		synced := "on"
		if e.grouped {
			synced = "off"
		}
		b.Queue(asStarted)
		b.Queue("SELECT cell.own_statements($3), set_config('caresphere.context', $1, true), set_config('synchronous_commit', $2, true)", e.signed, synced, named.named)
	}
	entry := b.Len()
	b.Queue(insert, audit.InsertArgs(false, actor, e.target.event(e.outcome))...)
	b.Queue("COMMIT")
	tags, err := runBatch(ctx, conn, &b, first)
	var o *openingError
	if errors.As(err, &o) {
		return began(o.err)
	}
	if err != nil {
		// Whatever it was, the action did not happen for lack of its entry.
		return unavailable(fmt.Errorf("committing with the audit entry: %w", err))
	}
	if wrote, ended := tags[entry].String(), tags[entry+1].String(); wrote != "INSERT 0 1" || ended != "COMMIT" {
		return unavailable(fmt.Errorf("the entry ended as %s, the commit as %s", wrote, ended))
	}
	return nil
}

// openingError is a failure of a batch's opening.
type openingError struct{ err error }

// Error implements error.
func (e *openingError) Error() string { return e.err.Error() }

// Unwrap gives the cause.
func (e *openingError) Unwrap() error { return e.err }

// runBatch runs all statements in one round trip and returns their tags. A failure
// among the first so many is an openingError.
func runBatch(ctx context.Context, conn *pgxpool.Conn, b *pgx.Batch, first int) ([]pgconn.CommandTag, error) {
	res := conn.SendBatch(ctx, b)
	tags := make([]pgconn.CommandTag, b.Len())
	for i := range tags {
		tag, err := res.Exec()
		if err != nil {
			_ = res.Close()
			if i < first {
				err = &openingError{err}
			}
			return nil, err
		}
		tags[i] = tag
	}
	return tags, res.Close()
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
