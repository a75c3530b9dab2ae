package audit

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/require"
)

func TestAnEntryWithoutItsTimeIsAnError(t *testing.T) {
	r := Row{seq: pgtype.Int8{Int64: 7, Valid: true}, at: pgtype.Timestamptz{Time: time.Now(), Valid: true}, detail: pgtype.Text{String: "{}", Valid: true}}
	e, err := r.Entry(ControlLog())
	require.NoError(t, err)
	require.EqualValues(t, 7, e.Seq)
	for _, at := range []pgtype.Timestamptz{{}, {Valid: true, InfinityModifier: pgtype.NegativeInfinity}} {
		r.at = at
		_, err = r.Entry(ControlLog())
		require.ErrorContains(t, err, "audit entry 7 has no time")
	}
}
