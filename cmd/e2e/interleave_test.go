package e2e_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/caresphere/caresphere/internal/client"
	"github.com/caresphere/caresphere/internal/demo"
	"github.com/caresphere/caresphere/internal/testkit/prove"
)

// lane is one tenant's part of the interleaved load.
type lane struct {
	*demo.Live
	// mark stands in every PHI field of the tenant, and nowhere else.
	mark    string
	wire    wire
	base    string
	clients []string
	notes   []string

	mu sync.Mutex
	// written are the answered notes by Idempotency-Key, traced the request ids by
	// what kind of request was answered.
	written map[string]string
	traced  map[string]string
}

// markForm finds any tenant's mark in an answer.
var markForm = regexp.MustCompile(`mk[a-z0-9]{8}zz`)

// kind is one sort of request and what its answer must be. marked answers show the
// own mark, acted ones leave an entry in the own trail.
type kind struct {
	name          string
	share         int
	status        int
	marked, acted bool
	send          func(ctx context.Context, mine, theirs *lane, n int) (reply, error)
}

// judge says what is wrong with an answer to a lane's request.
func (k kind) judge(l *lane, a reply) error {
	if a.status != k.status {
		return fmt.Errorf("%s of %s was answered %d: %.200s", k.name, l.Slug, a.status, a.body)
	}
	own := false
	for _, mark := range markForm.FindAllString(a.body, -1) {
		if mark != l.mark {
			return fmt.Errorf("%s of %s shows the mark of another: %.200s", k.name, l.Slug, a.body)
		}
		own = true
	}
	if own != k.marked {
		return fmt.Errorf("%s of %s: shows the own mark: %v: %.200s", k.name, l.Slug, own, a.body)
	}
	return nil
}

func pick[T any](all []T) T { return all[rand.IntN(len(all))] }

// noteKey names the n-th note of the load.
func noteKey(n int) string { return fmt.Sprint("interleaved-", n) }

func (l *lane) note(ctx context.Context, key string) (reply, error) {
	return l.wire.with("Idempotency-Key", key).try(ctx, http.MethodPost, l.base+"/clients/"+l.clients[0]+"/notes",
		m{"shift": "day", "body": l.mark + " " + key})
}

// interleavings are the requests of the load.
func interleavings() []kind {
	get := func(path func(mine, theirs *lane) string) func(context.Context, *lane, *lane, int) (reply, error) {
		return func(ctx context.Context, mine, theirs *lane, _ int) (reply, error) {
			return mine.wire.try(ctx, http.MethodGet, path(mine, theirs), nil)
		}
	}
	return []kind{
		{"read a client", 30, 200, true, true, get(func(l, _ *lane) string { return l.base + "/clients/" + pick(l.clients) })},
		{"read a note", 12, 200, true, true, get(func(l, _ *lane) string { return l.base + "/notes/" + pick(l.notes) })},
		{"list clients", 8, 200, true, true, get(func(l, _ *lane) string { return l.base + "/clients" })},
		{"search", 8, 200, true, true, func(ctx context.Context, l, _ *lane, _ int) (reply, error) {
			return l.wire.try(ctx, http.MethodPost, l.base+"/clients/search", m{"family": l.mark})
		}},
		{"search another's", 5, 200, false, true, func(ctx context.Context, l, theirs *lane, _ int) (reply, error) {
			return l.wire.try(ctx, http.MethodPost, l.base+"/clients/search", m{"family": theirs.mark})
		}},
		{"write a note", 14, 201, true, true, func(ctx context.Context, l, _ *lane, n int) (reply, error) { return l.note(ctx, noteKey(n)) }},
		{"another's client", 5, 404, false, true, get(func(l, theirs *lane) string { return l.base + "/clients/" + pick(theirs.clients) })},
		{"another's path", 4, 404, false, false, get(func(_, theirs *lane) string { return theirs.base + "/clients/" + pick(theirs.clients) })},
		{"an impossible note", 4, 422, false, false, func(ctx context.Context, l, _ *lane, _ int) (reply, error) {
			return l.wire.try(ctx, http.MethodPost, l.base+"/clients/"+l.clients[0]+"/notes", m{"shift": "noon", "body": l.mark})
		}},
	}
}

