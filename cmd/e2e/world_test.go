package e2e_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/client"
	"github.com/caresphere/caresphere/internal/demo"
	"github.com/caresphere/caresphere/internal/devstack"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/tenants"
)

// world is a running stack and who works in it.
type world struct {
	*testkit.RunningStack
	roots *x509.CertPool

	mu        sync.Mutex
	signedIn  *client.Client
	bystander *demo.Live
}

var (
	worldsMu sync.Mutex
	worlds   = map[string]*world{}
)

func TestMain(m *testing.M) {
	code := m.Run()
	if err := testkit.EndStacks(); err != nil {
		fmt.Fprintln(os.Stderr, "ending the stacks:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// here is the stack of this package: its tests stop parts of it, which the stack
// that other packages share could not bear.
func here(t *testing.T) *world { t.Helper(); return open(t, testkit.Named("e2e")) }

// full is the stack with Vault, S3 and stripe-mock, which it reaches through proxies.
func full(t *testing.T) *world {
	t.Helper()
	return open(t, testkit.Named("e2e"), testkit.Full(), testkit.Proxied())
}

func open(t *testing.T, options ...testkit.StackOption) *world {
	t.Helper()
	s := testkit.Stack(t, options...)
	worldsMu.Lock()
	defer worldsMu.Unlock()
	w, ok := worlds[s.Origin()]
	if !ok {
		w = &world{RunningStack: s, roots: s.Roots(t)}
		worlds[s.Origin()] = w
	}
	return w
}

func (w *world) options() demo.Options {
	// Without the key the demonstration's own step says so.
	key, _ := os.ReadFile(w.Layout().Path("keys", "isolation.pub"))
	return demo.Options{Origin: w.Origin(), Roots: w.roots, Operator: demo.Operator(w.RunningStack.Operator()), IsolationKey: string(key)}
}

// operator is signed in once a stack: a one-time code counts once.
func (w *world) operator(t *testing.T) *client.Client {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.signedIn == nil {
		o := w.RunningStack.Operator()
		c := client.New(o.Origin, client.Options{Roots: w.roots})
		require.NoError(t, c.SignIn(within(t, time.Minute), o.Email, o.Password, o.TOTPSecret), "the operator signs in")
		w.signedIn = c
	}
	return w.signedIn
}

// tenant brings up an organization of the test's own.
func (w *world) tenant(t *testing.T, name string) *demo.Live {
	t.Helper()
	l, err := demo.BringUp(within(t, 2*time.Minute), w.options(), w.operator(t), name+"-"+word())
	require.NoError(t, err)
	return l
}

// other is a live organization that no test harms: the allowed twin of whatever
// happens to another.
func (w *world) other(t *testing.T) *demo.Live {
	t.Helper()
	w.operator(t)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.bystander == nil {
		l, err := demo.BringUp(within(t, 2*time.Minute), w.options(), w.signedIn, "bystander-"+word())
		require.NoError(t, err)
		w.bystander = l
	}
	return w.bystander
}

// database is a superuser's connection, for looking and for planting faults.
func (w *world) database(t *testing.T, name string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(within(t, 10*time.Second), w.Superuser(name))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// certificate is what one of the stack's programs shows to the others.
func (w *world) certificate(t *testing.T, role string) tls.Certificate {
	t.Helper()
	c, err := tls.LoadX509KeyPair(w.Layout().Path("tls", role+".crt"), w.Layout().Path("tls", role+".key"))
	require.NoError(t, err)
	return c
}

// bearer signs a person in anew, by session token.
func (w *world) bearer(t *testing.T, p demo.Person) *client.Client {
	t.Helper()
	c := client.New(w.Origin(), client.Options{Roots: w.roots})
	require.NoError(t, c.SignIn(within(t, time.Minute), p.Email, p.Password, p.TOTPSecret), "%s signs in", p.Email)
	return c
}

// record is what a nurse wrote.
type record struct {
	client client.Person
	note   client.Note
}

// admit has the nurse admit a client and write a note.
func admit(t *testing.T, l *demo.Live, family string) record {
	t.Helper()
	ctx, n := within(t, time.Minute), l.Nurse.Tenant(l.Slug)
	p, err := n.CreateClient(ctx, client.Person{FacilityID: l.Facility, Name: client.PersonName{Given: "Rosa", Family: family},
		BirthDate: "1948-03-11", RecordNumber: "MRN-" + word()}, "admit-"+word())
	require.NoError(t, err)
	note, err := n.CreateNote(ctx, p.ID, client.Note{Shift: "day", Body: family + " slept well."}, "note-"+word())
	require.NoError(t, err)
	return record{client: p, note: note}
}

// readable checks that the nurse reads and finds what was written.
func readable(t *testing.T, l *demo.Live, r record) {
	t.Helper()
	ctx, n := within(t, time.Minute), l.Nurse.Tenant(l.Slug)
	p, err := n.ClientByID(ctx, r.client.ID)
	require.NoError(t, err)
	require.Equal(t, r.client.Name, p.Name)
	note, err := n.NoteByID(ctx, r.note.ID)
	require.NoError(t, err)
	require.Equal(t, r.note.Body, note.Body)
	found, err := n.SearchClients(ctx, r.client.Name.Family)
	require.NoError(t, err)
	require.Len(t, found, 1)
}

// within is the test's context with a deadline.
func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), d)
	t.Cleanup(cancel)
	return ctx
}

// until polls the condition; what it last said is in the failure.
func until(t *testing.T, limit time.Duration, what string, f func() (bool, string)) {
	t.Helper()
	tick := time.NewTicker(40 * time.Millisecond)
	defer tick.Stop()
	for begun := time.Now(); ; <-tick.C {
		ok, why := f()
		if ok {
			return
		}
		if time.Since(begun) > limit {
			t.Fatalf("%s: not within %s: %s", what, limit, why)
		}
	}
}

// ready waits until the whole way works.
func (w *world) ready(t *testing.T) {
	t.Helper()
	c := client.New(w.Origin(), client.Options{Roots: w.roots, Timeout: 5 * time.Second})
	defer c.Close()
	until(t, time.Minute, "the stack is ready", func() (bool, string) {
		err := c.Do(within(t, 5*time.Second), client.Request{Method: "GET", Path: "/readyz"}, nil)
		if err != nil {
			return false, err.Error()
		}
		return true, ""
	})
}

// word is a short random word that is no other test's.
func word() string { return strings.ToLower(rand.Text()[:8]) }

var workers = []string{devstack.WorkerA, devstack.WorkerB}

// requestsOf counts a tenant's audit entries by request id.
func (w *world) requestsOf(t *testing.T, l *lane) map[string]int {
	t.Helper()
	id, err := tenants.ParseID(l.ID)
	require.NoError(t, err)
	rows, err := w.database(t, devstack.CellDatabase).Query(within(t, time.Minute), "SELECT request_id, count(*) FROM "+tenants.SchemaName(id)+".audit_entry GROUP BY request_id")
	require.NoError(t, err)
	found := map[string]int{}
	var (
		request string
		n       int
	)
	_, err = pgx.ForEachRow(rows, []any{&request, &n}, func() error { found[request] = n; return nil })
	require.NoError(t, err)
	return found
}
