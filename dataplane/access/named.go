package access

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/tenantdb"
)

// statements are those of one connection. What is sent often enough gets a name there,
// and is parsed and planned once: planning takes longer than most of them run.
//
// A name is only as good as the session: SQL that slips into a request can drop a
// statement and prepare another under its name, to be run by a later request, or in
// place of the audit entry of its own. So each transaction begins with a statement that
// has no name and refuses a session which holds anything that was prepared by SQL, or
// not as many statements as are known here (cell.own_statements); and so does the
// statement before an entry. Names are given only there, in a session as it began.
type statements struct {
	// used has what was sent, and how far it came.
	used map[string]naming
	// wanted get their names before the next transaction, named have theirs.
	wanted []string
	named  int
}

type naming int

const (
	sentOnce naming = iota + 1
	nameWanted
)

// statementsKey is where a connection keeps its statements.
const statementsKey = "caresphere.statements"

func statementsOf(c *pgx.Conn) *statements {
	data := c.PgConn().CustomData()
	s, ok := data[statementsKey].(*statements)
	if !ok {
		s = &statements{used: map[string]naming{}}
		data[statementsKey] = s
	}
	return s
}

// use says that a statement is sent: the second time it is worth a name. Most
// connections of a tenant that is seldom asked for never come to that.
func (s *statements) use(sql string) {
	switch s.used[sql] {
	case 0:
		s.used[sql] = sentOnce
	case sentOnce:
		s.used[sql] = nameWanted
		s.wanted = append(s.wanted, sql)
	}
}

// ready gives the statements that wait for it their names, before a transaction.
func (s *statements) ready(ctx context.Context, c *pgx.Conn) error {
	if len(s.wanted) == 0 {
		return nil
	}
	if _, err := c.Exec(ctx, asStarted); err != nil {
		return fmt.Errorf("before naming statements: %w", err)
	}
	for ; len(s.wanted) > 0; s.wanted = s.wanted[1:] {
		sql := s.wanted[0]
		// Under its text as key, so that the driver takes the name wherever the text is sent.
		if _, err := c.Prepare(ctx, sql, sql); err != nil {
			if pg.IsCode(err, "42P05") {
				// SQL took the name.
				return foreign(err)
			}
			return fmt.Errorf("naming a statement: %w", err)
		}
		s.named++
	}
	return nil
}

// closing are errors after which a connection's statements are not what is known here:
// it is closed. A statement that is gone (26000), one whose name was taken (42P05), and
// one whose result a migration changed (0A000) belong to them.
var closing = []string{tenantdb.CodeForeignStatement, "26000", "42P05", "0A000"}

// errForeign: the session holds statements that are not ours. Nothing was done, and
// another connection is as good as this one was.
var errForeign = unavailable(fmt.Errorf("access: the session has statements that are not ours: %w", errStale))

// foreign makes errForeign of what the database said.
func foreign(err error) error { return fmt.Errorf("%w: %w", errForeign, err) }

// elsewhere runs what begins a transaction again where its session was found to have
// statements that are not ours: that connection is closed by then.
func elsewhere(run func() error) error {
	err := run()
	for range renewals {
		if !errors.Is(err, errForeign) {
			break
		}
		err = run()
	}
	return err
}
