package main

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/testkit"
)

// signInPassword opens a session by password; natively with a token, else in the jar.
func (p *person) signInPassword(t *testing.T, email string, native bool) reply {
	t.Helper()
	kind := "browser"
	if native {
		kind = "api"
	}
	f := readFlowState(p.get("/.ory/self-service/login/" + kind))
	r := p.submit("login", f, "password", "identifier", email, "password", password)
	if native {
		p.token, _ = r.doc["session_token"].(string)
	}
	return r
}

func (p *person) secondFactor(method, field, code string) reply {
	return p.submit("login", p.flow("login?aal=aal2"), method, field, code)
}

func TestSignInByNativeToken(t *testing.T) {
	t.Parallel()
	w := start(t)
	o := w.onboarded(t)
	p := w.person(t)
	r := p.signInPassword(t, o.email, true)
	require.Equal(t, http.StatusOK, r.status, "%s", r.body)
	require.NotEmpty(t, p.token)

	r = p.get("/api/v1/me")
	assert.Equal(t, http.StatusForbidden, r.status, "password alone")
	assert.Equal(t, "second_factor_required", r.kind())

	r = p.secondFactor("totp", "totp_code", codeAt(t, o.secret, 1))
	require.Equal(t, http.StatusOK, r.status, "%s", r.body)
	r = p.get("/api/v1/me")
	assert.Equal(t, http.StatusOK, r.status, "%s", r.body)
	r = p.send(http.MethodGet, "/api/v1/me", "", nil, "X-Session-Token", "", "Authorization", "Bearer "+p.token)
	assert.Equal(t, http.StatusOK, r.status, "the same token as a bearer")

	r = p.send(http.MethodDelete, "/.ory/self-service/logout/api", "", nil)
	assert.Equal(t, http.StatusNoContent, r.status, "%s", r.body)
	assert.Equal(t, http.StatusUnauthorized, p.get("/api/v1/me").status, "after signing out")
	for _, action := range []string{"session.sign_in", "session.second_factor", "session.sign_out"} {
		assert.Equal(t, 1, w.count(t, "SELECT count(*) FROM audit_entry WHERE action = $1 AND outcome = 'ok' AND actor_id = (SELECT identity_id FROM account WHERE email = $2)", action, o.email), action)
	}
}

// The three sessions: without a second factor, with a code mailed twice, with
// TOTP. Kratos itself calls the second one aal2.
func TestOnlyARealSecondFactorCounts(t *testing.T) {
	t.Parallel()
	w := start(t, testkit.SecondFactorByMail())
	o := w.onboardedPastMail(t)

	none := w.person(t)
	none.signInPassword(t, o.email, true)
	r := none.get("/api/v1/me")
	assert.Equal(t, http.StatusForbidden, r.status, "no second factor")
	assert.Equal(t, "second_factor_required", r.kind())

	mailed := w.person(t)
	mailed.signInPassword(t, o.email, true)
	f := w.mailedSecondFactor(t, mailed, o.email)
	r = mailed.get("/api/v1/me")
	assert.Equal(t, http.StatusForbidden, r.status, "a code mailed twice")
	assert.Equal(t, "second_factor_required", r.kind())
	r = mailed.submit("login", f, "code", "identifier", o.email)
	assert.Equal(t, http.StatusUnprocessableEntity, r.status, "our own way to Kratos does not even take the method")

	real := w.person(t)
	real.signInPassword(t, o.email, true)
	r = real.secondFactor("totp", "totp_code", codeAt(t, o.secret, 1))
	require.Equal(t, http.StatusOK, r.status, "%s", r.body)
	assert.Equal(t, http.StatusOK, real.get("/api/v1/me").status, "TOTP")
}

// onboardedPastMail is onboarded where Kratos takes mailed codes as a second factor,
// and therefore wants one before it shows the settings.
func (w *world) onboardedPastMail(t *testing.T) *owner {
	t.Helper()
	o := w.confirmed(t)
	admin := pastTheGate(t, w, "")
	admin.origin = w.customers.AdminURL
	id, _ := o.get("/api/v1/me").at("account.id").(string)
	r := admin.get("/admin/identities/" + id)
	require.Equal(t, http.StatusOK, r.status, "%s", r.body)
	body, err := json.Marshal(map[string]any{"schema_id": "person", "state": "active", "traits": r.doc["traits"], "metadata_public": r.doc["metadata_public"],
		"credentials": map[string]any{"password": map[string]any{"config": map[string]any{"password": password}}}})
	require.NoError(t, err)
	r = admin.send(http.MethodPut, "/admin/identities/"+id, "application/json", body)
	require.Equal(t, http.StatusOK, r.status, "%s", r.body)
	p := w.person(t)
	p.signInPassword(t, o.email, true)
	w.mailedSecondFactor(t, p, o.email)
	o.person = p
	o.enrol(t)
	return o
}

