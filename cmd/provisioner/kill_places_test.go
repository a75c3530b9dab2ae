package main

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/internal/testkit/prove"
)

// place is a write at which a process is killed.
type place struct {
	where *testkit.Writes
	name  string
	how   testkit.FailAt
	at    int
	// drop has the server end the held write; else it is completed for nobody.
	drop bool
}

// places counts the writes that f makes and returns all of them, drawn at random.
func places(t *testing.T, writes map[string]*testkit.Writes, f func()) (all []place) {
	t.Helper()
	for _, w := range writes {
		w.Begin()
	}
	f()
	for name, w := range writes {
		for _, how := range []testkit.FailAt{testkit.InStatement, testkit.AtCommit} {
			n := w.Seen(how)
			t.Logf("%s: %d writes (%s)", name, n, how)
			for at := 1; at <= n; at++ {
				all = append(all, place{w, name, how, at, at%2 == 0})
			}
		}
	}
	require.NotEmpty(t, all)
	seed := uint64(time.Now().UnixNano())
	t.Logf("drawn with seed %d", seed)
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// asked are the writes that whoever asks makes himself, before the provisioner's.
type asked map[*testkit.Writes]map[testkit.FailAt]int

// asks counts the writes that f makes while no provisioner is at work.
func asks(writes map[string]*testkit.Writes, f func()) asked {
	for _, w := range writes {
		w.Begin()
	}
	f()
	own := asked{}
	for _, w := range writes {
		own[w] = map[testkit.FailAt]int{}
		for _, how := range []testkit.FailAt{testkit.InStatement, testkit.AtCommit} {
			own[w][how] = w.Seen(how)
		}
	}
	return own
}

// without takes the asker's writes out: a kill there meets nobody.
func (a asked) without(all []place) []place {
	return slices.DeleteFunc(all, func(p place) bool { return p.at <= a[p.where][p.how] })
}

// attempts is how often one place is tried. How many writes a piece of work makes
// depends on its course, so that a late one is not always come to.
const attempts = 4

// killing are places of which a usual run has to meet some and the nightly one each.
type killing struct {
	pending []place
	tried   map[place]int
	wanted  int
	// met are the kills that came in a write, missed the places that never were.
	met, missed int
}

func newKilling(wanted int, all []place) *killing {
	return &killing{pending: all, tried: map[place]int{}, wanted: prove.Size(min(wanted, len(all)), len(all))}
}

// next is the place to be tried next, none when enough of them were met.
func (k *killing) next() (place, bool) {
	if k.met >= k.wanted || len(k.pending) == 0 {
		return place{}, false
	}
	return k.pending[0], true
}

// came says whether the kill at the place that was next came in a write. One that did
// not is tried again after the others.
func (k *killing) came(inWrite bool) {
	at := k.pending[0]
	k.pending = k.pending[1:]
	k.tried[at]++
	switch {
	case inWrite:
		k.met++
	case k.tried[at] < attempts:
		k.pending = append(k.pending, at)
	default:
		k.missed++
	}
}

// whole requires that most places were met: a method that comes too late would
// otherwise prove little with many kills.
func (k *killing) whole(t *testing.T) {
	t.Helper()
	t.Logf("%d kills came in a write, %d places were never met", k.met, k.missed)
	require.Greater(t, k.met, k.missed, "most places were met")
}

// kill lets a write begin, kills the process there and lets the write go on for
// nobody, or ends it as a server does whose client is gone. It is false when the
// work ended without coming to the write.
func (w *world) kill(t *testing.T, p *process, at place, begin func(), over func() bool) bool {
	t.Helper()
	reached, release := at.where.Hold(at.how, at.at)
	// What begins it may write the same table and be held itself.
	var beginning sync.WaitGroup
	beginning.Go(begin)
	there := false
	require.Eventually(t, func() bool { there = reached(); return there || over() }, converge, 10*time.Millisecond, "%s %d (%s)", at.name, at.at, at.how)
	p.kill(t)
	if there && at.drop {
		at.where.Drop()
	}
	release()
	beginning.Wait()
	return there
}

// eventually waits until what is looked at is as it must be, and returns what is not
// when it still is not after converge.
func eventually(look func() error) error {
	deadline, cancel := context.WithTimeout(context.Background(), converge)
	defer cancel()
	tick := time.NewTicker(30 * time.Millisecond)
	defer tick.Stop()
	for {
		err := look()
		if err == nil || deadline.Err() != nil {
			return err
		}
		<-tick.C
	}
}
