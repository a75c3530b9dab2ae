package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const formType = "application/x-www-form-urlencoded"

// Nobody brings a used code past the guard by a body that two readers read differently.
func TestHostileSubmissionsDoNotPass(t *testing.T) {
	t.Parallel()
	w := start(t)
	o := w.onboarded(t)
	used, next := o.enrolled, codeAt(t, o.secret, 1)
	p := w.person(t)
	require.Equal(t, http.StatusOK, p.signInPassword(t, o.email, true).status)
	f := p.flow("login?aal=aal2")
	path := "/.ory/self-service/login?flow=" + f.id
	codesBefore := w.count(t, "SELECT count(*) FROM totp_used")
	for name, c := range map[string]struct {
		path, contentType, body string
		status                  int
	}{
		"the code twice, as a form":      {path, formType, "method=totp&totp_code=" + used + "&totp_code=" + next, 422},
		"the code twice, as JSON":        {path, "application/json", `{"method":"totp","totp_code":"` + next + `","totp_code":"` + used + `"}`, 422},
		"method twice":                   {path, formType, "method=totp&method=password&totp_code=" + used, 422},
		"another case beside":            {path, "application/json", `{"method":"totp","totp_code":"` + next + `","TOTP_CODE":"` + used + `"}`, 422},
		"another case alone":             {path, "application/json", `{"Method":"totp","Totp_Code":"` + used + `"}`, 422},
		"two methods' fields":            {path, formType, "method=password&identifier=x@example.org&password=x&totp_code=" + used, 422},
		"no method":                      {path, formType, "totp_code=" + used, 422},
		"method in the query":            {path + "&method=totp", formType, "totp_code=" + used, 422},
		"code in the query":              {path + "&totp_code=" + used, formType, "method=totp&totp_code=" + next, 422},
		"the flow in the body":           {path, formType, "method=totp&flow=" + f.id + "&totp_code=" + next, 422},
		"two flows":                      {path + "&flow=" + f.id, formType, "method=totp&totp_code=" + next, 422},
		"no flow":                        {"/.ory/self-service/login", formType, "method=totp&totp_code=" + next, 422},
		"a flow that is no id":           {"/.ory/self-service/login?flow=../x", formType, "method=totp&totp_code=" + next, 422},
		"nested":                         {path, "application/json", `{"method":"totp","totp_code":{"x":"` + used + `"}}`, 422},
		"a number":                       {path, "application/json", `{"method":"totp","totp_code":` + used + `}`, 422},
		"an array":                       {path, "application/json", `{"method":"totp","totp_code":["` + used + `"]}`, 422},
		"null":                           {path, "application/json", `{"method":"totp","totp_code":null}`, 422},
		"other digits":                   {path, "application/json", `{"method":"totp","totp_code":"１２３４５６"}`, 422},
		"a sign":                         {path, "application/json", `{"method":"totp","totp_code":"+` + used[1:] + `"}`, 422},
		"two documents":                  {path, "application/json", `{"method":"totp","totp_code":"` + next + `"}{"totp_code":"` + used + `"}`, 400},
		"text":                           {path, "text/plain", "method=totp&totp_code=" + used, 415},
		"no type":                        {path, "", "method=totp&totp_code=" + used, 415},
		"two types":                      {path, "application/json, " + formType, "method=totp&totp_code=" + used, 415},
		"another charset":                {path, "application/json; charset=utf-7", `{"method":"totp"}`, 415},
		"multipart":                      {path, "multipart/form-data; boundary=x", "--x--", 415},
		"a semicolon":                    {path, formType, "method=totp;totp_code=" + used, 400},
		"a NUL":                          {path, formType, "method=totp&totp_code=%00" + used, 400},
		"invalid UTF-8":                  {path, "application/json", "{\"method\":\"totp\",\"totp_code\":\"\xff\"}", 400},
		"far too large":                  {path, formType, "method=totp&totp_code=" + strings.Repeat("1", 70<<10), 413},
		"too many fields":                {path, formType, manyFields(), 400},
		"the method that does not count": {path, formType, "method=code&identifier=" + o.email, 422},
		"profile":                        {"/.ory/self-service/settings?flow=" + f.id, formType, "method=profile&traits.email=x@example.org", 422},
		"unlinking the second factor":    {"/.ory/self-service/settings?flow=" + f.id, formType, "method=totp&totp_unlink=true", 422},
	} {
		t.Run(name, func(t *testing.T) {
			p.t = t
			r := p.send(http.MethodPost, c.path, c.contentType, []byte(c.body))
			assert.Equal(t, c.status, r.status, "%s", r.body)
			assert.NotContains(t, string(r.body), used)
		})
	}
	p.t = t
	assert.Equal(t, codesBefore, w.count(t, "SELECT count(*) FROM totp_used"), "none got as far as being counted")
	assert.Equal(t, http.StatusForbidden, p.get("/api/v1/me").status)

	for _, c := range []struct{ contentType, body string }{
		{formType, "method=totp&totp_code=" + used}, {"application/json", `{"method":"totp","totp_code":"` + used + `"}`},
	} {
		r := p.send(http.MethodPost, path, c.contentType, []byte(c.body))
		assert.Equal(t, http.StatusUnprocessableEntity, r.status, "well-formed, used")
	}
	r := p.send(http.MethodPost, path, "application/json", []byte(`{"method":"totp","totp_code":" `+next+` "}`))
	require.Equal(t, http.StatusOK, r.status, "the allowed twin: %s", r.body)
}

