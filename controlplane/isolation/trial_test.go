package isolation

import (
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/testkit"
)

// TestEachTrialIsJudgedByItself sends more trials at a time than are in flight at once:
// an error is its own trial's, nothing outlives its transaction, and behind a connection
// that ends nothing is taken for a refusal or a success.
func TestEachTrialIsJudgedByItself(t *testing.T) {
	conn, err := pgx.Connect(t.Context(), testkit.CellDB(t).DSN("cell_sealer"))
	require.NoError(t, err)
	var got []string
	says := func(t trial) trial {
		t.enter = func(o outcome, detail string) {
			got = append(got, map[outcome]string{allowed: "allowed", refused: "refused", unclear: "unclear"}[o]+": "+detail)
		}
		return t
	}
	some := []trial{
		says(trial{sql: `SELECT 1`}),
		says(trial{sql: `SELECT FROM pg_authid LIMIT 1`, codes: []string{insufficientPrivilege}}),
		says(trial{sql: `SELECT FROM pg_authid LIMIT 1`}),
		says(trial{sql: `SELECT 1 / 0`, codes: []string{insufficientPrivilege}}),
		says(trial{sql: `SELECT true`, rows: true}),
		says(trial{sql: `SELECT false`, rows: true}),
		says(trial{sql: `SELECT current_setting('caresphere.context') = 'words'`, signed: "words", rows: true}),
		says(trial{sql: `SELECT coalesce(current_setting('caresphere.context', true), '') = ''`, rows: true}),
		says(trial{sql: `SET application_name = 'changed'`}),
		says(trial{sql: `SELECT current_setting('application_name') <> 'changed'`, rows: true}),
	}
	want := []string{"allowed: ", "refused: ", "unclear: the database answered 42501", "unclear: the database answered 22012",
		"allowed: ", "refused: no row is seen", "allowed: ", "allowed: ", "allowed: ", "allowed: "}
	const times = 2*inFlight/10 + 3
	judge(t.Context(), conn, slices.Repeat(some, times))
	require.Equal(t, slices.Repeat(want, times), got)

	got = nil
	judge(t.Context(), conn, append([]trial{some[0], says(trial{sql: `SELECT pg_terminate_backend(pg_backend_pid())`})}, slices.Repeat(some[:2], inFlight)...))
	require.Equal(t, "allowed: ", got[0])
	require.Equal(t, "unclear: the database answered 57P01", got[1])
	require.Len(t, got, 2+2*inFlight)
	for _, one := range got[2:] {
		require.Contains(t, one, "unclear: the database did not answer")
	}
}
