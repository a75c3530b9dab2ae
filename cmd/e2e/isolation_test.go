package e2e_test

import (
	"encoding/json"
	"net/http"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/client"
	"github.com/caresphere/caresphere/internal/demo"
)

type m = map[string]any

// operation is one of an OpenAPI document.
type operation struct {
	id, method, path string
	hasBody          bool
}

// operations reads a document as a customer would.
func operations(t *testing.T, x wire, path string) []operation {
	t.Helper()
	a := x.do(t, http.MethodGet, path, nil)
	require.Equal(t, http.StatusOK, a.status)
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			OperationID string          `json:"operationId"`
			RequestBody json.RawMessage `json:"requestBody"`
		}
	}
	require.NoError(t, json.Unmarshal([]byte(a.body), &doc))
	require.True(t, strings.HasPrefix(doc.OpenAPI, "3.1"), doc.OpenAPI)
	var all []operation
	for path, item := range doc.Paths {
		for method, o := range item {
			all = append(all, operation{id: o.OperationID, method: strings.ToUpper(method), path: path, hasBody: o.RequestBody != nil})
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i].path+all[i].method < all[j].path+all[j].method })
	return all
}

// holdings are a tenant's records, one of each kind that a path or a body names.
type holdings struct {
	*demo.Live
	record
	secret                 string // a family name that occurs nowhere else
	member, grant, session string
}

func furnish(t *testing.T, w *world, l *demo.Live) holdings {
	t.Helper()
	ctx := within(t, time.Minute)
	h := holdings{Live: l, secret: "Secret" + word()}
	h.record = admit(t, l, h.secret)
	o := l.Owner.Tenant(l.Slug)
	var members client.Page[struct{ ID, Email string }]
	require.NoError(t, o.Do(ctx, http.MethodGet, "/members", nil, &members))
	for _, p := range members.Items {
		if p.Email == l.Nurse.Email {
			h.member = p.ID
		}
	}
	require.NotEmpty(t, h.member)
	other, err := o.CreateFacility(ctx, client.Facility{Name: "Annex " + word()}, "annex-"+word())
	require.NoError(t, err)
	var grant struct{ ID string }
	require.NoError(t, o.Do(ctx, http.MethodPost, "/members/"+h.member+"/grants", m{"facility_id": other.ID, "reason": "cover"}, &grant))
	h.grant = grant.ID
	h.session, err = ownSession(t, l.Nurse.Client, l)
	require.NoError(t, err)
	return h
}

// named fills a path with the tenant's own ids. It fails for a kind of record that
// the test does not know, so that a new operation is not left out.
func (h holdings) named(t *testing.T, slug, path string) (string, bool) {
	t.Helper()
	path = strings.ReplaceAll(path, "{slug}", slug)
	if !strings.Contains(path, "{") {
		return path, false
	}
	for part, id := range map[string]string{
		"/facilities/{id}": h.Facility, "/members/{id}": h.member, "/grants/{id}": h.grant, "/sessions/{id}": h.session,
		"/clients/{id}": h.client.ID, "/notes/{id}": h.note.ID, "/baas/{id}": h.BAA.ID, "/organizations/{id}": h.ID,
		// The operators' own records: whose id stands there makes no difference to a customer.
		"/proofs/{id}": h.ID, "/repairs/{id}": h.ID,
	} {
		path = strings.Replace(path, part, strings.Replace(part, "{id}", id, 1), 1)
	}
	require.NotContains(t, path, "{", "teach this test which record the path names")
	return path, true
}

