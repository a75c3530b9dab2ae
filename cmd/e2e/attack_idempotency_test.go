package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/testkit/prove"
)

// unkeyed are the operations whose key is not tried here, with the reason.
var unkeyed = map[string]string{
	"sign-up": "nobody is signed in yet: the answer is the same for everybody and names nothing",
}

// sameKey has two tenants send an operation under one key, with what each may name. It
// returns what is wrong: the second must get a result of its own, and the first its own
// again. Both sides learn the client that they made, on whom the others act.
func (f *front) sameKey(t *testing.T, d *document, o operation, theirs, mine wire, first, second named) (wrong string) {
	t.Helper()
	key := word()
	// The same body but for the records in it, which only their tenant has.
	body, places, err := d.request(o, first, nil)
	require.NoError(t, err)
	raw, err := json.Marshal(body)
	require.NoError(t, err)
	var other any
	require.NoError(t, json.Unmarshal(raw, &other))
	for _, p := range places {
		put(other, p, second[p.kind])
	}
	if o.id == "createMember" {
		other.(m)["email"] = word() + "@example.com" // an address is one person's on the platform
	}
	send := func(x wire, n named, body any) (reply, string) {
		path, _, err := pathFor(o, n["slug"], n)
		require.NoError(t, err)
		a := x.with(idempotencyKey, key).do(t, o.method, path, body)
		var made struct{ ID string }
		_ = json.Unmarshal([]byte(a.body), &made)
		return a, made.ID
	}
	a, made := send(theirs, first, body)
	require.Equal(t, 2, a.status/100, "%s: %s", o.id, a.body)
	require.NotEmpty(t, made, "%s: %s", o.id, a.body)
	b, got := send(mine, second, other)
	switch {
	case b.status != a.status:
		wrong = fmt.Sprintf("%s: the second tenant is answered %d %.300s", o.id, b.status, b.body)
	case got == made || contains(b.body, append(slices.Clone(f.theirs.marks), made)...):
		wrong = fmt.Sprintf("%s: the second tenant is answered with the first's %.300s", o.id, b.body)
	}
	again, same := send(theirs, first, body)
	if again.status != a.status || same != made {
		wrong += fmt.Sprintf(" %s: the first's own repeat is answered %d %.300s", o.id, again.status, again.body)
	}
	if o.id == "createClient" {
		first["client"], second["client"] = made, got
	}
	return wrong
}

// keyed are the operations that take a key, those that make a client first.
func keyed(d *document) (all []operation) {
	for _, o := range d.ops {
		if slices.Contains(o.headers, idempotencyKey) && unkeyed[o.id] == "" {
			all = append(all, o)
		}
	}
	return all
}

// between is a ward's own records, of which the ones named come from the other facility.
func between(w *ward, kinds ...string) named {
	n := named{}
	for kind, id := range w.own {
		n[kind] = id
		if slices.Contains(kinds, kind) {
			n[kind] = w.away[kind]
		}
	}
	return n
}

// keys sends what one tenant has sent, under the same key as another. It adds to both:
// what follows it may rest on nobody's being where they were.
func (f *front) keys(t *testing.T) {
	x := f.w.wire(t, f.w.Origin())
	theirs, mine := x.as(f.theirs.Owner.Client), x.as(f.token)
	first, second := between(f.theirs), between(f.mine)
	tried, wrong := 0, []string(nil)
	for _, d := range []*document{f.control, f.data} {
		for _, o := range keyed(d) {
			from, to := first, second
			if o.id == "transferClient" || o.id == "createGrant" {
				// Where the client and the nurse are not yet.
				from, to = between(f.theirs, "facility"), between(f.mine, "facility")
				from["client"], to["client"] = first["client"], second["client"]
			}
			tried++
			if one := f.sameKey(t, d, o, theirs, mine, from, to); one != "" {
				wrong = append(wrong, one)
			}
		}
	}
	require.GreaterOrEqual(t, tried, 9, "operations that take a key")
	for _, one := range wrong {
		assert.Fail(t, one)
	}
	prove.State(t, prove.ForeignIDs, tried, len(wrong))

	// A store that knows keys by themselves: the second is answered as the first was.
	var mu sync.Mutex
	kept := map[string][]byte{}
	confused := f.w.leak(t, f.w.Origin(), nil, func(r *http.Response) error {
		mu.Lock()
		defer mu.Unlock()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		key := r.Request.Header.Get(idempotencyKey)
		if kept[key] == nil {
			kept[key] = body
		}
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(kept[key])), int64(len(kept[key]))
		r.Header.Set("Content-Length", strconv.Itoa(len(kept[key])))
		return nil
	})
	theirs.base, mine.base = confused, confused
	facility := chosen(f.data, []string{"createFacility"})
	require.Len(t, facility, 1)
	noticed := 0
	if f.sameKey(t, f.data, facility[0], theirs, mine, first, second) != "" {
		noticed++
	}
	prove.Plant(t, prove.ForeignIDs, 1, noticed)
}
