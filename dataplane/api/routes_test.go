package api_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/caresphere/caresphere/dataplane/dptest"
	"github.com/caresphere/caresphere/tenants"
)

// place is a tenant with records in its northern facility, as the routes need them.
type place struct {
	*dptest.Tenant
	cell                              *dptest.Cell
	client, contact, note             tenants.ID
	member, grant, session, elsewhere tenants.ID
}

func furnish(t *testing.T, cell *dptest.Cell, slug string) *place {
	t.Helper()
	p := &place{Tenant: cell.Tenant(t, slug, tenants.Residential), cell: cell}
	o := p.Owner
	p.client = o.Do(t, "POST", "/clients", newClient(p.North, "Alvarez")).ID(t)
	p.elsewhere = o.Do(t, "POST", "/clients", newClient(p.South, "Brown")).ID(t)
	p.contact = o.Do(t, "POST", p.at("/contacts"), m{"relationship": "child", "name": "Ines"}).ID(t)
	o.Do(t, "POST", p.at("/allergies"), m{"severity": "severe", "substance": "Penicillin"}).ID(t)
	p.note = o.Do(t, "POST", p.at("/notes"), m{"shift": "day", "body": "Calm."}).ID(t)
	p.member = p.Person(t, tenants.RoleStaff, p.North).ID
	p.grant = p.newGrant(t)
	p.session = o.SessionID
	return p
}

func (p *place) at(part string) string { return "/clients/" + p.client.String() + part }

func (p *place) newGrant(t *testing.T) tenants.ID {
	t.Helper()
	return p.Owner.Do(t, "POST", "/members/"+p.member.String()+"/grants", m{"facility_id": p.South, "reason": "cover"}).ID(t)
}

// newSession is somebody else's session that may be ended.
func (p *place) newSession(t *testing.T) tenants.ID {
	t.Helper()
	other := p.Person(t, tenants.RoleStaff, p.North)
	other.Do(t, "GET", "/session", nil).Into(t, http.StatusOK, nil)
	return other.SessionID
}

// route is one operation with a request that succeeds, and what decides it.
type route struct {
	// id is the operation's, as registered.
	id, method string
	// perm is empty for what every role may.
	perm tenants.Permission
	// path and body make a request against the place; they may prepare.
	path func(t *testing.T, p *place) string
	body func(t *testing.T, p *place) any
	want int
	// scoped tells that the record lies in the northern facility: whoever has
	// the southern one alone gets 404.
	scoped bool
	// alone tells that a body may be sent that names the northern facility.
	ofFacility bool
}

func at(path string) func(*testing.T, *place) string {
	return func(*testing.T, *place) string { return path }
}

func ofClient(part string) func(*testing.T, *place) string {
	return func(_ *testing.T, p *place) string { return p.at(part) }
}

func with(body any) func(*testing.T, *place) any { return func(*testing.T, *place) any { return body } }

func none(*testing.T, *place) any { return nil }

// unique makes names that no earlier request took.
func unique() string { return tenants.NewID().Hex() }