// bodies are a valid body for each operation that takes one, naming the tenant's
// records wherever it names any.
func (h holdings) bodies() map[string]any {
	reason := m{"reason": "A test of isolation."}
	sign := m{"name": "Ann Other", "title": "Director", "authority": "I may.", "consent": true, "intent": true}
	return map[string]any{
		"createFacility":   m{"name": "New " + word()},
		"updateFacility":   m{"version": 1, "timezone": "America/Chicago"},
		"createMember":     m{"email": word() + "@example.com", "name": "New Person", "role": "nurse", "facilities": []string{h.Facility}},
		"updateMember":     m{"version": 1, "name": "Other Name"},
		"assignFacilities": m{"facilities": []string{h.Facility}},
		"createGrant":      m{"facility_id": h.Facility, "reason": "cover"},
		"createClient":     m{"facility_id": h.Facility, "name": m{"given": "Rosa", "family": "New"}, "birth_date": "1948-03-11"},
		"updateClient":     m{"version": 1, "phone": "1"},
		"transferClient":   m{"facility_id": h.Facility, "reason": "step-down"},
		"searchClients":    m{"family": h.secret},
		"createContact":    m{"relationship": "friend", "name": "Pat"},
		"createAllergy":    m{"severity": "mild", "substance": "Nuts"},
		"setCareTeam":      m{"members": []m{{"member_id": h.member, "duty": "aide"}}},
		"createNote":       m{"shift": "day", "body": "Not mine."},
		"draft-baa":        m{},
		"sign-baa":         sign, "countersign-baa": m{"name": "Ann Other", "title": "Director", "consent": true, "intent": true, "document_sha256": h.BAA.DocumentSHA256},
		"terminate-baa": reason, "suspend-organization": reason, "resume-organization": reason, "make-organization-read-only": reason,
		"ask-isolation-proof": m{"tenant": h.Slug}, "ask-isolation-repair": m{"tenant": h.Slug},
		"sign-up": m{"organization": m{"legal_name": "X", "care_setting": "clinic"}, "owner": m{"name": "X", "email": "no address"}},
	}
}

// nothingOf fails when an answer shows anything of the tenant.
func (h holdings) nothingOf(t *testing.T, what string, a reply) {
	t.Helper()
	for _, mine := range []string{h.secret, h.ID, h.Name, h.Facility, h.member, h.grant, h.session, h.client.ID, h.client.RecordNumber,
		h.note.ID, h.note.Body, h.BAA.ID, h.BAA.DocumentSHA256, h.Owner.Email, h.Nurse.Email} {
		assert.NotContains(t, a.body, mine, "%s shows something of the other tenant", what)
	}
}

func refused(a reply) bool {
	return a.status == http.StatusNotFound || a.status == http.StatusUnauthorized || a.status == http.StatusForbidden
}

func TestNoOperationReachesAnotherTenant(t *testing.T) {
	t.Parallel()
	w := here(t)
	theirs, mine := furnish(t, w, w.other(t)), furnish(t, w, w.tenant(t, "stranger"))
	nobody := w.wire(t, w.Origin())
	credentials := map[string]wire{
		"the owner's token":    nobody.as(w.bearer(t, mine.Owner)),
		"the owner's cookies":  nobody.as(mine.Owner.Client),
		"the nurse's cookies":  nobody.as(mine.Nurse.Client),
		"nobody's credentials": nobody,
	}
	all := operations(t, nobody, "/t/openapi.json")
	require.GreaterOrEqual(t, len(all), 35, "the document names the operations")
	bodies, called := theirs.bodies(), map[string]bool{}
	for _, o := range all {
		require.Equal(t, o.hasBody, bodies[o.id] != nil, "teach this test the body of %s", o.id)
		theirPath, _ := theirs.named(t, theirs.Slug, o.path)
		minePath, named := theirs.named(t, mine.Slug, o.path)
		for who, x := range credentials {
			what := o.id + " with " + who
			a := x.do(t, o.method, theirPath, bodies[o.id])
			switch {
			case o.id == "probe":
				assert.True(t, refused(a) || a.status == http.StatusUnprocessableEntity, "%s: %d %s", what, a.status, a.body)
			case who == "nobody's credentials":
				assert.Equal(t, http.StatusUnauthorized, a.status, "%s: %s", what, a.body)
			default:
				assert.Equal(t, http.StatusNotFound, a.status, "%s: %s", what, a.body)
			}
			theirs.nothingOf(t, what, a)
			called[o.id] = true
			if o.id == "deleteSession" || o.id == "probe" {
				continue // it names no record, and would end the session that the others need
			}
			a = x.do(t, o.method, minePath, bodies[o.id])
			if named || o.id == "createClient" {
				assert.True(t, refused(a), "%s at the own path with foreign ids: %d %s", what, a.status, a.body)
			}
			theirs.nothingOf(t, what+" at the own path", a)
		}
		if o.method == http.MethodGet && o.id != "exportAudit" {
			a := nobody.as(theirs.Owner.Client).do(t, o.method, theirPath, nil)
			assert.Equal(t, http.StatusOK, a.status, "the allowed twin of %s: %s", o.id, a.body)
		}
	}
	for _, o := range all {
		assert.True(t, called[o.id], "%s %s is not called across tenants", o.method, o.path)
	}
	readable(t, theirs.Live, theirs.record)
}