func manyFields() string {
	var b strings.Builder
	for i := range 40 {
		fmt.Fprintf(&b, "f%d=1&", i)
	}
	return b.String() + "method=totp"
}

func TestOnlyTheListedPartsOfKratosAreReachable(t *testing.T) {
	t.Parallel()
	w := start(t)
	p := w.person(t)
	for _, c := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/.ory/admin/identities", 404}, {"GET", "/.ory/identities", 404}, {"POST", "/.ory/admin/recovery/code", 404},
		{"GET", "/.ory/self-service/registration/browser", 404}, {"POST", "/.ory/self-service/registration", 404},
		{"GET", "/.ory/self-service/login", 404}, {"GET", "/.ory/self-service/methods/oidc/callback/x", 404},
		{"GET", "/.ory/schemas/person", 404}, {"GET", "/.ory/health/ready", 404}, {"GET", "/.ory/version", 404},
		{"GET", "/.ory/sessions/token-exchange", 404}, {"DELETE", "/.ory/sessions/not-an-id", 404},
		{"GET", "/.ory/self-service/../admin/identities", 400}, {"GET", "/.ory//self-service/login/api", 400},
		{"GET", "/.ory/self-service/%6cogin/api", 400}, {"GET", "/.ory/SELF-SERVICE/login/api", 404},
		{"GET", "/.ory/self-service/login/api?return_session_token_exchange_code=true", 422},
		{"GET", "/.ory/self-service/login/api", 200}, {"GET", "/.ory/self-service/login/browser", 200}, {"GET", "/.ory/.well-known/ory/webauthn.js", 200},
	} {
		r := p.send(c.method, c.path, "", nil)
		assert.Equal(t, c.status, r.status, "%s %s: %s", c.method, c.path, r.body)
	}
}

func TestOneRequestNamesOneSession(t *testing.T) {
	t.Parallel()
	w := start(t)
	o := w.onboarded(t)
	p := w.person(t)
	require.Equal(t, http.StatusOK, p.signInPassword(t, o.email, true).status)
	token := p.token
	p.token = ""
	r := p.send(http.MethodGet, "/api/v1/me", "", nil, "X-Session-Token", token, "Authorization", "Bearer another")
	assert.Equal(t, http.StatusBadRequest, r.status, "two tokens")
	r = p.send(http.MethodGet, "/api/v1/me", "", nil, "Authorization", "Basic "+token)
	assert.Equal(t, http.StatusBadRequest, r.status, "another scheme")
	r = p.send(http.MethodGet, "/api/v1/me", "", nil, "Cookie", "caresphere_session=a; caresphere_session=b")
	assert.Equal(t, http.StatusBadRequest, r.status, "two cookies")
	r = p.send(http.MethodGet, "/api/v1/me", "", nil, "Cookie", "caresphere_session=nonsense; other=\"x\"; bad name=1")
	assert.Equal(t, http.StatusUnauthorized, r.status, "a cookie that is no session")
	// A token beside somebody's cookie is the token's session, to the guards and to Kratos.
	r = o.send(http.MethodGet, "/api/v1/me", "", nil, "X-Session-Token", token)
	assert.Equal(t, http.StatusForbidden, r.status, "the token's session has no second factor")
	assert.Equal(t, http.StatusOK, o.get("/api/v1/me").status, "the cookie's has")
}