// openLanes brings up so many tenants, each with marked records, on one pool of connections.
func openLanes(t *testing.T, w *world, n int) []*lane {
	t.Helper()
	operator := w.operator(t)
	shared := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.roots, MinVersion: tls.VersionTLS12}, MaxIdleConnsPerHost: 64, MaxConnsPerHost: 64}
	t.Cleanup(shared.CloseIdleConnections)
	lanes := make([]*lane, n)
	var g errgroup.Group
	g.SetLimit(4)
	for i := range lanes {
		g.Go(func() error {
			live, err := demo.BringUp(within(t, 5*time.Minute), w.options(), operator, "lane-"+word())
			if err != nil {
				return err
			}
			l := &lane{Live: live, mark: "mk" + word() + "zz", base: "/t/" + live.Slug + "/v1", written: map[string]string{}, traced: map[string]string{}}
			l.wire = wire{base: w.Origin(), head: http.Header{}, http: &http.Client{Transport: shared, Timeout: 20 * time.Second}}.as(live.Nurse.Client)
			lanes[i] = l
			return l.furnish(within(t, time.Minute))
		})
	}
	require.NoError(t, g.Wait())
	return lanes
}

func (l *lane) furnish(ctx context.Context) error {
	nurse := l.Nurse.Tenant(l.Slug)
	for range 3 {
		p, err := nurse.CreateClient(ctx, client.Person{FacilityID: l.Facility, Name: client.PersonName{Given: l.mark, Family: l.mark},
			BirthDate: "1948-03-11"}, "admit-"+word())
		if err != nil {
			return err
		}
		note, err := nurse.CreateNote(ctx, p.ID, client.Note{Shift: "day", Body: l.mark}, "note-"+word())
		if err != nil {
			return err
		}
		l.clients, l.notes = append(l.clients, p.ID), append(l.notes, note.ID)
	}
	return nil
}

// keep remembers what was answered.
func (l *lane) keep(k kind, n int, a reply) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	id := a.head.Get("X-Request-Id")
	if _, again := l.traced[id]; id == "" || again {
		return fmt.Errorf("%s of %s has no request id of its own: %q", k.name, l.Slug, id)
	}
	l.traced[id] = k.name
	if k.status != http.StatusCreated {
		return nil
	}
	var made struct{ ID string }
	if err := json.Unmarshal([]byte(a.body), &made); err != nil {
		return err
	}
	if before, ok := l.written[noteKey(n)]; ok && before != made.ID {
		return fmt.Errorf("%s was made as %s and as %s", noteKey(n), before, made.ID)
	}
	l.written[noteKey(n)] = made.ID
	return nil
}

func TestManyTenantsShareWorkersAndNothingElse(t *testing.T) {
	t.Parallel()
	w := here(t)
	lanes := openLanes(t, w, prove.Size(4, 50))
	total := prove.Size(3000, 110_000)

	all := interleavings()
	var deck []kind
	for _, k := range all {
		for range k.share {
			deck = append(deck, k)
		}
	}
	var (
		next, answered, gone atomic.Int64
		mu                   sync.Mutex
		wrong                []error
	)
	complain := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		wrong = append(wrong, err)
	}
	var workers sync.WaitGroup
	begun := time.Now()
	for range 24 {
		workers.Go(func() {
			for n := int(next.Add(1)); n <= total; n = int(next.Add(1)) {
				at := rand.IntN(len(lanes))
				mine, theirs := lanes[at], lanes[(at+1+rand.IntN(len(lanes)-1))%len(lanes)]
				k := pick(deck)
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				if n%25 == 0 {
					// The client goes away in the middle; a write is sent again right after.
					hasty, leave := context.WithTimeout(ctx, time.Duration(rand.IntN(3000))*time.Microsecond)
					if _, err := k.send(hasty, mine, theirs, n); errors.Is(err, context.DeadlineExceeded) {
						gone.Add(1)
					}
					leave()
				}
				for range 1 + n%20/19 { // one in twenty is sent twice
					a, err := k.send(ctx, mine, theirs, n)
					if err == nil {
						err = k.judge(mine, a)
					}
					if err == nil {
						err = mine.keep(k, n, a)
					}
					if err != nil {
						complain(err)
						continue
					}
					answered.Add(1)
				}
				cancel()
			}
		})
	}
	workers.Wait()
	t.Logf("%d answered, %d left by their client, %d tenants, in %s", answered.Load(), gone.Load(), len(lanes), time.Since(begun).Round(time.Second))
	for _, err := range wrong[:min(len(wrong), 10)] {
		t.Error(err)
	}
	prove.State(t, prove.InterleavedAnswers, int(answered.Load())+len(wrong), len(wrong))
	require.Positive(t, gone.Load(), "some clients went away")

	w.trailsAgree(t, lanes)
	notesAgree(t, lanes)

	// The twin: what another tenant was answered, judged as the own. Each kind that
	// shows records is noticed, and so is a status that another kind has.
	a, b := lanes[0], lanes[1]
	planted, noticed := 0, 0
	for _, k := range all {
		got, err := k.send(within(t, 20*time.Second), b, a, total+1)
		require.NoError(t, err)
		require.NoError(t, k.judge(b, got), "as the other's it is right")
		if !k.marked {
			k.status++ // of what shows nothing only the status can be wrong
		}
		planted++
		if k.judge(a, got) != nil {
			noticed++
		}
	}
	prove.Plant(t, prove.InterleavedAnswers, planted, noticed)
}

