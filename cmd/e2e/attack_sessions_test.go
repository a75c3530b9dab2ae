package e2e_test

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/client"
	"github.com/caresphere/caresphere/internal/demo"
	"github.com/caresphere/caresphere/internal/devstack"
	"github.com/caresphere/caresphere/internal/testkit/prove"
)

// hired invites somebody to the victim.
func (f *front) hired(t *testing.T) (client.Member, string) {
	t.Helper()
	email := "hired-" + word() + "@example.com"
	got, err := f.theirs.Owner.Tenant(f.theirs.Slug).CreateMember(within(t, time.Minute), client.NewMember{Email: email, Name: "Hale Hired", Role: "nurse",
		Facilities: []string{f.theirs.Facility}}, email)
	require.NoError(t, err)
	return got, email
}

// joiner is somebody of the victim's with a session of two factors that works.
type joiner struct {
	*client.Client
	id string
}

// crowd has so many people join, at once: each takes hashing of passwords.
func (f *front) crowd(t *testing.T, n int) []joiner {
	t.Helper()
	people, errs := make([]joiner, n), make([]error, n)
	ctx := within(t, 2*time.Minute)
	var wg sync.WaitGroup
	for i := range n {
		who, email := f.hired(t)
		wg.Go(func() {
			people[i].id = who.ID
			people[i].Client, _, _, errs[i] = demo.Join(ctx, f.w.Origin(), client.Options{Roots: f.w.roots}, email)
		})
	}
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	return people
}

var (
	mailedFlow = regexp.MustCompile(`[?&]flow=([0-9a-f-]{36})`)
	mailedCode = regexp.MustCompile(`\b([0-9]{6})\b`)
)

// codeOnly has shown the code from the mail and nothing else.
func (f *front) codeOnly(t *testing.T) *client.Client {
	t.Helper()
	_, email := f.hired(t)
	c := client.New(f.w.Origin(), client.Options{Roots: f.w.roots})
	t.Cleanup(c.Close)
	var mail string
	until(t, 15*time.Second, "the invitation", func() (bool, string) {
		mails, err := c.Outbox(within(t, 10*time.Second), email)
		if err != nil || len(mails) == 0 {
			return false, "no mail"
		}
		mail = mails[0].Body
		return true, ""
	})
	flow := mailedFlow.FindStringSubmatch(mail)
	require.NotNil(t, flow)
	code := mailedCode.FindStringSubmatch(strings.ReplaceAll(mail, flow[1], ""))
	require.NotNil(t, code)
	require.NoError(t, c.PresentCode(within(t, time.Minute), flow[1], code[1]))
	return c
}

// badSession is a session that must not count, with the status that refuses it.
type badSession struct {
	x      wire
	status int
}

// badSessions are such sessions at the customers' origin.
func (f *front) badSessions(t *testing.T) map[string]badSession {
	t.Helper()
	x := f.w.wire(t, f.w.Origin())
	ctx := within(t, 2*time.Minute)
	kratos, cell := f.w.database(t, devstack.KratosDatabase), f.w.database(t, devstack.CellDatabase)

	password := client.New(f.w.Origin(), client.Options{Roots: f.w.roots})
	t.Cleanup(password.Close)
	require.NoError(t, password.SignInPassword(ctx, f.theirs.Nurse.Email, f.theirs.Nurse.Password))

	people := f.crowd(t, 5)
	expired, signedOut, idle, ended, left := people[0], people[1], people[2], people[3], people[4]
	tag, err := kratos.Exec(ctx, "UPDATE sessions SET expires_at = now() - interval '1 minute' WHERE identity_id = $1", expired.id)
	require.NoError(t, err)
	require.NotZero(t, tag.RowsAffected())

	a := x.as(signedOut.Client).with("Accept", "application/json").do(t, http.MethodGet, "/.ory/self-service/logout/browser", nil)
	require.Equal(t, http.StatusOK, a.status, a.body)
	var out struct {
		Token string `json:"logout_token"`
	}
	require.NoError(t, json.Unmarshal([]byte(a.body), &out))
	a = x.as(signedOut.Client).with("Accept", "application/json").do(t, http.MethodGet, "/.ory/self-service/logout?token="+out.Token, nil)
	require.Less(t, a.status, 400, a.body)

	session, err := ownSession(t, idle.Client, f.theirs.Live)
	require.NoError(t, err, "it works until then")
	_, err = cell.Exec(ctx, "SET session_replication_role = replica") // past the guard that dates every use
	require.NoError(t, err)
	_, err = cell.Exec(ctx, "UPDATE "+schemaOf(t, f.theirs.Live)+".member_session SET last_seen = now() - interval '1 day' WHERE session_id = $1", session)
	require.NoError(t, err)

	session, err = ownSession(t, ended.Client, f.theirs.Live)
	require.NoError(t, err, "it works until then")
	require.NoError(t, f.theirs.Owner.Tenant(f.theirs.Slug).Do(ctx, http.MethodDelete, "/sessions/"+session, nil, nil))

	require.NoError(t, left.Tenant(f.theirs.Slug).Do(ctx, http.MethodDelete, "/session", nil, nil))

	return map[string]badSession{
		"a password alone":               {x.as(password), http.StatusForbidden},
		"a mailed code alone":            {x.as(f.codeOnly(t)), http.StatusForbidden},
		"a session that expired":         {x.as(expired.Client), http.StatusUnauthorized},
		"a session that was idle":        {x.as(idle.Client), http.StatusUnauthorized},
		"a session ended by the owner":   {x.as(ended.Client), http.StatusUnauthorized},
		"a session ended by its person":  {x.as(left.Client), http.StatusUnauthorized},
		"a session ended at Kratos":      {x.as(signedOut.Client), http.StatusUnauthorized},
		"no session":                     {x, http.StatusUnauthorized},
		"a token of no session":          {x.with("Authorization", "Bearer ory_st_"+word()), http.StatusUnauthorized},
		"a token that is none":           {x.with("Authorization", "Bearer ' OR 1=1 --"), http.StatusUnauthorized},
		"a scheme that is none":          {x.with("Authorization", "Basic "+word()), http.StatusUnauthorized},
		"a cookie of no session":         {x.with("Cookie", "ory_kratos_session="+word()).with("Origin", f.w.Origin()), http.StatusUnauthorized},
		"an operator's session":          {x.with("Authorization", "Bearer "+f.w.operator(t).Token()), http.StatusUnauthorized},
		"an operator's token as X-Token": {x.with("X-Session-Token", f.w.operator(t).Token()), http.StatusUnauthorized},
	}
}

