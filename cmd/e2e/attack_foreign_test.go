package e2e_test

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/testkit/prove"
	"github.com/caresphere/caresphere/tenants"
)

// claims are headers by which a request might name another tenant, or the way in.
func claims(n named) map[string]string {
	return map[string]string{
		"X-Tenant": n["slug"], "X-Tenant-Id": n["organization"], "X-Organization": n["slug"], "X-Organization-Id": n["organization"],
		"X-Facility-Id": n["facility"], "X-User-Id": n["member"], "X-Forwarded-Host": n["slug"] + ".localhost", "X-Forwarded-Prefix": "/t/" + n["slug"],
		"X-Original-Url": "/t/" + n["slug"] + "/v1/clients", "X-Rewrite-Url": "/t/" + n["slug"] + "/v1/clients", "X-Http-Method-Override": "GET",
		"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Real-Ip": "127.0.0.1", "Forwarded": "for=127.0.0.1;host=" + n["slug"],
		"Caresphere-Placement-Epoch": "1", "Caresphere-Tenant": n["organization"], "Host": n["slug"] + ".localhost",
	}
}

// strays are query parameters that no operation has.
var strays = map[string]string{
	"tenant": "slug", "tenant_id": "organization", "slug": "slug", "organization_id": "organization", "facility_id": "facility", "client_id": "client", "id": "client", "as": "member",
}

// endsItself is the operation after which its session is gone: at its own path it
// is left to the twins, which call it last.
const endsItself = "deleteSession"

// siege makes the attacks of one session on what it must not reach.
type siege struct {
	doc  *document
	who  string
	x    wire
	own  named
	list []attack
	turn int
	err  error
}

func (s *siege) add(o operation, what string, body any, method, path string, marks []string, judge func(reply) string, absent *attack) {
	if o.id == "searchAudit" || o.id == "exportAudit" {
		// The attacker's own trail names what the attacker asked for: ids, and they are no news.
		marks = slices.DeleteFunc(slices.Clone(marks), func(mark string) bool { _, err := tenants.ParseID(mark); return err == nil })
	}
	a := attack{what: o.id + ", " + what + ", with " + s.who, x: s.x, method: method, path: path, body: body, marks: marks, judge: judge, absent: absent}
	if absent != nil {
		absent.x, absent.method = s.x, method
	}
	s.list = append(s.list, a)
}

// make returns the operation's path and body with the own records, or n in place of
// those in the path.
func (s *siege) make(o operation, slug string, inPath, inBody named) (string, any, []place) {
	path, _, err := pathFor(o, slug, inPath)
	if err = errors.Join(err, o.unknown()); err != nil && s.err == nil {
		s.err = err
	}
	body, places, err := s.doc.request(o, inBody, nil)
	if err != nil && s.err == nil {
		s.err = err
	}
	return path, body, places
}

// another puts the other tenant's name into the path, with its records and with
// headers that claim it. It must look like a tenant that does not exist.
func (s *siege) another(o operation, theirs named, marks []string) {
	path, body, _ := s.make(o, theirs["slug"], theirs, theirs)
	if path == o.path {
		return // no tenant stands in it
	}
	nobody, _, _ := s.make(o, nothing()["slug"], theirs, theirs)
	if o.id == "probe" {
		s.add(o, "at another tenant's path", body, o.method, path, marks, isRefused, nil)
		return
	}
	s.add(o, "at another tenant's path", body, o.method, path, marks, isNotFound, &attack{path: nobody, body: body})
	s.turn++
	own := claims(s.own) // they claim that it is the attacker's
	for i, name := range slices.Sorted(maps.Keys(own)) {
		if (i+s.turn)%prove.Size(4, 1) != 0 {
			continue // another operation takes its turn with this one
		}
		plain := s.x
		s.x = plain.with(name, own[name])
		s.add(o, "at another tenant's path with "+name, body, o.method, path, marks, isRefused, nil)
		s.x = plain
	}
}