// trailsAgree looks each answered request up in every tenant's trail.
func (w *world) trailsAgree(t *testing.T, lanes []*lane) {
	t.Helper()
	entries := map[string]map[string]int{} // slug -> request id -> entries
	for _, l := range lanes {
		entries[l.Slug] = w.requestsOf(t, l)
	}
	acted := map[string]bool{}
	for _, k := range interleavings() {
		acted[k.name] = k.acted
	}
	looked, misplaced := 0, 0
	for _, l := range lanes {
		for id, kind := range l.traced {
			looked++
			if !placed(entries, l, id, acted[kind]) {
				misplaced++
				assert.Fail(t, "a request is not where it belongs", "%s of %s: %s", kind, l.Slug, id)
			}
		}
	}
	prove.State(t, prove.InterleavedTrails, looked, misplaced)

	// The twins: a request counted to another tenant, and one with two entries.
	a, b, noticed := lanes[0], lanes[1], 0
	for id, kind := range a.traced {
		if !acted[kind] {
			continue
		}
		if !placed(entries, b, id, true) {
			noticed++
		}
		entries[a.Slug][id]++
		if !placed(entries, a, id, true) {
			noticed++
		}
		break
	}
	prove.Plant(t, prove.InterleavedTrails, 2, noticed)
}

// placed tells whether a request left one entry in its own trail, if it acted, and
// none in another's.
func placed(entries map[string]map[string]int, l *lane, id string, acted bool) bool {
	for slug, requests := range entries {
		n := requests[id]
		if slug != l.Slug && n != 0 || slug == l.Slug && acted && n != 1 || slug == l.Slug && n > 1 {
			return false
		}
	}
	return true
}

// notesAgree compares what each tenant has with what it was answered.
func notesAgree(t *testing.T, lanes []*lane) {
	t.Helper()
	tried, wrong := 0, 0
	for i, l := range lanes {
		there := notes(t, l.Live, l.clients[0])
		delete(there, l.notes[0])
		tried += len(l.written)
		found := unlike(l, there)
		wrong += len(found)
		assert.Empty(t, found, l.Slug)
		if i > 0 {
			continue
		}
		// The twins: a note that is gone, and one more.
		for id, body := range there {
			delete(there, id)
			noticed := min(1, len(unlike(l, there)))
			there[id], there["one more"] = body, body
			prove.Plant(t, prove.InterleavedWrites, 2, noticed+min(1, len(unlike(l, there))))
			break
		}
	}
	prove.State(t, prove.InterleavedWrites, tried, wrong)
}

// unlike lists what differs between the notes that are there and those answered for.
func unlike(l *lane, there map[string]string) (wrong []string) {
	for key, id := range l.written {
		if want := l.mark + " " + key; there[id] != want {
			wrong = append(wrong, fmt.Sprintf("%s is %q", key, there[id]))
		}
	}
	for id, body := range there {
		if key, ok := strings.CutPrefix(body, l.mark+" "); !ok || l.written[key] != id {
			wrong = append(wrong, fmt.Sprintf("nobody was answered for %s: %q", id, body))
		}
	}
	return wrong
}