func TestAnotherSiteCannotPost(t *testing.T) {
	t.Parallel()
	w := start(t)
	o := w.onboarded(t)
	for _, h := range [][]string{{"Origin", "https://evil.example"}, {"Origin", origin, "Sec-Fetch-Site", "cross-site"}, {"Origin", "null"}, {"Origin", "", "Sec-Fetch-Site", "same-site"}} {
		r := o.send(http.MethodPost, "/signout", formType, nil, h...)
		assert.Equal(t, http.StatusForbidden, r.status, "%v", h)
	}
	assert.Equal(t, http.StatusOK, o.get("/api/v1/me").status)
	o.accept = "text/html"
	r := o.form("/signout", nil)
	require.Equal(t, http.StatusSeeOther, r.status)
	o.get(r.header.Get("Location"))
	o.accept = "application/json"
	assert.Equal(t, http.StatusUnauthorized, o.get("/api/v1/me").status, "our own page can")
}

func TestSignInTriesAreLimitedByAccount(t *testing.T) {
	t.Parallel()
	w := start(t)
	o, other := w.onboarded(t), w.onboarded(t)
	p := w.person(t)
	f := readFlowState(p.get("/.ory/self-service/login/api"))
	var wg sync.WaitGroup
	var checked atomic.Int32
	for i := range 10 {
		wg.Go(func() {
			r := p.submit("login", f, "password", "identifier", o.email, "password", fmt.Sprintf("wrong password %d", i))
			// One that found no turn at a busy machine counts as a try all the same.
			if r.status != http.StatusServiceUnavailable {
				checked.Add(1)
				assert.Equal(t, http.StatusBadRequest, r.status, "try %d: %s", i, r.body)
			}
		})
	}
	wg.Wait()
	require.Positive(t, checked.Load())
	for _, spelling := range []string{o.email, strings.ToUpper(o.email), " " + o.email + " "} {
		r := p.submit("login", f, "password", "identifier", spelling, "password", password)
		assert.Equal(t, http.StatusTooManyRequests, r.status, "the right password too, as %q", spelling)
		assert.NotEmpty(t, r.header.Get("Retry-After"))
	}
	assert.Equal(t, http.StatusOK, w.person(t).signInPassword(t, other.email, true).status, "another account")
	w.exec(t, "UPDATE attempt SET window_start = window_start - interval '30 minutes'")
	assert.Equal(t, http.StatusOK, p.signInPassword(t, o.email, true).status, "in the next window")
	assert.Equal(t, int(checked.Load()), w.count(t, "SELECT count(*) FROM audit_entry WHERE action = 'session.sign_in' AND outcome = 'denied' AND detail->>'reason' IS NULL AND organization_id = $1", o.organization))
	assert.Equal(t, 3, w.count(t, "SELECT count(*) FROM audit_entry WHERE action = 'session.sign_in' AND outcome = 'denied' AND detail->>'reason' = 'rate_limited'"))
}

func TestSignInTriesAreLimitedByAddress(t *testing.T) {
	t.Parallel()
	w := startWith(t, func(s *settings) { s.Dev, s.Mail = false, "smtp://127.0.0.1:1?from=a@example.org" })
	p := w.person(t)
	f := readFlowState(p.get("/.ory/self-service/login/api"))
	var limited atomic.Int32
	var wg sync.WaitGroup
	for lane := range 13 {
		wg.Go(func() {
			for i := range 5 {
				if p.submit("login", f, "password", "identifier", fmt.Sprintf("nobody%d-%d@example.org", lane, i), "password", "x").status == http.StatusTooManyRequests {
					limited.Add(1)
				}
			}
		})
	}
	wg.Wait()
	assert.EqualValues(t, 5, limited.Load())
	p.ip = "203.0.113.200"
	r := p.submit("login", f, "password", "identifier", "nobody@example.org", "password", "x")
	assert.Equal(t, http.StatusBadRequest, r.status, "from another address")
}