// foreign puts records into each place of an own request, one at a time.
func (s *siege) foreign(o operation, theirs named, marks []string) {
	none := nothing()
	path, body, _ := s.make(o, s.own["slug"], s.own, s.own)
	at, kind, err := pathFor(o, s.own["slug"], theirs)
	if err == nil && kind != "" && theirs[kind] != "" {
		absent, _, _ := s.make(o, s.own["slug"], none, s.own)
		s.add(o, "a foreign id in the path", body, o.method, at, marks, isRefused, &attack{path: absent, body: body})
	}
	_, _, places := s.make(o, s.own["slug"], s.own, s.own)
	for _, p := range places {
		if theirs[p.kind] == "" {
			continue
		}
		bodies := [2]any{}
		for i, n := range []named{theirs, none} {
			b, _, err := s.doc.request(o, s.own, &p)
			if err != nil {
				s.err = err
				return
			}
			put(b, p, n[p.kind])
			bodies[i] = b
		}
		judge := isNothingDone
		if o.id == "searchClients" {
			judge = anything // where to begin a page is no record
		}
		s.add(o, "a foreign id in the body at "+p.String(), bodies[0], o.method, path, marks, judge, &attack{path: path, body: bodies[1]})
	}
	for _, name := range o.query {
		if kind := kinds[name]; kind != "" && theirs[kind] != "" {
			s.add(o, "a foreign id in the query at "+name, body, o.method, path+"?"+name+"="+theirs[kind], marks, anything,
				&attack{path: path + "?" + name + "=" + none[kind], body: body})
		}
	}
	if o.id == endsItself || o.public {
		return
	}
	for name, kind := range strays {
		if theirs[kind] == "" {
			continue
		}
		judge := isNothingDone
		if o.method == http.MethodGet {
			judge = anything
		}
		if !slices.Contains(o.query, name) {
			s.add(o, "a foreign id in an unknown query "+name, body, o.method, path+"?"+name+"="+theirs[kind], marks, judge, nil)
		}
	}
	if o.method != http.MethodGet {
		return // a write to the own place; another's place is tried with every header
	}
	for name, value := range claims(theirs) {
		if theirs["slug"] == "" && name != "X-Facility-Id" {
			continue // another facility is not another tenant
		}
		plain := s.x
		s.x = plain.with(name, value)
		s.add(o, "a foreign claim in "+name, body, o.method, path, marks, anything, nil)
		s.x = plain
	}
}

func (s *siege) ready(t *testing.T) []attack {
	t.Helper()
	require.NoError(t, s.err)
	require.NotEmpty(t, s.list)
	return s.list
}

// besieged are the attacks on the victim at an address: by another tenant's owner and
// nurse on everything, and by its own nurse on the facility that she does not have.
func (f *front) besieged(t *testing.T, base string, ids ...string) []attack {
	t.Helper()
	var list []attack
	x := f.w.wire(t, base)
	for who, as := range map[string]wire{
		"another tenant's owner's token": x.as(f.token), "another tenant's nurse's cookies": x.as(f.mine.Nurse.Client),
	} {
		data := &siege{doc: f.data, who: who, x: as, own: f.mine.own}
		for _, o := range chosen(f.data, ids) {
			data.another(o, f.theirs.own, f.theirs.marks)
			data.foreign(o, f.theirs.own, f.theirs.marks)
		}
		list = append(list, data.ready(t)...)
		control := &siege{doc: f.control, who: who, x: as, own: f.mine.own}
		for _, o := range chosen(f.control, ids) {
			control.foreign(o, f.theirs.own, f.theirs.marks)
		}
		require.NoError(t, control.err)
		list = append(list, control.list...)
	}
	nurse := &siege{doc: f.data, who: "the nurse of another facility", x: x.as(f.theirs.Nurse.Client), own: f.theirs.own}
	for _, o := range chosen(f.data, ids) {
		nurse.foreign(o, f.theirs.away, f.theirs.marksAway)
	}
	return append(list, nurse.ready(t)...)
}

// chosen are the operations with the ids, or all.
func chosen(d *document, ids []string) []operation {
	if len(ids) == 0 {
		return d.ops
	}
	var out []operation
	for _, o := range d.ops {
		for _, id := range ids {
			if o.id == id {
				out = append(out, o)
			}
		}
	}
	return out
}

func (f *front) foreignIDs(t *testing.T) {
	before := f.w.rows(t, f.theirs.Live)
	got := launch(within(t, f.limit), f.besieged(t, f.w.Origin()))
	// The operators' origin knows no customer's session at all.
	console := f.w.wire(t, f.w.OperatorOrigin())
	var list []attack
	for who, x := range map[string]wire{"a customer's token": console.as(f.token), "a customer's cookies": console.as(f.mine.Owner.Client), "no session": console} {
		s := &siege{doc: f.operators, who: who, x: x}
		for _, o := range f.operators.ops {
			path, body, _ := s.make(o, f.theirs.Slug, f.theirs.own, f.theirs.own)
			s.add(o, "at the operators' origin", body, o.method, path, f.theirs.marks, isRefused, nil)
		}
		list = append(list, s.ready(t)...)
	}
	more := launch(within(t, f.limit), list)
	got.tried, got.gave = got.tried+more.tried, append(got.gave, more.gave...)
	for _, name := range changed(before, f.w.rows(t, f.theirs.Live)) {
		got.gave = append(got.gave, "rows changed in "+name)
	}
	for _, gave := range got.gave {
		assert.Fail(t, gave)
	}
	for _, differs := range got.differs {
		assert.Fail(t, differs)
	}
	prove.State(t, prove.ForeignIDs, got.tried, len(got.gave))
	prove.State(t, prove.DeniedAsAbsent, got.pairs, len(got.differs))
}

