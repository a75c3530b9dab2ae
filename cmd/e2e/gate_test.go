package e2e_test

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/client"
	"github.com/caresphere/caresphere/internal/demo"
	"github.com/caresphere/caresphere/internal/devstack"
)

// promise is how long after its closing a gate may let a request start that succeeds.
const promise = 5 * time.Second

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// shut checks what came of the requests after the gate was closed at the moment,
// and logs how fast it was.
func shut(t *testing.T, l *load, closed time.Time, what string) {
	t.Helper()
	last, way := l.last()
	after := last.Sub(closed)
	t.Logf("%s: the last request that succeeded (%s) started %s after it; %d were sent since", what, way, after.Round(100*time.Microsecond), l.since(closed))
	require.Less(t, after, promise, "%s: a request (%s) that started %s later succeeded", what, way, after)
	for _, s := range l.all() {
		switch s.status {
		case http.StatusOK, http.StatusCreated, http.StatusForbidden, http.StatusNotFound, http.StatusServiceUnavailable:
		default:
			t.Errorf("%s: %s, %s after the closing, was answered %d (%v)", what, s.way, s.began.Sub(closed), s.status, s.err)
		}
	}
}

// move has the operator suspend, resume or restrict an organization.
func (w *world) move(t *testing.T, l *demo.Live, verb string) {
	t.Helper()
	require.NoError(t, w.operator(t).Do(within(t, 15*time.Second), client.Request{Method: http.MethodPost,
		Path: "/api/v1/organizations/" + l.ID + "/" + verb, Body: map[string]string{"reason": "A test of the gate."}}, nil))
}

// expire moves the expiry of the agreement in force to a moment shortly ahead, as
// if it had been executed a term ago, and returns it. The guards that stand
// against exactly this are taken off as only a superuser can.
func (w *world) expire(t *testing.T, l *demo.Live, in time.Duration) time.Time {
	t.Helper()
	ctx, db := within(t, 15*time.Second), w.database(t, devstack.ControlDatabase)
	var at time.Time
	for _, sql := range []string{"BEGIN", "ALTER TABLE baa DISABLE TRIGGER baa_guard_row"} {
		_, err := db.Exec(ctx, sql)
		require.NoError(t, err)
	}
	require.NoError(t, db.QueryRow(ctx, `UPDATE baa SET expires_at = now() + make_interval(secs => $2) WHERE id = $1 RETURNING expires_at`,
		l.BAA.ID, in.Seconds()).Scan(&at))
	for _, sql := range []string{"ALTER TABLE baa ENABLE ALWAYS TRIGGER baa_guard_row", "COMMIT"} {
		_, err := db.Exec(ctx, sql)
		require.NoError(t, err)
	}
	return at
}

func TestATerminatedAgreementClosesEveryLayer(t *testing.T) {
	t.Parallel()
	w := here(t)
	l := w.tenant(t, "gate")
	r, c := admit(t, l, "Alvarez"), w.credential(t, l)
	ways := w.ways(t, l, r)
	w.opened(t, l, c)
	pound := fire(t, append(ways, ways...)...)
	pound.warm(t, ways...)

	require.NoError(t, w.operator(t).TerminateBAA(within(t, 15*time.Second), l.BAA.ID, "A test of the gate."))
	closed := time.Now()
	pound.watch(t, closed, promise+time.Second)
	shut(t, pound, closed, "termination")
	w.closed(t, l, c)
	w.opened(t, w.other(t), w.credential(t, w.other(t)))

	require.NoError(t, l.Agree(within(t, time.Minute), w.operator(t)))
	w.served(t, l)
	w.opened(t, l, c)
	readable(t, l, r)
}

func TestAnExpiredAgreementClosesByItself(t *testing.T) {
	t.Parallel()
	w := here(t)
	l := w.tenant(t, "term")
	r, c := admit(t, l, "Brown"), w.credential(t, l)

	w.move(t, l, "suspend")
	until(t, promise, "a suspended tenant is refused", func() (bool, string) {
		s := client.StatusOf(l.Nurse.Tenant(l.Slug).Do(within(t, 5*time.Second), http.MethodGet, "/clients", nil, nil))
		return s == http.StatusNotFound, "status " + strconv.Itoa(s)
	})
	w.closed(t, l, c)
	w.move(t, l, "resume")
	w.served(t, l)
	readable(t, l, r)

	ways := w.ways(t, l, r)
	pound := fire(t, ways...)
	pound.warm(t, ways...)
	ends := w.expire(t, l, 4*time.Second)
	pound.watch(t, ends, 2*time.Second)
	shut(t, pound, ends, "expiry")
	last, _ := pound.last()
	require.Less(t, ends.Sub(last), 2*time.Second, "the tenant was served until the end of its term")
	w.closed(t, l, c)

	require.NoError(t, l.Agree(within(t, time.Minute), w.operator(t)))
	w.served(t, l)
	w.opened(t, l, c)
	readable(t, l, r)
}
