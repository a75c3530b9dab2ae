package e2e_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/client"
	"github.com/caresphere/caresphere/internal/devstack"
	"github.com/caresphere/caresphere/tenants"
)

// doubles makes sessions like the operator's at its Kratos, each of its own and each
// good: a one-time code counts once, so that signing in for each would take minutes.
func (f *front) doubles(t *testing.T) func() (id string, x wire) {
	t.Helper()
	ctx, kratos := within(t, 2*time.Minute), f.w.database(t, devstack.OpsKratosDatabase)
	console, token := f.w.wire(t, f.w.OperatorOrigin()), f.w.operator(t).Token()
	return func() (string, wire) {
		id, mine := tenants.NewID().String(), "ory_st_"+word()+word()+word()+word()
		tag, err := kratos.Exec(ctx, `INSERT INTO sessions SELECT (jsonb_populate_record(s, jsonb_build_object('id', $2::text, 'token', $3::text,
			'logout_token', $4::text, 'authenticated_at', now()))).* FROM sessions s WHERE token = $1`, token, id, mine, "ory_lo_"+word()+word())
		require.NoError(t, err)
		require.EqualValues(t, 1, tag.RowsAffected())
		x := console.with("Authorization", "Bearer "+mine)
		a := x.do(t, http.MethodGet, "/api/v1/organizations?limit=1", nil)
		require.Equal(t, http.StatusOK, a.status, "it works until then: %s", a.body)
		return id, x
	}
}

// operatorSessions are bad sessions at the operators' origin.
func (f *front) operatorSessions(t *testing.T) map[string]badSession {
	t.Helper()
	ctx := within(t, 2*time.Minute)
	kratos, control := f.w.database(t, devstack.OpsKratosDatabase), f.w.database(t, devstack.ControlDatabase)
	console, who, double := f.w.wire(t, f.w.OperatorOrigin()), f.w.RunningStack.Operator(), f.doubles(t)
	change := func(sql, id string) {
		t.Helper()
		db := kratos
		if sql == idleOperator {
			db = control
		}
		tag, err := db.Exec(ctx, sql, id)
		require.NoError(t, err)
		require.EqualValues(t, 1, tag.RowsAffected())
	}

	password := client.New(f.w.OperatorOrigin(), client.Options{Roots: f.w.roots})
	t.Cleanup(password.Close)
	require.NoError(t, password.SignInPassword(ctx, who.Email, who.Password))

	id, expired := double()
	change("UPDATE sessions SET expires_at = now() - interval '1 minute' WHERE id = $1", id)
	id, old := double()
	change("UPDATE sessions SET issued_at = now() - interval '13 hours' WHERE id = $1", id)
	id, idle := double()
	change("UPDATE sessions SET authenticated_at = now() - interval '1 day' WHERE id = $1", id)
	change(idleOperator, id)
	id, lowered := double()
	change("UPDATE sessions SET aal = 'aal1', authentication_methods = (SELECT jsonb_agg(x) FROM jsonb_array_elements(authentication_methods) x "+
		"WHERE x->>'aal' = 'aal1') WHERE id = $1", id)
	_, signedOut := double()
	token := signedOut.head.Get("Authorization")[len("Bearer "):]
	a := signedOut.do(t, http.MethodDelete, "/.ory/self-service/logout/api", m{"session_token": token})
	require.Equal(t, http.StatusNoContent, a.status, a.body)

	return map[string]badSession{
		"a password alone":           {console.as(password), http.StatusForbidden},
		"a session without its code": {lowered, http.StatusForbidden},
		"a session that expired":     {expired, http.StatusUnauthorized},
		"a session that is too old":  {old, http.StatusUnauthorized},
		"a session that was idle":    {idle, http.StatusUnauthorized},
		"a session ended at Kratos":  {signedOut, http.StatusUnauthorized},
		"no session":                 {console, http.StatusUnauthorized},
		"a token of no session":      {console.with("Authorization", "Bearer ory_st_"+word()), http.StatusUnauthorized},
		"a token that is none":       {console.with("Authorization", "Bearer ' OR 1=1 --"), http.StatusUnauthorized},
		"a scheme that is none":      {console.with("Authorization", "Basic "+word()), http.StatusUnauthorized},
		"a cookie of no session":     {console.with("Cookie", "caresphere_operator="+word()).with("Origin", f.w.OperatorOrigin()), http.StatusUnauthorized},
		"a customer's token":         {console.as(f.token), http.StatusUnauthorized},
		"a customer's cookies":       {console.as(f.theirs.Owner.Client).with("Origin", f.w.OperatorOrigin()), http.StatusUnauthorized},
	}
}

// idleOperator dates the last use of an operator's session back.
const idleOperator = "UPDATE console_session SET last_seen = now() - interval '1 day' WHERE realm = 'operator' AND session_id = $1"
