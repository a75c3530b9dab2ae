package prove

import (
	"math/rand/v2"
	"testing"
	"time"
)

// Draw returns all of what can be tried in the nightly run, and at most so many, drawn at
// random, in a usual one. It orders the slice anew.
func Draw[T any](t testing.TB, all []T, usual int) []T {
	t.Helper()
	if Nightly() || len(all) <= usual {
		return all
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("drawn with seed %d of %d", seed, len(all))
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] }) //nolint:gosec // no secret
	return all[:usual]
}