// How long a refusal takes does not tell whether the address has an account: no
// account, one without a password yet, one with another password.
func TestRefusedPasswordsTakeTheSameTime(t *testing.T) {
	t.Parallel()
	w := start(t)
	invited, set := w.signedUp(t), w.onboarded(t)
	p := w.person(t)
	f := readFlowState(p.get("/.ory/self-service/login/api"))
	for name, email := range map[string]string{"none": "nobody-" + set.email, "invited": invited.email, "set up": set.email} {
		began := time.Now()
		r := p.submit("login", f, "password", "identifier", email, "password", "not the password")
		assert.Equal(t, http.StatusBadRequest, r.status, name)
		assert.GreaterOrEqual(t, time.Since(began), 1100*time.Millisecond, name)
	}
}

func TestSecondFactorTriesAreLimited(t *testing.T) {
	t.Parallel()
	w := start(t)
	o := w.onboarded(t)
	p := w.person(t)
	require.Equal(t, http.StatusOK, p.signInPassword(t, o.email, true).status)
	f := p.flow("login?aal=aal2")
	right := codeAt(t, o.secret, 1)
	wrong := 0
	for i := 100000; wrong < 10; i++ {
		code := fmt.Sprint(i)
		if code == right || code == codeAt(t, o.secret, 0) || code == codeAt(t, o.secret, -1) {
			continue
		}
		require.Equal(t, http.StatusBadRequest, p.submit("login", f, "totp", "totp_code", code).status)
		wrong++
	}
	assert.Equal(t, http.StatusTooManyRequests, p.submit("login", f, "totp", "totp_code", right).status)
	assert.Equal(t, http.StatusTooManyRequests, p.submit("login", f, "lookup_secret", "lookup_secret", "abcdefgh").status, "nor another kind")
	w.exec(t, "UPDATE attempt SET window_start = window_start - interval '30 minutes'")
	r := p.submit("login", f, "totp", "totp_code", codeAt(t, o.secret, 1))
	assert.Equal(t, http.StatusOK, r.status, "in the next window, and the refused code was not used up: %s", r.body)
}

func TestRecoveryIsLimitedAndAnswersTheSame(t *testing.T) {
	t.Parallel()
	w := start(t)
	o := w.onboarded(t)
	p := w.person(t)
	var bodies []string
	for _, email := range []string{o.email, "nobody-" + o.email} {
		f := readFlowState(p.get("/.ory/self-service/recovery/api"))
		for i := range 5 {
			r := p.submit("recovery", f, "code", "email", email)
			require.Equal(t, http.StatusOK, r.status, "try %d: %s", i, r.body)
			bodies = append(bodies, fmt.Sprint(r.at("ui.messages")))
		}
		r := p.submit("recovery", f, "code", "email", email)
		assert.Equal(t, http.StatusTooManyRequests, r.status)
		assert.NotEmpty(t, r.header.Get("Retry-After"))
	}
	for _, b := range bodies {
		assert.Equal(t, bodies[0], b, "known and unknown addresses")
	}
	w.exec(t, "UPDATE attempt SET window_start = window_start - interval '2 hours'")
	f := readFlowState(p.get("/.ory/self-service/recovery/api"))
	assert.Equal(t, http.StatusOK, p.submit("recovery", f, "code", "email", o.email).status, "in the next window")
}

func TestSignUpsAreLimited(t *testing.T) {
	t.Parallel()
	w := start(t)
	p := w.person(t)
	email := unique("many") + "@example.org"
	for range 5 {
		require.Equal(t, http.StatusAccepted, p.post("/api/v1/signups", signUpBody(unique("many"), email)).status)
	}
	before := w.rows(t)
	r := p.post("/api/v1/signups", signUpBody(unique("many"), email))
	assert.Equal(t, http.StatusTooManyRequests, r.status)
	assert.NotEmpty(t, r.header.Get("Retry-After"))
	assert.Equal(t, before, w.rows(t))
	assert.Equal(t, http.StatusAccepted, p.post("/api/v1/signups", signUpBody(unique("many"), unique("x")+"@example.org")).status)
}

