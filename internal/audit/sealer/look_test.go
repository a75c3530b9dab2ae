package sealer

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/tenants"
)

// TestLooksByTheClockArePaced has every log due: they are looked at one at a time, longest
// first, with a rest; what has something to seal waits for none of it.
func TestLooksByTheClockArePaced(t *testing.T) {
	now := time.Now()
	u := &unit{s: &Sealer{cfg: Config{}}, known: map[string]audit.Log{}, dirty: map[string]time.Time{}, swept: map[string]bool{}, running: map[string]bool{},
		looks: map[string]bool{}, wake: make(chan struct{}, 1), paced: paced{due: map[string]bool{}, begun: map[string]time.Time{}}, since: now}
	var logs []audit.Log
	for i := range 10 {
		l := aLog(tenants.NewID())
		logs = append(logs, l)
		u.known[l.Tag()] = l
		u.paced.begun[l.Tag()] = now.Add(-time.Duration(i+1) * time.Minute)
	}
	u.duePart(0, 1)
	end := func(l audit.Log, took time.Duration) {
		u.paced.ended(l.Tag(), u.looks[l.Tag()], true, now, now.Add(took))
		delete(u.running, l.Tag())
		delete(u.looks, l.Tag())
		now = now.Add(took)
	}

	l, ok, _ := u.next(now)
	require.True(t, ok)
	require.Equal(t, logs[9], l, "the one that waits longest")
	require.True(t, u.looks[l.Tag()])
	_, ok, _ = u.next(now)
	require.False(t, ok, "one at a time")

	// Neither a fresh entry nor what may have something to seal waits for the look or its rest.
	u.mark(logs[3].Tag())
	u.swept[logs[4].Tag()] = true
	for _, want := range []audit.Log{logs[3], logs[4]} {
		fresh, ok, _ := u.next(time.Now().Add(time.Minute))
		require.True(t, ok)
		require.Equal(t, want, fresh)
		end(fresh, 0)
	}

	end(l, time.Second)
	_, ok, wait := u.next(now)
	require.False(t, ok, "it rests")
	require.Equal(t, lookRest*time.Second, wait)
	now = now.Add(wait)
	next, ok, _ := u.next(now)
	require.True(t, ok)
	require.Equal(t, logs[8], next)
	end(next, time.Second)

	// Marked again, what was looked at comes after those that were not.
	u.duePart(0, 1)
	now = now.Add(lookRest * time.Second)
	next, ok, _ = u.next(now)
	require.True(t, ok)
	require.Equal(t, logs[7], next)
	require.Equal(t, 8*time.Minute, u.paced.unlooked(u.known, u.since, now).Round(time.Minute))
}

// TestALookMeetsTheOneBeforeIt: however long that was ago.
func TestALookMeetsTheOneBeforeIt(t *testing.T) {
	now := time.Now()
	p := paced{begun: map[string]time.Time{"late": now.Add(-3 * time.Hour), "soon": now.Add(-time.Minute)}}
	require.Equal(t, 20*time.Minute, p.recent("never", 10*time.Minute, now))
	require.Equal(t, 20*time.Minute, p.recent("soon", 10*time.Minute, now))
	require.Equal(t, 3*time.Hour+10*time.Minute, p.recent("late", 10*time.Minute, now))
	p.forget(map[string]audit.Log{"soon": {}})
	require.Len(t, p.begun, 1)
}

// TestARoundOfChecksRestsAndEnds: it rests between two logs, and is over in time.
func TestARoundOfChecksRestsAndEnds(t *testing.T) {
	require.Equal(t, lookRest*100*time.Millisecond, checkRest(100*time.Millisecond, 24*time.Hour, 10_000))
	require.Equal(t, 12*time.Hour/10_000, checkRest(time.Minute, 24*time.Hour, 10_000), "no longer than leaves half of the time")
	require.Zero(t, checkRest(time.Second, 0, 10), "a round by itself")
}
