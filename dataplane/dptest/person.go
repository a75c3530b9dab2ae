package dptest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caresphere/caresphere/internal/identity"
	"github.com/caresphere/caresphere/tenants"
)

// Person is a member of a tenant with a session.
type Person struct {
	ID, SessionID tenants.ID
	Token         string
	Tenant        *Tenant
}

// SignIn begins the person's session anew, changed as the test wants it.
func (p *Person) SignIn(change func(*identity.Session)) {
	now := time.Now()
	s := identity.Session{ID: p.SessionID, IdentityID: p.ID, OrganizationID: p.Tenant.ID, Slug: p.Tenant.Slug,
		Email: p.ID.String() + "@example.com", Name: "A Person", EmailVerified: true, SecondFactor: true, SecondFactorAt: now,
		IssuedAt: now, AuthenticatedAt: now, ExpiresAt: now.Add(time.Hour), Methods: []string{"password", "totp"}}
	change(&s)
	p.Tenant.cell.People.Set(p.Token, s)
}

// Answer is what came back.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Problem is the answer as a problem.
type Problem struct {
	Type   string `json:"type"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Errors []struct{ Field, Message string }
}

// Kind is the last part of the problem's type.
func (p Problem) Kind() tenants.Kind {
	return tenants.Kind(p.Type[strings.LastIndexByte(p.Type, '/')+1:])
}

// Problem reads the answer as a problem.
func (a Answer) Problem(t testing.TB) (p Problem) {
	t.Helper()
	if err := json.Unmarshal(a.Body, &p); err != nil || p.Type == "" {
		t.Fatalf("not a problem: %d %s", a.Status, a.Body)
	}
	return p
}

// Into decodes the answer, which must have the status.
func (a Answer) Into(t testing.TB, status int, out any) {
	t.Helper()
	if a.Status != status {
		t.Fatalf("answered %d, not %d: %s", a.Status, status, a.Body)
	}
	if out == nil {
		return
	}
	if err := json.Unmarshal(a.Body, out); err != nil {
		t.Fatalf("%v: %s", err, a.Body)
	}
}

// ID is the record's id in the answer, which must be a 2xx.
func (a Answer) ID(t testing.TB) tenants.ID {
	t.Helper()
	var out struct {
		ID tenants.ID `json:"id"`
	}
	if a.Status/100 != 2 {
		t.Fatalf("answered %d: %s", a.Status, a.Body)
	}
	a.Into(t, a.Status, &out)
	return out.ID
}

// Do sends the person's request for a path below the own tenant's prefix. A body
// that is not a string is sent as JSON. headers are pairs.
func (p *Person) Do(t testing.TB, method, path string, body any, headers ...string) Answer {
	t.Helper()
	return p.At(t, p.Tenant.Slug, method, path, body, headers...)
}

// At is Do below another organization's prefix.
func (p *Person) At(t testing.TB, slug, method, path string, body any, headers ...string) Answer {
	t.Helper()
	return p.Tenant.cell.Do(t, method, "/t/"+slug+"/v1"+path, body, append([]string{"Authorization", "Bearer " + p.Token}, headers...)...)
}

// Do sends a request as the router would.
func (c *Cell) Do(t testing.TB, method, path string, body any, headers ...string) Answer {
	t.Helper()
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(b)
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		r = bytes.NewReader(raw)
	}
	req, err := http.NewRequest(method, c.URL+path, r)
	if err != nil {
		t.Fatal(err)
	}
	if r != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Caresphere-Placement-Epoch", strconv.Itoa(Epoch))
	req.Header.Set("X-Real-Ip", "203.0.113.7")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := c.HTTP.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return Answer{Status: res.StatusCode, Header: res.Header, Body: raw}
}

// Actor signs the person in, as the session gate would, and returns who they are
// to the door.
func (n *Tenant) Actor(t testing.TB, p *Person) tenants.Actor {
	t.Helper()
	a, err := n.cell.Door.Authorize(t.Context(), n.ID, p.ID, p.SessionID)
	if err != nil {
		t.Fatal(err)
	}
	actor := tenants.Actor{Kind: tenants.ActorMember, ID: p.ID, TenantID: n.ID, SessionID: p.SessionID, Role: a.Role,
		Facilities: a.Facilities, AuthzVersion: a.Version, IP: "203.0.113.7", Device: "test", RequestID: tenants.NewID().String()}
	if err := n.cell.Door.SignIn(t.Context(), actor); err != nil {
		t.Fatal(err)
	}
	return actor
}
