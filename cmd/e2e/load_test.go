package e2e_test

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/client"
	"github.com/caresphere/caresphere/internal/demo"
	"github.com/caresphere/caresphere/internal/devstack"
)

// shot is one request of a load.
type shot struct {
	way    string
	began  time.Time
	status int // 0: no answer
	err    error
}

func (s shot) ok() bool { return s.status >= 200 && s.status < 300 }

// load sends requests from several goroutines, each on warm connections, until it
// is stopped.
type load struct {
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu    sync.Mutex
	shots []shot
}

// way is one kind of request; n counts its shots.
type way struct {
	name string
	send func(ctx context.Context, n int) (int, error)
}

// fire begins to send each way over and over.
func fire(t *testing.T, ways ...way) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{stop: cancel}
	t.Cleanup(l.end)
	for _, w := range ways {
		l.wg.Go(func() {
			pace := time.NewTicker(5 * time.Millisecond) // a refusal takes less than a millisecond
			defer pace.Stop()
			for n := 0; ctx.Err() == nil; n++ {
				s := shot{way: w.name, began: time.Now()}
				s.status, s.err = w.send(ctx, n)
				if ctx.Err() != nil {
					return
				}
				l.mu.Lock()
				l.shots = append(l.shots, s)
				l.mu.Unlock()
				<-pace.C
			}
		})
	}
	return l
}

func (l *load) end() { l.stop(); l.wg.Wait() }

func (l *load) all() []shot {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.shots)
}

// warm waits until each way has succeeded some times.
func (l *load) warm(t *testing.T, ways ...way) {
	t.Helper()
	until(t, time.Minute, "every way is warm", func() (bool, string) {
		good := map[string]int{}
		for _, s := range l.all() {
			if s.ok() {
				good[s.way]++
			}
		}
		for _, w := range ways {
			if good[w.name] < 5 {
				return false, w.name + " succeeded " + strconv.Itoa(good[w.name]) + " times"
			}
		}
		return true, ""
	})
}

// last is when the last request started that succeeded.
func (l *load) last() (time.Time, string) {
	var at time.Time
	way := ""
	for _, s := range l.all() {
		if s.ok() && s.began.After(at) {
			at, way = s.began, s.way
		}
	}
	return at, way
}

// since counts what was sent after the moment.
func (l *load) since(at time.Time) (sent int) {
	for _, s := range l.all() {
		if s.began.After(at) {
			sent++
		}
	}
	return sent
}

// watch goes on for as long after the moment, and then ends the load.
func (l *load) watch(t *testing.T, at time.Time, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(time.Until(at.Add(d)))
	defer timer.Stop()
	<-timer.C
	l.end()
	require.NotZero(t, l.since(at), "requests were sent all the time")
}

// ways read and write a tenant's record through the router, by cookies and by
// token, and reach both workers past it.
func (w *world) ways(t *testing.T, l *demo.Live, r record) []way {
	t.Helper()
	nurse, token := l.Nurse.Tenant(l.Slug), w.bearer(t, l.Owner)
	owner := token.Tenant(l.Slug)
	key := word()
	status := func(err error) (int, error) {
		if s := client.StatusOf(err); s != 0 {
			return s, nil
		}
		return 0, err
	}
	ways := []way{
		{"read by cookie", func(ctx context.Context, _ int) (int, error) {
			_, err := nurse.ClientByID(ctx, r.client.ID)
			return status(err)
		}},
		{"read by token", func(ctx context.Context, _ int) (int, error) {
			_, err := owner.NoteByID(ctx, r.note.ID)
			return status(err)
		}},
		{"search", func(ctx context.Context, _ int) (int, error) {
			_, err := nurse.SearchClients(ctx, r.client.Name.Family)
			return status(err)
		}},
		{"write", func(ctx context.Context, n int) (int, error) {
			_, err := nurse.CreateNote(ctx, r.client.ID, client.Note{Shift: "day", Body: "Round " + strconv.Itoa(n)}, key+"-"+strconv.Itoa(n))
			return status(err)
		}},
	}
	for i, p := range []devstack.Port{devstack.PortWorkerA, devstack.PortWorkerB} {
		direct := w.asRouter(t, p).as(token).with("Caresphere-Placement-Epoch", strconv.FormatInt(w.route(t, l).Epoch, 10))
		ways = append(ways, way{"read at " + workers[i], func(ctx context.Context, _ int) (int, error) {
			a, err := direct.try(ctx, http.MethodGet, "/t/"+l.Slug+"/v1/clients/"+r.client.ID, nil)
			return a.status, err
		}})
	}
	return ways
}

// after waits until a request of each way that began after the moment was answered: those
// of before have ended then, for each way sends one at a time.
func (l *load) after(t *testing.T, moment time.Time, ways ...way) {
	t.Helper()
	until(t, time.Minute, "every way goes on", func() (bool, string) {
		later := map[string]bool{}
		for _, s := range l.all() {
			later[s.way] = later[s.way] || s.began.After(moment)
		}
		for _, w := range ways {
			if !later[w.name] {
				return false, w.name + " waits"
			}
		}
		return true, ""
	})
}
