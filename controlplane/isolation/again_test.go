package isolation

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/isolation"
)

func TestFewThatWereUnprovenAWhileAgoAreLookedAtAgain(t *testing.T) {
	now := time.Now()
	of := func(v isolation.Verdict, n int) []isolation.Tenant {
		return slices.Repeat([]isolation.Tenant{{Verdict: v}}, n)
	}
	times := func(at time.Time, n int) []time.Time { return slices.Repeat([]time.Time{at}, n) }
	list := slices.Concat(of(isolation.Proven, 2), of(isolation.Unproven, few), of(isolation.Failed, 1))
	at := unsettled(list, times(time.Time{}, len(list)), now)
	require.Len(t, at, few)
	require.Equal(t, 2, at[0])
	require.Equal(t, few+1, at[few-1])
	require.Len(t, unsettled(list, times(now.Add(-passing), len(list)), now), few)
	require.Empty(t, unsettled(list, times(now, len(list)), now), "what is away now is away for the next look too")
	list = append(list, of(isolation.Unproven, 1)...)
	require.Empty(t, unsettled(list, times(time.Time{}, len(list)), now), "that is no moment")
}

func TestNoSecondLookBeginsAfterItsTime(t *testing.T) {
	visited := func(until time.Time) (n int) {
		require.NoError(t, again(t.Context(), []int{3, 1}, until, 1, func(context.Context, int) error { n++; return nil }))
		return n
	}
	require.Equal(t, 2, visited(time.Now().Add(time.Hour)))
	require.Zero(t, visited(time.Now().Add(-time.Nanosecond)))

	var places []int
	failed := errors.New("a verdict could not be kept")
	require.ErrorIs(t, again(t.Context(), []int{3, 1}, time.Now().Add(time.Hour), 1, func(_ context.Context, i int) error {
		places = append(places, i)
		return failed
	}), failed)
	require.Equal(t, []int{3}, places, "none after the first that failed")
}

// Nobody waits for a proof that the schedule asked for.
func TestAProofOfTheScheduleLooksAtOneAtATime(t *testing.T) {
	require.Equal(t, 1, lookers(store.IsolationStartRow{AskedBy: scheduled}))
	require.Equal(t, atOnce, lookers(store.IsolationStartRow{AskedBy: "staff"}))
}