// ourOwn are the bad sessions that only the data plane ends: for the control plane,
// which keeps no session rows, they end when Kratos' session does.
var ourOwn = map[string]bool{"a session that was idle": true}

// otherwise are the refusals by another status than the session's own, by who asks and
// what: an operation, or every one of a document. Each gives its reason.
var otherwise = map[string]map[string]struct {
	status int
	why    string
}{
	"a scheme that is none": {"the control plane": {http.StatusBadRequest, "it reads a header that names no session as a malformed one, and asks nobody"}},
	"a mailed code alone":   {"get-me": {http.StatusOK, "it tells people who are half signed in, of themselves alone, what to do next"}},
}

// unwelcome are requests of a bad session for each operation of the documents, with
// everything else as it should be. They differ from a good one's by the session alone:
// an answer about the request itself would say that the session had been let in.
func (f *front) unwelcome(t *testing.T, docs []*document, who string, b badSession, ids ...string) []attack {
	t.Helper()
	var list []attack
	for _, d := range docs {
		s := &siege{doc: d, who: who, x: b.x}
		for _, o := range chosen(d, ids) {
			if o.public || d == f.control && ourOwn[who] {
				continue // the probe has a token of its own; nobody has a session when signing up
			}
			status, marks := b.status, f.theirs.marks
			if other, ok := otherwise[who]["the control plane"]; ok && d != f.data {
				status = other.status
			}
			if other, ok := otherwise[who][o.id]; ok {
				status, marks = other.status, nil // what it tells is the asker's own
			}
			path, body, _ := s.make(o, f.theirs.Slug, f.theirs.own, f.theirs.own)
			s.add(o, "the right path", body, o.method, path, marks, isExactly(status), nil)
		}
		require.NoError(t, s.err)
		list = append(list, s.list...)
	}
	return list
}

func isExactly(status int) func(reply) string {
	return func(r reply) string {
		if r.status == status {
			return ""
		}
		return "is not " + http.StatusText(status)
	}
}

func (f *front) sessions(t *testing.T) {
	customers, console := []*document{f.data, f.control}, []*document{f.operators}
	bad, operators := f.badSessions(t), f.operatorSessions(t)
	before := f.w.rows(t, f.theirs.Live)
	tried, in := 0, []string(nil)
	for who, b := range bad {
		got := launch(within(t, f.limit), f.unwelcome(t, customers, who, b))
		tried, in = tried+got.tried, append(in, got.gave...)
	}
	for who, b := range operators {
		got := launch(within(t, f.limit), f.unwelcome(t, console, who, b))
		tried, in = tried+got.tried, append(in, got.gave...)
	}
	for _, name := range changed(before, f.w.rows(t, f.theirs.Live)) {
		in = append(in, "rows changed in "+name)
	}
	for _, one := range in {
		assert.Fail(t, one)
	}
	prove.State(t, prove.BadSessions, tried, len(in))

	// A gate that forgets that a session expired. What is signed already cannot be signed
	// again: only the refusal's own status tells that it was not for the session.
	forgetful := f.w.leak(t, f.w.Origin(), func(r *http.Request) {
		r.Header.Set("Origin", f.w.Origin())
		r.Header.Set("Cookie", f.theirs.Owner.Cookie("/t/"))
	}, nil)
	noticed, planted := 0, []string{"getClient", "sign-baa"}
	b := bad["a session that expired"]
	b.x.base = forgetful
	for _, id := range planted {
		got := launch(within(t, f.limit), f.unwelcome(t, customers, "a session that expired", b, id))
		require.Equal(t, 1, got.tried)
		noticed += min(1, len(got.gave))
	}
	b = operators["a session that expired"]
	b.x.base = f.w.leak(t, f.w.OperatorOrigin(), func(r *http.Request) {
		r.Header.Set("Authorization", "Bearer "+f.w.operator(t).Token())
	}, nil)
	got := launch(within(t, f.limit), f.unwelcome(t, console, "a session that expired", b, "countersign-baa"))
	require.Equal(t, 1, got.tried)
	prove.Plant(t, prove.BadSessions, len(planted)+1, noticed+min(1, len(got.gave)))
}
