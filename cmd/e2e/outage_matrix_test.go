package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/demo"
	"github.com/caresphere/caresphere/internal/devstack"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/internal/testkit/prove"
)

// The promises of an outage, in time.
const (
	noLater   = 15 * time.Second // any request ends
	readyIn   = 5 * time.Second  // readiness turns
	recovered = 10 * time.Second // all is as before, without a restart
	// A session that was just seen is believed for as long, and the readiness check of
	// a part that hangs needs its own deadline first.
	settling = 6 * time.Second
)

// part is something that the programs stand on.
type part struct {
	server devstack.Port
	// needs are the requests that cannot be answered without it, all others go on.
	needs []string
	// unready are the programs that say so.
	unready []string
}

// The requests that are tried.
const (
	aRead    = "a nurse reads a record"
	aWrite   = "a nurse writes a note"
	aColdKey = "a tenant whose keys no worker holds is read"
	aPage    = "the sign-up page"
	anAdmin  = "an owner asks the control plane who she is"
)

// parts is the whole matrix: what fails when a part does.
var parts = []part{
	{devstack.PortPostgres, []string{aRead, aWrite, aColdKey, anAdmin}, []string{devstack.ControlPlane, devstack.Provisioner, devstack.WorkerA, devstack.WorkerB}},
	{devstack.PortKratos, []string{aRead, aWrite, aColdKey, anAdmin}, nil},
	{devstack.PortKratosAdmin, nil, nil},
	{devstack.PortControlPlane, []string{aPage, anAdmin}, nil},
	{devstack.PortVault, []string{aColdKey}, []string{devstack.Provisioner}},
	{devstack.PortS3, nil, []string{devstack.Provisioner}},
	{devstack.PortStripe, nil, nil},
}

// fault is a way in which a part can be away, or nearly.
type fault struct {
	plant func(*testkit.Proxy)
	// Of one that is only slow nothing is refused, and everybody is ready. From one that
	// crawls an answer may come in time or not.
	slow, crawls bool
}

// faults are all of them, by what the part does.
var faults = map[string]fault{
	"is down":   {plant: (*testkit.Proxy).Down},
	"hangs":     {plant: (*testkit.Proxy).Hang},
	"resets":    {plant: (*testkit.Proxy).Reset},
	"is cut":    {plant: func(p *testkit.Proxy) { p.CutAfter(40) }},
	"is slow":   {plant: func(p *testkit.Proxy) { p.Delay(300 * time.Millisecond) }, slow: true},
	"is slower": {plant: func(p *testkit.Proxy) { p.Delay(3 * time.Second) }, crawls: true},
}

// besieged is a stack under outages.
type besieged struct {
	*world
	living, cold *demo.Live
	record       record
	coldRecord   record
	requests     map[string]func(ctx context.Context) (reply, error)
	keys         []string // of the notes that were sent
}

func besiege(t *testing.T, w *world) *besieged {
	t.Helper()
	s := &besieged{world: w, living: w.other(t), cold: w.tenant(t, "cold")}
	s.record, s.coldRecord = admit(t, s.living, "Okonkwo"), admit(t, s.cold, "Castellan")
	x := w.wire(t, w.Origin())
	nurse, chilly, owner := x.as(s.living.Nurse.Client), x.as(s.cold.Nurse.Client), x.as(s.living.Owner.Client)
	get := func(x wire, path string) func(context.Context) (reply, error) {
		return func(ctx context.Context) (reply, error) { return x.try(ctx, http.MethodGet, path, nil) }
	}
	s.requests = map[string]func(context.Context) (reply, error){
		aRead:    get(nurse, "/t/"+s.living.Slug+"/v1/clients/"+s.record.client.ID),
		aColdKey: get(chilly, "/t/"+s.cold.Slug+"/v1/clients/"+s.coldRecord.client.ID),
		aPage:    get(x, "/signup"),
		anAdmin:  get(owner, "/api/v1/me"),
		aWrite: func(ctx context.Context) (reply, error) {
			key := word()
			s.keys = append(s.keys, key)
			return s.write(ctx, nurse, key)
		},
	}
	return s
}

func (s *besieged) write(ctx context.Context, nurse wire, key string) (reply, error) {
	return nurse.with("Idempotency-Key", key).try(ctx, http.MethodPost, "/t/"+s.living.Slug+"/v1/clients/"+s.record.client.ID+"/notes",
		m{"shift": "night", "body": "Outage " + key})
}

