package audit

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/require"
)

func TestAnEntryWithoutItsTimeIsAnError(t *testing.T) {
	now := time.Now()
	r := Row{seq: pgtype.Int8{Int64: 7, Valid: true}, at: &now, detail: pgtype.Text{String: "{}", Valid: true}}
	e, err := r.Entry(ControlLog())
	require.NoError(t, err)
	require.EqualValues(t, 7, e.Seq)
	r.at = nil
	_, err = r.Entry(ControlLog())
	require.ErrorContains(t, err, "audit entry 7 has no time")
}