// Sign-ups from one IPv6 network share a limit, whatever the addresses in it; the
// trail keeps each address whole.
func TestSignUpsAreLimitedByNetwork(t *testing.T) {
	t.Parallel()
	w := startWith(t, func(s *settings) { s.Dev, s.Mail = false, "smtp://127.0.0.1:1?from=a@example.org" })
	from := func(ip string) int {
		p := w.person(t)
		p.ip = ip
		return p.post("/api/v1/signups", signUpBody(unique("net"), unique("net")+"@example.org")).status
	}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			assert.Equal(t, http.StatusAccepted, from(fmt.Sprintf("2001:db8:1:2::%x", i+1)))
		})
	}
	wg.Wait()
	assert.Equal(t, http.StatusTooManyRequests, from("2001:db8:1:2:aaaa:bbbb:cccc:dddd"))
	assert.Equal(t, http.StatusAccepted, from("2001:db8:1:3::1"), "another network")
	assert.Equal(t, 1, w.count(t, "SELECT count(*) FROM audit_entry WHERE action = 'organization.sign_up' AND ip = '2001:db8:1:2::14'"))
}

func TestNoRecordNoSession(t *testing.T) {
	t.Parallel()
	w := start(t)
	o := w.onboarded(t)
	w.exec(t, "REVOKE INSERT ON audit_entry FROM controlplane")
	w.exec(t, "REVOKE INSERT (id) ON audit_entry FROM controlplane")
	p := w.person(t)
	r := p.signInPassword(t, o.email, true)
	assert.Equal(t, http.StatusServiceUnavailable, r.status)
	assert.Empty(t, p.token)
	assert.NotContains(t, string(r.body), "ory_st_")
	b := w.person(t)
	f := b.flow("login")
	r = b.submit("login", f, "password", "identifier", o.email, "password", password)
	assert.Equal(t, http.StatusServiceUnavailable, r.status)
	for _, k := range b.cookies() {
		assert.NotEqual(t, "caresphere_session", k.Name)
	}
	w.exec(t, "GRANT INSERT ON audit_entry TO controlplane")
	assert.Equal(t, http.StatusOK, p.signInPassword(t, o.email, true).status)
}

func TestFormsOfBrowsersAreAnsweredWithPages(t *testing.T) {
	t.Parallel()
	w := start(t)
	o := w.onboarded(t)
	p := w.person(t)
	p.accept = "text/html"
	r := p.get("/.ory/self-service/login/browser")
	require.Equal(t, http.StatusSeeOther, r.status)
	page, err := url.Parse(r.header.Get("Location"))
	require.NoError(t, err)
	r = p.get(page.RequestURI())
	require.Equal(t, http.StatusOK, r.status)
	csrf := between(string(r.body), `name="csrf_token" value="`, `"`)
	require.NotEmpty(t, csrf)
	post := "/.ory/self-service/login?flow=" + page.Query().Get("flow")
	values := url.Values{"method": {"password"}, "identifier": {o.email}, "password": {"wrong one"}, "csrf_token": {strings.ReplaceAll(csrf, "&#43;", "+")}}
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() { assert.Equal(t, http.StatusSeeOther, p.form(post, values).status) })
	}
	wg.Wait()
	r = p.form(post, values)
	assert.Equal(t, http.StatusTooManyRequests, r.status)
	assert.Contains(t, string(r.body), "Too many tries")
	assert.Contains(t, string(r.body), `value="`+o.email+`"`, "what was typed stays")
	assert.Contains(t, r.header.Get("Content-Security-Policy"), "default-src 'none'")
	assert.NotContains(t, string(r.body), "wrong one")
}

func between(s, from, to string) string {
	_, rest, _ := strings.Cut(s, from)
	out, _, _ := strings.Cut(rest, to)
	return out
}