// ask sends one of the requests and judges that it was served.
func (s *besieged) ask(t *testing.T, name string) (reply, error) {
	a, err := s.requests[name](within(t, noLater))
	if err == nil && a.status >= 300 {
		err = fmt.Errorf("answered %d: %.200s", a.status, a.body)
	}
	return a, err
}

// refusal says what is wrong with how a request ended that cannot be answered now.
func refusal(a reply, took time.Duration) error {
	switch {
	case took > noLater:
		return fmt.Errorf("it took %s", took)
	case a.status < http.StatusBadGateway || a.status > http.StatusGatewayTimeout:
		return fmt.Errorf("answered %d: %.200s", a.status, a.body)
	}
	for _, inner := range []string{"Okonkwo", "Castellan", "dial ", "127.0.0.1", "SQLSTATE", "pgx", "goroutine", ".go:", "vault"} {
		if strings.Contains(a.body, inner) {
			return fmt.Errorf("the answer shows %q: %.200s", inner, a.body)
		}
	}
	if strings.HasPrefix(a.head.Get("Content-Type"), "application/") && a.problem() == "" {
		return fmt.Errorf("no problem document: %.200s", a.body)
	}
	return nil
}

// ready tells whether a program says that it is.
func (s *besieged) ready(t *testing.T, program string) bool {
	a, err := s.wire(t, s.URL(devstack.HealthPort(program))).try(within(t, readyIn), http.MethodGet, "/readyz", nil)
	return err == nil && a.status == http.StatusOK
}

// polled polls a condition until the limit and tells whether it came true.
func polled(limit time.Duration, f func() bool) bool {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for begun := time.Now(); !f(); <-tick.C {
		if time.Since(begun) > limit {
			return false
		}
	}
	return true
}

// TestEachOutageFailsClosedAndPasses takes each part away in each way. A usual run
// draws some of the matrix, the nightly one takes all of it. Nothing runs beside it.
func TestEachOutageFailsClosedAndPasses(t *testing.T) {
	w := full(t)
	s := besiege(t, w)
	type absence struct {
		part
		fault string
	}
	var all []absence
	for _, p := range parts {
		for fault := range faults {
			all = append(all, absence{p, fault})
		}
	}
	if !prove.Nightly() {
		// One that fails requests, one that readiness knows of, one that neither.
		drawn := []absence{}
		for _, want := range []func(absence) bool{
			func(c absence) bool { return c.server == devstack.PortPostgres && !faults[c.fault].slow },
			func(c absence) bool {
				return (c.server == devstack.PortKratos || c.server == devstack.PortVault || c.server == devstack.PortControlPlane) && !faults[c.fault].slow
			},
			func(c absence) bool { return len(c.needs) == 0 || faults[c.fault].slow },
		} {
			some := slices.DeleteFunc(slices.Clone(all), func(c absence) bool { return !want(c) })
			drawn = append(drawn, some[rand.IntN(len(some))])
		}
		all = drawn
	}
	for _, c := range all {
		t.Run(c.server.String()+" "+c.fault, func(t *testing.T) { s.outage(t, c.part, faults[c.fault]) })
	}
	s.nothingLost(t, prove.OutageWrites)
	s.accounted(t)

	// The twins: the judgements of a stack that nothing is done to.
	a, err := s.ask(t, aRead)
	require.NoError(t, err)
	noticed := 0
	if refusal(a, 0) != nil {
		noticed++
	}
	if refusal(reply{status: http.StatusServiceUnavailable, head: http.Header{}, body: `{"detail":"dial tcp 127.0.0.1:5432"}`}, 0) != nil {
		noticed++
	}
	prove.Plant(t, prove.OutageRefused, 2, noticed)
	noticed = 0
	if !polled(time.Second, func() bool { return !s.ready(t, devstack.WorkerA) }) {
		noticed++
	}
	prove.Plant(t, prove.OutageReady, 1, noticed)
	p := s.Proxy(t, devstack.PortPostgres)
	p.Down()
	noticed = 0
	if _, err := s.ask(t, aRead); err != nil {
		noticed++
	}
	prove.Plant(t, prove.OutageServed, 1, noticed)
	noticed = 0
	if !polled(time.Second, func() bool { return s.whole(t) == nil }) {
		noticed++
	}
	prove.Plant(t, prove.OutageRecovered, 1, noticed)
	p.Heal()
	require.True(t, polled(recovered, func() bool { return s.whole(t) == nil }))
}

