package isolation

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/caresphere/caresphere/internal/tenantdb"
)

// trial is one attempt at the database: a statement under a signed context, if there is
// one, in a transaction of its own that is rolled back.
type trial struct {
	signed, sql string
	// codes are the answers that refuse the statement. With rows its value tells whether any
	// row is seen, and that none is refuses it too.
	codes []string
	rows  bool
	// enter is told how it ended.
	enter func(o outcome, detail string)
}

// inFlight is how many trials are sent before their answers are read: each by itself would
// be four journeys to the database, and a tenant has some five hundred.
const inFlight = 100

var errUnanswered = errors.New("the connection ended")

// judge makes the trials, in their order, and has each entered.
func judge(ctx context.Context, conn *pgx.Conn, all []trial) {
	for part := range slices.Chunk(all, inFlight) {
		pipe := conn.PgConn().StartPipeline(ctx)
		for _, t := range part {
			t.send(pipe)
		}
		broken := pipe.Flush()
		for _, t := range part {
			seen, err := false, broken
			if err == nil {
				seen, err = answer(pipe)
				_, _ = answer(pipe) // of its end
			}
			o, detail := sqlOutcome(err, t.codes...)
			if err == nil && t.rows && !seen {
				o, detail = refused, "no row is seen"
			}
			t.enter(o, detail)
		}
		_ = pipe.Close() // what went wrong was entered
	}
}

// send has a synchronization point after the statement, so that its error ends nothing
// else, and one after the transaction's end.
func (t trial) send(pipe *pgconn.Pipeline) {
	pipe.SendQueryParams("BEGIN", nil, nil, nil, nil)
	if t.signed != "" {
		pipe.SendQueryParams(`SELECT set_config($1, $2, true)`, [][]byte{[]byte(tenantdb.Setting), []byte(t.signed)}, nil, nil, nil)
	}
	pipe.SendQueryParams(t.sql, nil, nil, nil, nil)
	pipe.SendPipelineSync()
	pipe.SendQueryParams("ROLLBACK", nil, nil, nil, nil)
	pipe.SendPipelineSync()
}

// answer reads up to the next synchronization point. It returns whether the last value
// was true, and the first error.
func answer(pipe *pgconn.Pipeline) (seen bool, err error) {
	for {
		result, failed := pipe.GetResults()
		switch r := result.(type) {
		case *pgconn.PipelineSync:
			return seen, err
		case *pgconn.ResultReader:
			read := r.Read()
			failed = read.Err
			seen = len(read.Rows) == 1 && len(read.Rows[0]) == 1 && string(read.Rows[0][0]) == "t"
		case nil:
			if failed == nil {
				failed = errUnanswered
			}
		}
		if err == nil {
			err = failed
		}
		var server *pgconn.PgError
		if failed != nil && !errors.As(failed, &server) {
			return false, err
		}
	}
}