// leaks plants what the attacks must notice.
func (f *front) leaks(t *testing.T) {
	ctx := within(t, f.limit)
	// A router that takes one tenant's path and session for another's.
	swapped := f.w.leak(t, f.w.Origin(), func(r *http.Request) {
		r.URL.Path = strings.ReplaceAll(r.URL.Path, f.mine.Slug, f.theirs.Slug)
		r.Header.Del("Authorization")
		r.Header.Set("Origin", f.w.Origin())
		r.Header.Set("Cookie", f.theirs.Owner.Cookie("/t/"))
	}, nil)
	before := f.w.rows(t, f.theirs.Live)
	got := launch(ctx, f.besieged(t, swapped, "getClient", "listClients"))
	noticed := min(1, len(got.gave))
	launch(ctx, f.besieged(t, swapped, "createNote"))
	noticed += min(1, len(changed(before, f.w.rows(t, f.theirs.Live))))
	prove.Plant(t, prove.ForeignIDs, 2, noticed)

	// A worker that says 403 where a record is another's.
	candid := f.w.leak(t, f.w.Origin(), nil, func(r *http.Response) error {
		if r.StatusCode == http.StatusNotFound && contains(r.Request.URL.Path, f.theirs.own["client"], f.theirs.away["client"]) {
			r.StatusCode, r.Status = http.StatusForbidden, "403 Forbidden"
		}
		return nil
	})
	got = launch(ctx, f.besieged(t, candid, "getClient"))
	noticed = min(1, len(got.differs))
	// One that says 404 in other words.
	hinting := f.w.leak(t, f.w.Origin(), nil, func(r *http.Response) error {
		if r.StatusCode != http.StatusNotFound || !contains(r.Request.URL.Path, f.theirs.own["client"], f.theirs.away["client"]) {
			return nil
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		body = bytes.Replace(body, []byte(`"detail":"`), []byte(`"detail":"not yours: `), 1)
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		r.Header.Set("Content-Length", strconv.Itoa(len(body)))
		return nil
	})
	got = launch(ctx, f.besieged(t, hinting, "getClient"))
	prove.Plant(t, prove.DeniedAsAbsent, 2, noticed+min(1, len(got.differs)))
}

// twins are the requests that the refusals stand beside: with the right session each
// operation gets through to its action. It destroys what it is called on.
func (f *front) twins(t *testing.T) {
	x := f.w.wire(t, f.w.Origin())
	owner := x.as(f.theirs.Owner.Client)
	for _, d := range []*document{f.control, f.data} {
		var last []operation
		for _, o := range d.ops {
			switch {
			case elsewhere[o.id] != "":
			case o.id == endsItself:
				last = append(last, o)
			default:
				f.reaches(t, d, o, owner)
			}
		}
		for _, o := range last {
			f.reaches(t, d, o, owner)
		}
	}
}

// elsewhere are the operations whose allowed twin lies in another test, because it
// would destroy more than the victim or needs more than a session.
var elsewhere = map[string]string{
	"probe":              "the isolation proof's own probes, cmd/e2e's demonstration",
	"sign-up":            "every test that brings an organization up",
	"sign-baa":           "every test that brings an organization up",
	"terminate-baa":      "the tests of the gate",
	"retry-provisioning": "the tests of provisioning: nothing is there to retry",
}

func (f *front) reaches(t *testing.T, d *document, o operation, x wire) {
	t.Helper()
	path, _, err := pathFor(o, f.theirs.Slug, f.theirs.own)
	require.NoError(t, err)
	body, _, err := d.request(o, f.theirs.own, nil)
	require.NoError(t, err)
	if o.id == "transferClient" {
		body.(m)["facility_id"] = f.theirs.away["facility"] // where the client is not yet
	}
	a := x.do(t, o.method, path, body)
	reached := a.status/100 == 2 || o.method != http.MethodGet && a.status == http.StatusConflict
	assert.True(t, reached, "the allowed twin of %s: %d %.300s", o.id, a.status, a.body)
}
