package api_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/caresphere/caresphere/dataplane/dptest"
	"github.com/caresphere/caresphere/internal/identity"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/tenants"
)

const password = "correct horse battery staple 9"

// account is a person of a real Kratos, driven by its native flows.
type account struct {
	t      *testing.T
	kratos *testkit.KratosServer
	http   *http.Client
	id     tenants.ID
	email  string
	token  string
}

type flow struct {
	ID      string `json:"id"`
	Session struct {
		AAL string `json:"authenticator_assurance_level"`
	}
	Token string `json:"session_token"`
	UI    struct {
		Action string
		Nodes  []struct {
			Attributes struct {
				ID   string
				Text struct{ Text string }
			}
		}
	}
}

func (a *account) call(method, url string, body any) (int, flow) {
	a.t.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		a.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(a.t.Context(), method, url, bytes.NewReader(raw))
	if err != nil {
		a.t.Fatal(err)
	}
	req.Header.Set("Accept", "application/json")
	if method != http.MethodGet {
		req.Header.Set("Content-Type", "application/json")
	}
	if a.token != "" {
		req.Header.Set("X-Session-Token", a.token)
	}
	res, err := a.http.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	var f flow
	_ = json.NewDecoder(res.Body).Decode(&f)
	return res.StatusCode, f
}

// start begins a native flow.
func (a *account) start(path string) flow {
	a.t.Helper()
	status, f := a.call(http.MethodGet, a.kratos.PublicURL+"/self-service/"+path, nil)
	if status != http.StatusOK {
		a.t.Fatalf("starting %s: %d", path, status)
	}
	return f
}

// submit sends fields to a flow and returns the answer.
func (a *account) submit(kind string, f flow, fields m) (int, flow) {
	a.t.Helper()
	return a.call(http.MethodPost, a.kratos.PublicURL+"/self-service/"+kind+"?flow="+f.ID, fields)
}

// signIn opens a session by password alone.
func (a *account) signIn() {
	a.t.Helper()
	a.token = ""
	status, f := a.submit("login", a.start("login/api"), m{"method": "password", "identifier": a.email, "password": password})
	if status != http.StatusOK || f.Token == "" {
		a.t.Fatalf("signing in: %d", status)
	}
	a.token = f.Token
}

// byMail raises the session by a mailed code to what Kratos calls aal2.
func (a *account) byMail() {
	a.t.Helper()
	before := len(a.kratos.AwaitMail(a.t, a.email, 0))
	f := a.start("login/api?aal=aal2")
	a.submit("login", f, m{"method": "code", "identifier": a.email})
	code := a.kratos.AwaitMail(a.t, a.email, before+1)[before].Code
	status, f := a.submit("login", f, m{"method": "code", "identifier": a.email, "code": code})
	if status != http.StatusOK || f.Session.AAL != "aal2" {
		a.t.Fatalf("the mailed code: %d %s", status, f.Session.AAL)
	}
}

// enrol enrols TOTP, which raises the session, and returns the secret.
func (a *account) enrol() string {
	a.t.Helper()
	f := a.start("settings/api")
	secret := ""
	for _, n := range f.UI.Nodes {
		if n.Attributes.ID == "totp_secret_key" {
			secret = n.Attributes.Text.Text
		}
	}
	code, err := totp.GenerateCode(secret, time.Now())
	if err != nil {
		a.t.Fatal(err)
	}
	if status, _ := a.submit("settings", f, m{"method": "totp", "totp_code": code}); status != http.StatusOK {
		a.t.Fatalf("enrolling TOTP: %d", status)
	}
	return secret
}

// TestThreeRealSessions: Kratos calls the second and the third aal2; only the third
// has a second factor.
func TestThreeRealSessions(t *testing.T) {
	kratos := testkit.Kratos(t, testkit.SecondFactorByMail())
	ids, err := identity.Open(identity.Config{PublicURL: kratos.PublicURL, AdminURL: kratos.AdminURL, TLS: kratos.TLS(t)})
	if err != nil {
		t.Fatal(err)
	}
	cell := dptest.Start(t, dptest.WithIdentity(ids))
	org := cell.Tenant(t, "harbor", tenants.Residential)
	nurse := org.Person(t, tenants.RoleNurse, org.North)
	a := &account{t: t, kratos: kratos, email: tenants.NewID().Hex() + "@example.com",
		http: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{TLSClientConfig: kratos.TLS(t)}}}
	status, made := a.call(http.MethodPost, kratos.AdminURL+"/admin/identities", m{
		"schema_id": identity.SchemaID, "traits": m{"email": a.email, "name": "Noor Haddad"},
		"metadata_public":      m{"organization_id": org.ID.String(), "slug": org.Slug},
		"credentials":          m{"password": m{"config": m{"password": password}}},
		"verifiable_addresses": []any{m{"value": a.email, "verified": true, "via": "email", "status": "completed"}},
	})
	if status != http.StatusCreated {
		t.Fatalf("making the identity: %d", status)
	}
	if a.id, err = tenants.ParseID(made.ID); err != nil {
		t.Fatal(err)
	}
	cell.Exec(t, "INSERT INTO "+org.Role+".member (identity_id, email, name, role) VALUES ($1, $2, 'Noor', 'nurse')", a.id, a.email)
	cell.Exec(t, "INSERT INTO "+org.Role+".member_facility (identity_id, facility_id, assigned_by) VALUES ($1, $2, $1)", a.id, org.North)
	as := func() *dptest.Person { return &dptest.Person{ID: a.id, Token: a.token, Tenant: nurse.Tenant} }

	a.signIn()
	expect(t, as(), 403, tenants.KindSecondFactor)
	a.signIn()
	a.byMail()
	expect(t, as(), 403, tenants.KindSecondFactor)
	a.enrol()
	// The answer of a moment ago may still be in the cache.
	eventually(t, func() bool { return as().Do(t, "GET", "/clients", nil).Status == 200 })

	if err := ids.EndSessions(t.Context(), a.id); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return as().Do(t, "GET", "/clients", nil).Status == 401 })
}