// whole is nil when every request is served.
func (s *besieged) whole(t *testing.T) error {
	for name := range s.requests {
		if name == aWrite {
			continue
		}
		if _, err := s.ask(t, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (s *besieged) outage(t *testing.T, p part, f fault) {
	pids := s.lives(t)
	require.True(t, polled(30*time.Second, func() bool { return s.whole(t) == nil }), "before: %v", s.whole(t))
	s.forget(t, s.cold)
	under, goOn := s.underWay(t)
	proxy := s.Proxy(t, p.server)
	begun := time.Now()
	f.plant(proxy)
	goOn()
	if f.slow {
		p.needs, p.unready = nil, nil
	}

	// What each request comes to is looked at once nothing is believed from before.
	for _, program := range p.unready {
		if !polled(readyIn, func() bool { return !s.ready(t, program) }) {
			t.Errorf("%s still says that it is ready after %s", program, time.Since(begun))
			prove.State(t, prove.OutageReady, 1, 1)
			continue
		}
		prove.State(t, prove.OutageReady, 1, 0)
	}
	for _, name := range p.needs {
		var why error
		ok := polled(settling, func() bool {
			if name == aColdKey && p.server == devstack.PortVault {
				// A worker that listens again only now, after an outage before, has missed it.
				s.forget(t, s.cold)
			}
			sent := time.Now()
			a, err := s.requests[name](within(t, noLater+time.Second))
			if why = err; err == nil {
				why = refusal(a, time.Since(sent))
			}
			if f.crawls && err == nil && a.status < 300 && time.Since(sent) <= noLater {
				why = nil
			}
			return why == nil
		})
		if !ok {
			t.Errorf("%s: %v", name, why)
		}
		prove.State(t, prove.OutageRefused, 1, count(!ok))
	}
	for name := range s.requests {
		if slices.Contains(p.needs, name) {
			continue
		}
		for range 3 {
			_, err := s.ask(t, name)
			if err != nil {
				t.Errorf("%s is not served meanwhile: %v", name, err)
			}
			prove.State(t, prove.OutageServed, 1, count(err != nil))
		}
	}

	proxy.Heal()
	ended := time.Now()
	var why error
	ok := polled(recovered, func() bool { why = s.whole(t); return why == nil })
	if !ok {
		t.Errorf("%s after its end: %v", time.Since(ended), why)
	}
	for _, program := range p.unready {
		back := polled(recovered, func() bool { return s.ready(t, program) })
		if !back {
			t.Errorf("%s does not say that it is ready again", program)
		}
		prove.State(t, prove.OutageReady, 1, count(!back))
	}
	for program, pid := range pids {
		if now := s.PID(t, program); now != pid {
			t.Errorf("%s was started anew", program)
			ok = false
		}
	}
	prove.State(t, prove.OutageRecovered, 1, count(!ok))
	s.arrived(t, under)
	t.Logf("over after %s", time.Since(ended).Round(time.Millisecond))
}

func count(wrong bool) int {
	if wrong {
		return 1
	}
	return 0
}

// nothingLost sends every note once more under its key, and wants each there once,
// by the same id, with entries for what was answered.
func (s *besieged) nothingLost(t *testing.T, f *prove.Figure) {
	t.Helper()
	nurse := s.wire(t, s.Origin()).as(s.living.Nurse.Client)
	made := map[string]string{}
	for _, key := range s.keys {
		a, err := s.write(within(t, noLater), nurse, key)
		require.NoError(t, err)
		require.Equal(t, http.StatusCreated, a.status, a.body)
		var n struct{ ID string }
		require.NoError(t, json.Unmarshal([]byte(a.body), &n))
		made[key] = n.ID
	}
	there := notes(t, s.living, s.record.client.ID)
	wrong := doubled(made, there)
	for _, w := range wrong {
		t.Error(w)
	}
	prove.State(t, f, len(made), len(wrong))
	for key := range made {
		there["again"] = "Outage " + key
		break
	}
	prove.Plant(t, f, 1, min(1, len(doubled(made, there))))
}

// doubled lists the keys whose note is not there exactly once.
func doubled(made, there map[string]string) (wrong []string) {
	times := map[string]int{}
	for _, body := range there {
		times[body]++
	}
	for key, id := range made {
		if there[id] != "Outage "+key || times["Outage "+key] != 1 {
			wrong = append(wrong, fmt.Sprintf("%s is there %d times", key, times["Outage "+key]))
		}
	}
	return wrong
}
