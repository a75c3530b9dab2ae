package e2e_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/client"
	"github.com/caresphere/caresphere/internal/demo"
	"github.com/caresphere/caresphere/internal/devstack"
	"github.com/caresphere/caresphere/tenants"
)

func TestLiveTenantsAreServedWithoutTheControlPlane(t *testing.T) {
	w := here(t)
	living, ending := w.other(t), w.tenant(t, "outage")
	r, c := admit(t, living, "Castillo"), w.credential(t, ending)
	ways := w.ways(t, living, r)
	pids := map[string]int{}
	for _, p := range []string{devstack.Router, devstack.WorkerA, devstack.WorkerB} {
		pids[p] = w.PID(t, p)
	}

	// The last that the control plane does is to say when the agreement ends.
	ends := w.expire(t, ending, 10*time.Second)
	for _, program := range []string{devstack.Router, devstack.WorkerA, devstack.WorkerB} {
		until(t, 8*time.Second, program+" knows when the agreement ends", func() (bool, string) {
			route, ok := find(w.kept(t, program), ending)
			return ok && !route.NotAfter.After(ends), fmt.Sprint(route.NotAfter)
		})
	}
	w.StopProgram(t, devstack.ControlPlane)
	require.True(t, time.Now().Before(ends), "the control plane was down before the agreement ended")
	pound := fire(t, ways...)
	pound.warm(t, ways...)

	until(t, time.Until(ends)+promise, "the agreement's end closes the router", func() (bool, string) {
		s := client.StatusOf(ending.Nurse.Tenant(ending.Slug).Do(within(t, 5*time.Second), http.MethodGet, "/clients", nil, nil))
		return s == http.StatusNotFound && time.Now().After(ends), fmt.Sprint("status ", s)
	})
	for i, p := range []devstack.Port{devstack.PortWorkerA, devstack.PortWorkerB} {
		a := w.asRouter(t, p).as(ending.Nurse.Client).do(t, http.MethodGet, "/t/"+ending.Slug+"/v1/clients", nil)
		require.Equal(t, http.StatusForbidden, a.status, "%s: %s", workers[i], a.body)
		require.Equal(t, string(tenants.KindGateClosed), a.problem())
	}
	signUp := client.New(w.Origin(), client.Options{Roots: w.roots}).Do(within(t, 15*time.Second),
		client.Request{Method: http.MethodGet, Path: "/api/v1/me"}, nil)
	require.Contains(t, []int{http.StatusBadGateway, http.StatusServiceUnavailable}, client.StatusOf(signUp), "the control plane is down: %v", signUp)
	pound.end()
	for _, s := range pound.all() {
		require.True(t, s.ok(), "%s was answered %d (%v) without the control plane", s.way, s.status, s.err)
	}

	w.StartProgram(t, devstack.ControlPlane)
	w.ready(t)
	w.closed(t, ending, c)
	require.NoError(t, ending.Agree(within(t, time.Minute), w.operator(t)))
	w.served(t, ending)
	for p, pid := range pids {
		require.Equal(t, pid, w.PID(t, p), "%s was not started anew", p)
	}
}

// notes lists the ids and texts of a client's notes, page by page.
func notes(t *testing.T, l *demo.Live, clientID string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for cursor := ""; ; {
		var page client.Page[client.Note]
		require.NoError(t, l.Nurse.Tenant(l.Slug).Do(within(t, 15*time.Second), http.MethodGet,
			"/clients/"+clientID+"/notes?limit=200&cursor="+cursor, nil, &page))
		for _, n := range page.Items {
			found[n.ID] = n.Body
		}
		if cursor = page.Next; cursor == "" {
			return found
		}
	}
}

// answered is how many requests a program has answered, as its metrics say.
func (w *world) answered(t *testing.T, program string) (n float64) {
	t.Helper()
	a, err := w.wire(t, w.URL(devstack.HealthPort(program))).try(within(t, 5*time.Second), http.MethodGet, "/metrics", nil)
	if err != nil || a.status != http.StatusOK {
		return -1
	}
	for line := range strings.SplitSeq(a.body, "\n") {
		if strings.HasPrefix(line, "caresphere_http_requests_total{") && strings.Contains(line, "/clients") {
			var v float64
			_, _ = fmt.Sscan(line[strings.LastIndexByte(line, ' ')+1:], &v)
			n += v
		}
	}
	return n
}

