package isolation

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

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