// routes is the whole API, route by route. A registered operation that is missing
// here fails TestEveryOperationIsAccountedFor.
func routes() []route {
	const (
		get, post, put, patch, del = "GET", "POST", "PUT", "PATCH", "DELETE"
	)
	return []route{
		{id: "getSession", method: get, path: at("/session"), body: none, want: 200},
		{id: "listFacilities", method: get, perm: tenants.PermFacilityRead, path: at("/facilities"), body: none, want: 200},
		{id: "createFacility", method: post, perm: tenants.PermFacilityManage, path: at("/facilities"),
			body: func(*testing.T, *place) any { return m{"name": unique()} }, want: 201},
		{id: "getFacility", method: get, perm: tenants.PermFacilityRead, scoped: true,
			path: func(_ *testing.T, p *place) string { return "/facilities/" + p.North.String() }, body: none, want: 200},
		{id: "updateFacility", method: patch, perm: tenants.PermFacilityManage, scoped: true,
			path: func(_ *testing.T, p *place) string { return "/facilities/" + p.North.String() },
			body: func(t *testing.T, p *place) any {
				return m{"version": p.cell.Count(t, "SELECT version::int FROM "+p.Role+".facility WHERE id = $1", p.North), "timezone": "America/Chicago"}
			}, want: 200},
		{id: "listMembers", method: get, perm: tenants.PermMemberRead, path: at("/members"), body: none, want: 200},
		{id: "createMember", method: post, perm: tenants.PermMemberManage, path: at("/members"),
			body: func(_ *testing.T, p *place) any {
				return m{"email": unique() + "@example.com", "name": "New Person", "role": "staff", "facilities": []any{p.North}}
			}, want: 201},
		{id: "getMember", method: get, perm: tenants.PermMemberRead,
			path: func(_ *testing.T, p *place) string { return "/members/" + p.member.String() }, body: none, want: 200},
		{id: "updateMember", method: patch, perm: tenants.PermMemberManage,
			path: func(_ *testing.T, p *place) string { return "/members/" + p.member.String() },
			body: func(t *testing.T, p *place) any {
				return m{"version": p.cell.Count(t, "SELECT authz_version::int FROM "+p.Role+".member WHERE identity_id = $1", p.member), "name": "Other Name"}
			}, want: 200},
		{id: "assignFacilities", method: put, perm: tenants.PermMemberManage,
			path: func(_ *testing.T, p *place) string { return "/members/" + p.member.String() + "/facilities" },
			body: func(_ *testing.T, p *place) any { return m{"facilities": []any{p.North}} }, want: 200},
		{id: "listGrants", method: get, perm: tenants.PermMemberRead,
			path: func(_ *testing.T, p *place) string { return "/members/" + p.member.String() + "/grants" }, body: none, want: 200},
		{id: "createGrant", method: post, perm: tenants.PermGrantManage, ofFacility: true,
			path: func(_ *testing.T, p *place) string { return "/members/" + p.member.String() + "/grants" },
			body: func(_ *testing.T, p *place) any { return m{"facility_id": p.North, "reason": "cover"} }, want: 201},
		{id: "revokeGrant", method: del, perm: tenants.PermGrantManage,
			path: func(t *testing.T, p *place) string { return "/grants/" + p.newGrant(t).String() }, body: none, want: 204},
		{id: "listSessions", method: get, perm: tenants.PermSessionManage, path: at("/sessions"), body: none, want: 200},
		{id: "endSession", method: del, perm: tenants.PermSessionManage,
			path: func(t *testing.T, p *place) string { return "/sessions/" + p.newSession(t).String() }, body: none, want: 204},
		{id: "listClients", method: get, perm: tenants.PermClientRead, path: at("/clients"), body: none, want: 200},
		{id: "createClient", method: post, perm: tenants.PermClientCreate, ofFacility: true, path: at("/clients"),
			body: func(_ *testing.T, p *place) any { return newClient(p.North, "New") }, want: 201},
		{id: "searchClients", method: post, perm: tenants.PermClientRead, path: at("/clients/search"), body: with(m{"family": "Alvarez"}), want: 200},
		{id: "getClient", method: get, perm: tenants.PermClientRead, scoped: true, path: ofClient(""), body: none, want: 200},
		{id: "updateClient", method: patch, perm: tenants.PermClientUpdate, scoped: true, path: ofClient(""),
			body: func(t *testing.T, p *place) any {
				return m{"version": p.cell.Count(t, "SELECT version::int FROM "+p.Role+".client WHERE id = $1", p.client), "phone": "1"}
			}, want: 200},
		{id: "transferClient", method: post, perm: tenants.PermClientTransfer, scoped: true,
			path: func(t *testing.T, p *place) string {
				return "/clients/" + p.Owner.Do(t, "POST", "/clients", newClient(p.North, "Moving")).ID(t).String() + "/transfer"
			},
			body: func(_ *testing.T, p *place) any { return m{"facility_id": p.South, "reason": "step-down"} }, want: 200},
		{id: "listPlacements", method: get, perm: tenants.PermClientRead, scoped: true, path: ofClient("/placements"), body: none, want: 200},
		{id: "listContacts", method: get, perm: tenants.PermClientRead, scoped: true, path: ofClient("/contacts"), body: none, want: 200},
		{id: "createContact", method: post, perm: tenants.PermClientUpdate, scoped: true, path: ofClient("/contacts"),
			body: with(m{"relationship": "friend", "name": "Pat"}), want: 201},
		{id: "listAllergies", method: get, perm: tenants.PermClientRead, scoped: true, path: ofClient("/allergies"), body: none, want: 200},
		{id: "createAllergy", method: post, perm: tenants.PermClientUpdate, scoped: true, path: ofClient("/allergies"),
			body: with(m{"severity": "mild", "substance": "Nuts"}), want: 201},
		{id: "getCareTeam", method: get, perm: tenants.PermClientRead, scoped: true, path: ofClient("/care-team"), body: none, want: 200},
		{id: "setCareTeam", method: put, perm: tenants.PermClientUpdate, scoped: true, path: ofClient("/care-team"),
			body: func(_ *testing.T, p *place) any {
				return m{"members": []any{m{"member_id": p.member, "duty": "aide"}}}
			}, want: 200},
		{id: "listNotes", method: get, perm: tenants.PermNoteRead, scoped: true, path: ofClient("/notes"), body: none, want: 200},
		{id: "createNote", method: post, perm: tenants.PermNoteWrite, scoped: true, path: ofClient("/notes"),
			body: with(m{"shift": "day", "body": "Ate well."}), want: 201},
		{id: "getNote", method: get, perm: tenants.PermNoteRead, scoped: true,
			path: func(_ *testing.T, p *place) string { return "/notes/" + p.note.String() }, body: none, want: 200},
		{id: "searchAudit", method: get, perm: tenants.PermAuditRead, path: at("/audit/entries"), body: none, want: 200},
		{id: "exportAudit", method: get, perm: tenants.PermAuditExport, path: at("/audit/export"), body: none, want: 200},
		{id: "getAuditKeys", method: get, perm: tenants.PermAuditRead, path: at("/audit/keys"), body: none, want: 200},
		// Last: it ends the session that it is asked with.
		{id: "deleteSession", method: del, path: at("/session"), body: none, want: 204},
	}
}

// separate are operations that a test of their own accounts for.
var separate = []string{"probe"}

func TestEveryOperationIsAccountedFor(t *testing.T) {
	cell := dptest.Start(t)
	var known []string
	for _, r := range routes() {
		known = append(known, r.id)
	}
	known = append(known, separate...)
	registered := 0
	for path, item := range cell.API.Huma.OpenAPI().Paths {
		for method, op := range map[string]any{"GET": item.Get, "POST": item.Post, "PUT": item.Put, "PATCH": item.Patch, "DELETE": item.Delete} {
			id := operationID(op)
			if id == "" {
				continue
			}
			registered++
			if !slices.Contains(known, id) {
				t.Errorf("%s %s (%s) is in no table of routes: it is not tested across tenants, facilities and roles", method, path, id)
			}
			if !strings.HasPrefix(path, "/t/{slug}/v1/") {
				t.Errorf("%s lies outside a tenant's prefix", path)
			}
		}
	}
	if registered != len(known) {
		t.Errorf("%d operations are registered, %d are in the table", registered, len(known))
	}
}