func TestAKilledWorkerFailsNoIdempotentRequest(t *testing.T) {
	w := here(t)
	l := w.other(t)
	r := admit(t, l, "Delgado")
	nurse := l.Nurse.Tenant(l.Slug)

	var mu sync.Mutex
	made := map[string]string{} // key -> note id
	write := func(key string) func(context.Context, int) (int, error) {
		return func(ctx context.Context, n int) (int, error) {
			k := fmt.Sprintf("%s-%d", key, n)
			got, err := nurse.CreateNote(ctx, r.client.ID, client.Note{Shift: "night", Body: "Round " + k}, k)
			if err != nil {
				return client.StatusOf(err), err
			}
			mu.Lock()
			defer mu.Unlock()
			made[k] = got.ID
			return http.StatusCreated, nil
		}
	}
	read := func(ctx context.Context, _ int) (int, error) {
		_, err := nurse.NoteByID(ctx, r.note.ID)
		return client.StatusOf(err), err
	}
	ways := []way{{"write", write(word())}, {"write too", write(word())}, {"read", read}, {"read too", read}}
	pound := fire(t, ways...)
	pound.warm(t, ways...)
	for _, program := range workers {
		pid := w.PID(t, program)
		w.Kill(t, program)
		until(t, 30*time.Second, program+" comes back", func() (bool, string) {
			a, err := w.wire(t, w.URL(devstack.HealthPort(program))).try(within(t, 5*time.Second), http.MethodGet, "/readyz", nil)
			return err == nil && a.status == http.StatusOK && w.PID(t, program) != pid, fmt.Sprint(a.status, err)
		})
		// A request that met one kill may not meet the other: it is sent twice at most.
		pound.after(t, time.Now(), ways...)
	}
	// The tenant keeps to one of them, which by now is a process of after its kill.
	until(t, 30*time.Second, "one of them takes its traffic again", func() (bool, string) {
		a, b := w.answered(t, workers[0]), w.answered(t, workers[1])
		return max(a, b) >= 50, fmt.Sprintf("%v and %v requests", a, b)
	})
	pound.end()
	shots := pound.all()
	for _, s := range shots {
		require.True(t, s.ok(), "%s of %s was answered %d: %v", s.way, s.began.Format(time.StampMilli), s.status, s.err)
	}
	t.Logf("%d requests, %d of them writes, none failed", len(shots), len(made))

	there := notes(t, l, r.client.ID)
	delete(there, r.note.ID)
	texts := map[string]int{}
	for _, body := range there {
		texts[body]++
	}
	for key, id := range made {
		require.Equal(t, "Round "+key, there[id], "the answer to %s names its note", key)
		require.Equal(t, 1, texts["Round "+key], "%s was made once", key)
	}
	// A write that the load's end cut off may have been made; more than one a key may not.
	require.Equal(t, len(there), len(texts), "nothing was made twice")
	require.LessOrEqual(t, len(there), len(made)+2)
	require.Equal(t, len(made), len(slices.Compact(slices.Sorted(maps.Values(made)))))
}

func TestTwoOrganizationsAreProvisionedThroughAKill(t *testing.T) {
	w := here(t)
	var wg sync.WaitGroup
	lives, errs := make([]*demo.Live, 2), make([]error, 2)
	for i := range lives {
		wg.Go(func() {
			lives[i], errs[i] = demo.SignUp(within(t, time.Minute), w.options(), fmt.Sprintf("twin%d-%s", i, word()))
		})
	}
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	steps := func(l *demo.Live) (state string, done, all int) {
		p, err := l.Owner.Provisioning(within(t, 10*time.Second))
		require.NoError(t, err)
		for _, s := range p.Steps {
			if s.State == "done" {
				done++
			}
		}
		return p.State, done, len(p.Steps)
	}
	// Whoever holds this table stops provisioning in its middle.
	ctx, db := within(t, 2*time.Minute), w.database(t, devstack.CellDatabase)
	for _, sql := range []string{"BEGIN", "LOCK TABLE cell.tenant_credential IN ACCESS EXCLUSIVE MODE"} {
		_, err := db.Exec(ctx, sql)
		require.NoError(t, err)
	}
	for _, l := range lives {
		require.NoError(t, l.Agree(within(t, time.Minute), w.operator(t)))
	}
	for _, l := range lives {
		until(t, 30*time.Second, "the provisioning of "+l.Slug+" is under way", func() (bool, string) {
			state, done, all := steps(l)
			require.NotEqual(t, "live", state)
			return done > 0 && done < all, fmt.Sprintf("%s, %d of %d steps", state, done, all)
		})
	}
	pid := w.PID(t, devstack.Provisioner)
	w.Kill(t, devstack.Provisioner)
	until(t, 20*time.Second, "the provisioner is back", func() (bool, string) {
		return w.PID(t, devstack.Provisioner) != pid, "it still has its process"
	})
	_, err := db.Exec(ctx, "ROLLBACK")
	require.NoError(t, err)
	for _, l := range lives {
		until(t, time.Minute, l.Slug+" goes live", func() (bool, string) {
			state, done, all := steps(l)
			return state == "live", fmt.Sprintf("%s, %d of %d steps", state, done, all)
		})
		until(t, 15*time.Second, l.Slug+" is served", func() (bool, string) {
			s := client.StatusOf(l.Owner.Tenant(l.Slug).Do(within(t, 10*time.Second), http.MethodGet, "/session", nil, nil))
			return s == http.StatusOK, fmt.Sprint("status ", s)
		})
	}
}