// mailedSecondFactor raises a session to what Kratos calls aal2 by a mailed code.
func (w *world) mailedSecondFactor(t *testing.T, p *person, email string) flowState {
	t.Helper()
	kratos := pastTheGate(t, w, p.token)
	before := len(w.customers.AwaitMail(t, email, 0))
	f := kratos.flow()
	r := kratos.submit(f, "code", "identifier", email)
	require.Equal(t, http.StatusBadRequest, r.status, "asking for the code: %s", r.body)
	code := w.customers.AwaitMail(t, email, before+1)[before].Code
	r = kratos.submit(f, "code", "identifier", email, "code", code)
	require.Equal(t, http.StatusOK, r.status, "%s", r.body)
	require.Equal(t, "aal2", r.at("session.authenticator_assurance_level"), "Kratos counts the mailed code")
	return f
}

// past speaks with Kratos past the gate, as nobody outside can.
type past struct{ *person }

func pastTheGate(t *testing.T, w *world, token string) past {
	t.Helper()
	p := w.person(t)
	p.http.Transport = &http.Transport{TLSClientConfig: w.customers.TLS(t)}
	p.origin, p.token = w.customers.PublicURL, token
	return past{p}
}

func (d past) flow() flowState {
	return readFlowState(d.get("/self-service/login/api?aal=aal2"))
}

func (d past) submit(f flowState, method string, fields ...string) reply {
	body := map[string]any{"method": method}
	for i := 0; i < len(fields); i += 2 {
		body[fields[i]] = fields[i+1]
	}
	return d.post("/self-service/login?flow="+f.id, body)
}

func TestOneTimeCodeCountsOnce(t *testing.T) {
	t.Parallel()
	w := start(t)
	o := w.onboarded(t)
	p := w.person(t)
	p.signInPassword(t, o.email, true)
	for _, spelling := range []string{o.enrolled, " " + o.enrolled + " "} {
		r := p.secondFactor("totp", "totp_code", spelling)
		assert.Equal(t, http.StatusUnprocessableEntity, r.status, "the enrolment's code: %s", r.body)
		assert.Equal(t, []string{"body.totp_code"}, r.fields())
	}
	fresh := codeAt(t, o.secret, 1) // once: the next period has another
	r := p.secondFactor("totp", "totp_code", fresh)
	require.Equal(t, http.StatusOK, r.status, "the allowed twin, a fresh code: %s", r.body)

	q := w.person(t)
	q.signInPassword(t, o.email, true)
	r = q.secondFactor("totp", "totp_code", fresh)
	assert.Equal(t, http.StatusUnprocessableEntity, r.status, "the same code in another session")
	assert.Equal(t, http.StatusForbidden, q.get("/api/v1/me").status)
	assert.Equal(t, 3, w.count(t, "SELECT count(*) FROM audit_entry WHERE action = 'session.second_factor' AND outcome = 'denied' AND detail->>'reason' = 'code_used_before'"))
}

func TestOfCodesAtTheSameMomentOneWins(t *testing.T) {
	t.Parallel()
	w := start(t)
	o := w.onboarded(t)
	const racers = 8
	people := make([]*person, racers)
	flows := make([]flowState, racers)
	for i := range people {
		people[i] = w.person(t)
		require.Equal(t, http.StatusOK, people[i].signInPassword(t, o.email, true).status)
		flows[i] = people[i].flow("login?aal=aal2")
	}
	code := codeAt(t, o.secret, 1)
	var won, lost atomic.Int32
	var wg sync.WaitGroup
	for i := range people {
		wg.Go(func() {
			switch r := people[i].submit("login", flows[i], "totp", "totp_code", code); r.status {
			case http.StatusOK:
				won.Add(1)
			case http.StatusUnprocessableEntity:
				lost.Add(1)
			default:
				t.Errorf("status %d: %s", r.status, r.body)
			}
		})
	}
	wg.Wait()
	assert.EqualValues(t, 1, won.Load())
	assert.EqualValues(t, racers-1, lost.Load())
	full := 0
	for _, p := range people {
		if p.get("/api/v1/me").status == http.StatusOK {
			full++
		}
	}
	assert.Equal(t, 1, full, "sessions with the second factor")
}

