package access

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/caresphere/caresphere/tenants"
)

// guard lets statements through while the door's function runs, and none after:
// by then the connection may serve another request. The first statement takes the
// transaction's opening with it, in one round trip.
type guard struct {
	conn    *pgx.Conn
	opening opening
	closed  atomic.Bool
	// single lets one statement through, which reads.
	single bool

	// begun: the opening was sent. refused: it failed, and with it all the rest.
	begun   bool
	refused error
	// reads: statements were sent, and all of them only read.
	reads bool
	wrote bool
}

// errNotOneRead: a function that said it runs one reading statement runs another.
var errNotOneRead = tenants.NewError(tenants.KindInternal, "more than the one read that was announced")

var errClosed = errors.New("access: the transaction is over")

func (g *guard) close() { g.closed.Store(true) }

// note tells reading statements from others, for the commit. What is not plainly a
// SELECT counts as a change.
func (g *guard) note(sql string) {
	for strings.HasPrefix(sql, "--") {
		_, rest, found := strings.Cut(sql, "\n")
		if !found {
			break
		}
		sql = strings.TrimLeft(rest, "\n")
	}
	if !strings.HasPrefix(sql, "SELECT") || strings.Contains(sql, "FOR UPDATE") {
		g.wrote = true
	}
	g.reads = !g.wrote
}

// first sends the opening with the statement and reads how the opening ended.
func (g *guard) first(ctx context.Context, sql string, args []any) (pgx.BatchResults, error) {
	g.begun = true
	named := statementsOf(g.conn)
	named.use(sql)
	if err := named.ready(ctx, g.conn); err != nil {
		g.refused = err
		return nil, err
	}
	var b pgx.Batch
	n := g.opening.queue(&b, named.named)
	b.Queue(sql, args...)
	if g.opening.alone {
		// What the statement set for the session would be committed with it.
		b.Queue(asStarted)
	}
	res := g.conn.SendBatch(ctx, &b)
	for range n {
		if _, err := res.Exec(); err != nil {
			_ = res.Close()
			g.refused = began(err)
			return nil, g.refused
		}
	}
	return res, nil
}

func (g *guard) usable() error {
	switch {
	case g.closed.Load():
		return errClosed
	case g.refused != nil:
		return g.refused
	case g.single && (g.begun || g.wrote):
		g.refused = errNotOneRead
	}
	return g.refused
}

// Exec implements store.DBTX.
func (g *guard) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	g.note(sql)
	if err := g.usable(); err != nil {
		return pgconn.CommandTag{}, err
	}
	if g.begun {
		statementsOf(g.conn).use(sql)
		return g.conn.Exec(ctx, sql, args...)
	}
	res, err := g.first(ctx, sql, args)
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	tag, err := res.Exec()
	return tag, closeBatch(res, err)
}

// Query implements store.DBTX.
func (g *guard) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	g.note(sql)
	if err := g.usable(); err != nil {
		return nil, err
	}
	if g.begun {
		statementsOf(g.conn).use(sql)
		return g.conn.Query(ctx, sql, args...)
	}
	res, err := g.first(ctx, sql, args)
	if err != nil {
		return nil, err
	}
	rows, err := res.Query()
	if err != nil {
		_ = res.Close()
		return nil, err
	}
	return &firstRows{Rows: rows, res: res}, nil
}

// QueryRow implements store.DBTX.
func (g *guard) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	g.note(sql)
	if err := g.usable(); err != nil {
		return failedRow{err}
	}
	if g.begun {
		statementsOf(g.conn).use(sql)
		return g.conn.QueryRow(ctx, sql, args...)
	}
	res, err := g.first(ctx, sql, args)
	if err != nil {
		return failedRow{err}
	}
	return firstRow{res}
}

// closeBatch ends a batch, whose own error says nothing new where the statement failed.
func closeBatch(res pgx.BatchResults, failed error) error {
	err := res.Close()
	if failed != nil {
		return failed
	}
	return err
}

// firstRows are the rows of a statement that came with the opening: with their end
// the batch ends.
type firstRows struct {
	pgx.Rows
	res pgx.BatchResults
	err error
}

// Next implements pgx.Rows.
func (r *firstRows) Next() bool {
	if r.Rows.Next() {
		return true
	}
	r.Close()
	return false
}

// Close implements pgx.Rows.
func (r *firstRows) Close() {
	r.Rows.Close()
	if err := r.res.Close(); err != nil && r.err == nil {
		r.err = err
	}
}

// Err implements pgx.Rows.
func (r *firstRows) Err() error {
	if err := r.Rows.Err(); err != nil {
		return err
	}
	return r.err
}

// firstRow is firstRows for a single row.
type firstRow struct{ res pgx.BatchResults }

// Scan implements pgx.Row.
func (r firstRow) Scan(into ...any) error {
	return closeBatch(r.res, r.res.QueryRow().Scan(into...))
}

type failedRow struct{ err error }

// Scan implements pgx.Row.
func (r failedRow) Scan(...any) error { return r.err }