func TestNoControlPlaneOperationReachesAnotherOrganization(t *testing.T) {
	t.Parallel()
	w := here(t)
	theirs, mine := furnish(t, w, w.other(t)), w.tenant(t, "outsider")
	public, console := w.wire(t, w.Origin()), w.wire(t, w.OperatorOrigin())
	token := w.bearer(t, mine.Owner)
	sessions := map[string]func(wire) wire{
		"the owner's token":   func(x wire) wire { return x.as(token) },
		"the owner's cookies": func(x wire) wire { return x.as(mine.Owner.Client) },
	}
	for origin, x := range map[string]wire{"the public origin": public, "the operators' origin": console} {
		all := operations(t, x, "/openapi.json")
		require.NotEmpty(t, all)
		called, bodies := map[string]bool{}, theirs.bodies()
		for _, o := range all {
			path, named := theirs.named(t, mine.Slug, o.path)
			require.True(t, !o.hasBody || bodies[o.id] != nil, "teach this test the body of %s", o.id)
			for who, as := range sessions {
				what := o.id + " at " + origin + " with " + who
				a := as(x).do(t, o.method, path, bodies[o.id])
				switch {
				case origin == "the operators' origin":
					assert.True(t, a.status == http.StatusUnauthorized || a.status == http.StatusForbidden, "%s: %d %s", what, a.status, a.body)
				case named:
					assert.Equal(t, http.StatusNotFound, a.status, "%s: %s", what, a.body)
				}
				theirs.nothingOf(t, what, a)
				called[o.id] = true
			}
			if named && o.method == http.MethodGet && origin == "the public origin" {
				a := public.as(theirs.Owner.Client).do(t, o.method, path, nil)
				assert.Equal(t, http.StatusOK, a.status, "the allowed twin of %s: %s", o.id, a.body)
			}
		}
		for _, o := range all {
			assert.True(t, called[o.id], "%s %s is not called across organizations", o.method, o.path)
		}
	}
	w.served(t, theirs.Live)
}

// A browser sends cookies along with whatever a foreign page makes it ask: those
// alone do not change anything. A token is sent by its holder only.
func TestCookiesAloneChangeNothing(t *testing.T) {
	t.Parallel()
	w := here(t)
	l := w.other(t)
	x, body := w.wire(t, w.Origin()), m{"shift": "day", "body": "From a foreign page."}
	r := admit(t, l, "Egwu")
	path := "/t/" + l.Slug + "/v1/clients/" + r.client.ID + "/notes"
	cookies := x.as(l.Nurse.Client)
	for name, from := range map[string]wire{
		"another origin":    cookies.with("Origin", "https://evil.example"),
		"another site":      cookies.with("Origin", "").with("Sec-Fetch-Site", "cross-site"),
		"a sibling's page":  cookies.with("Origin", w.OperatorOrigin()),
		"an opaque origin":  cookies.with("Origin", "null"),
		"the operators' UI": cookies.with("Origin", w.OperatorOrigin()).with("Sec-Fetch-Site", "same-site"),
	} {
		a := from.do(t, http.MethodPost, path, body)
		assert.Equal(t, http.StatusForbidden, a.status, "%s: %s", name, a.body)
	}
	require.Len(t, notes(t, l, r.client.ID), 1)
	require.Equal(t, http.StatusCreated, cookies.with("Sec-Fetch-Site", "same-origin").do(t, http.MethodPost, path, body).status)
	token := x.as(w.bearer(t, l.Nurse))
	a := token.do(t, http.MethodPost, path, body)
	require.Equal(t, http.StatusCreated, a.status, a.body)
	require.Len(t, notes(t, l, r.client.ID), 3)
}