func TestRecoveryCodeServesOnce(t *testing.T) {
	t.Parallel()
	w := start(t)
	o := w.onboarded(t)
	f := o.flow("settings")
	r := o.send(http.MethodPost, "/.ory/self-service/settings?flow="+f.id, "application/json",
		[]byte(`{"method":"lookup_secret","lookup_secret_regenerate":true,"csrf_token":"`+f.csrf+`"}`))
	require.Equal(t, http.StatusOK, r.status, "%s", r.body)
	var codes []string
	nodes, _ := r.at("ui.nodes").([]any)
	for _, n := range nodes {
		text, _ := n.(map[string]any)["attributes"].(map[string]any)["text"].(map[string]any)
		context, _ := text["context"].(map[string]any)
		secrets, _ := context["secrets"].([]any)
		for _, s := range secrets {
			code, _ := s.(map[string]any)["text"].(string)
			codes = append(codes, code)
		}
	}
	require.NotEmpty(t, codes)
	r = o.send(http.MethodPost, "/.ory/self-service/settings?flow="+f.id, "application/json",
		[]byte(`{"method":"lookup_secret","lookup_secret_confirm":true,"csrf_token":"`+f.csrf+`"}`))
	require.Equal(t, http.StatusOK, r.status, "%s", r.body)

	p := w.person(t)
	p.signInPassword(t, o.email, true)
	require.Equal(t, http.StatusOK, p.secondFactor("lookup_secret", "lookup_secret", codes[0]).status)
	assert.Equal(t, http.StatusOK, p.get("/api/v1/me").status)
	q := w.person(t)
	q.signInPassword(t, o.email, true)
	assert.Equal(t, http.StatusBadRequest, q.secondFactor("lookup_secret", "lookup_secret", codes[0]).status, "again")
	assert.Equal(t, http.StatusForbidden, q.get("/api/v1/me").status)
}

// inKratos is Kratos' own database, and an account's identity in it.
func (w *world) inKratos(t *testing.T, email string) (conn *pgx.Conn, identity string) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, testkit.Postgres(t).SuperuserDSN("kratos_customers"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(ctx) })
	require.NoError(t, w.super.QueryRow(ctx, "SELECT identity_id::text FROM account WHERE email = $1", email).Scan(&identity))
	return conn, identity
}

// agedInKratos moves a session's times in Kratos' own database.
func (w *world) agedInKratos(t *testing.T, email, column, by string) {
	t.Helper()
	conn, identity := w.inKratos(t, email)
	tag, err := conn.Exec(t.Context(), "UPDATE sessions SET "+column+" = "+column+" - $2::interval WHERE identity_id = $1", identity, by)
	require.NoError(t, err)
	require.NotZero(t, tag.RowsAffected())
}

func TestIdleSessionIsRefusedUntilThePasswordIsGivenAgain(t *testing.T) {
	t.Parallel()
	w := start(t)
	o := w.onboarded(t)
	ctx := context.Background()
	rest := func(pause string) {
		_, err := w.super.Exec(ctx, "UPDATE console_session SET last_seen = now() - $1::interval", pause)
		require.NoError(t, err)
	}
	require.Equal(t, http.StatusOK, o.get("/api/v1/me").status)
	w.agedInKratos(t, o.email, "authenticated_at", "1 hour")
	rest("14 minutes")
	assert.Equal(t, http.StatusOK, o.get("/api/v1/me").status, "within the limit")
	rest("16 minutes")
	r := o.get("/api/v1/me")
	assert.Equal(t, http.StatusUnauthorized, r.status, "past the limit")
	assert.Equal(t, "unauthenticated", r.kind())
	assert.Equal(t, http.StatusUnauthorized, o.get("/api/v1/me").status, "the refusal itself is no use")

	r = o.submit("login", o.flow("login?refresh=true"), "password", "identifier", o.email, "password", password)
	require.Equal(t, http.StatusOK, r.status, "%s", r.body)
	assert.Equal(t, http.StatusOK, o.get("/api/v1/me").status, "the password again")
}

func TestOldSessionIsOver(t *testing.T) {
	t.Parallel()
	w := start(t)
	o := w.onboarded(t)
	w.agedInKratos(t, o.email, "issued_at", "11 hours")
	assert.Equal(t, http.StatusOK, o.get("/api/v1/me").status, "within the absolute limit")
	w.agedInKratos(t, o.email, "issued_at", "2 hours")
	assert.Equal(t, http.StatusUnauthorized, o.get("/api/v1/me").status)
	assert.Equal(t, http.StatusUnauthorized, o.get("/.ory/sessions/whoami").status, "over in Kratos too")
}
