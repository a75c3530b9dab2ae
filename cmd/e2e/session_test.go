package e2e_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/client"
	"github.com/caresphere/caresphere/internal/demo"
	"github.com/caresphere/caresphere/internal/devstack"
	"github.com/caresphere/caresphere/tenants"
)

// problemOf is the kind of a refusal and its status.
func problemOf(t *testing.T, err error) (int, string) {
	t.Helper()
	var p *client.Problem
	require.ErrorAs(t, err, &p)
	return p.Status, p.Kind()
}

// ownSession asks the data plane who one is, and returns the session's id.
func ownSession(t *testing.T, c *client.Client, l *demo.Live) (string, error) {
	t.Helper()
	var s struct {
		SessionID string `json:"session_id"`
	}
	err := c.Tenant(l.Slug).Do(within(t, 15*time.Second), http.MethodGet, "/session", nil, &s)
	return s.SessionID, err
}

func TestASessionNeedsASecondFactorAndEndsAtOnce(t *testing.T) {
	t.Parallel()
	w := here(t)
	l := w.tenant(t, "session")
	ctx := within(t, 2*time.Minute)

	// By password alone, then with the one-time code.
	c := client.New(w.Origin(), client.Options{Roots: w.roots})
	require.NoError(t, c.SignInPassword(ctx, l.Nurse.Email, l.Nurse.Password))
	for range 4 { // both workers have met it then
		_, err := ownSession(t, c, l)
		status, kind := problemOf(t, err)
		require.Equal(t, http.StatusForbidden, status)
		require.Equal(t, string(tenants.KindSecondFactor), kind)
	}
	// The code of the enrolment was used: the next period's is within tolerance.
	code, err := totp.GenerateCode(l.Nurse.TOTPSecret, time.Now().Add(30*time.Second))
	require.NoError(t, err)
	require.NoError(t, c.SignInTOTP(ctx, code))
	for range 4 {
		_, err := ownSession(t, c, l)
		require.NoError(t, err, "no worker keeps the refusal")
	}
	twice := client.New(w.Origin(), client.Options{Roots: w.roots})
	require.NoError(t, twice.SignInPassword(ctx, l.Nurse.Email, l.Nurse.Password))
	require.Error(t, twice.SignInTOTP(ctx, code), "a code counts once")
	_, err = ownSession(t, twice, l)
	require.Equal(t, http.StatusForbidden, client.StatusOf(err))

	// Signing out ends this session at once and no other of the same person.
	require.NoError(t, c.Tenant(l.Slug).Do(ctx, http.MethodDelete, "/session", nil, nil))
	for range 4 {
		_, err = ownSession(t, c, l)
		require.Equal(t, http.StatusUnauthorized, client.StatusOf(err), "%v", err)
	}
	id, err := ownSession(t, l.Nurse.Client, l)
	require.NoError(t, err)
	require.NotEmpty(t, id)

	// The owner ends the nurse's session: her very next request is refused.
	require.NoError(t, l.Owner.Tenant(l.Slug).Do(ctx, http.MethodDelete, "/sessions/"+id, nil, nil))
	_, err = ownSession(t, l.Nurse.Client, l)
	require.Equal(t, http.StatusUnauthorized, client.StatusOf(err), "%v", err)
	_, err = ownSession(t, l.Owner.Client, l)
	require.NoError(t, err, "the owner's own goes on")
}

func TestAnIdleSessionEnds(t *testing.T) {
	t.Parallel()
	w := here(t)
	l := w.tenant(t, "idle")
	id, err := ownSession(t, l.Nurse.Client, l)
	require.NoError(t, err)
	role, db, ctx := schemaOf(t, l), w.database(t, devstack.CellDatabase), within(t, 30*time.Second)
	back := func(by string) {
		// The guard dates every use by the clock; only a superuser gets past it.
		_, err := db.Exec(ctx, "SET session_replication_role = replica")
		require.NoError(t, err)
		tag, err := db.Exec(ctx, "UPDATE "+role+".member_session SET last_seen = now() - $2::interval WHERE session_id = $1", id, by)
		require.NoError(t, err)
		require.EqualValues(t, 1, tag.RowsAffected())
	}
	var limit string
	require.NoError(t, db.QueryRow(ctx, "SELECT make_interval(secs => idle_timeout_seconds)::text FROM "+role+".tenant_setting").Scan(&limit))

	back("1 minute")
	_, err = ownSession(t, l.Nurse.Client, l)
	require.NoError(t, err, "a minute is no idleness")
	back(limit)
	for range 2 { // it does not come back by being asked again
		_, err = ownSession(t, l.Nurse.Client, l)
		require.Equal(t, http.StatusUnauthorized, client.StatusOf(err), "%v", err)
	}
	_, err = ownSession(t, l.Owner.Client, l)
	require.NoError(t, err, "another session of the tenant goes on")
	fresh := w.bearer(t, l.Nurse)
	_, err = ownSession(t, fresh, l)
	require.NoError(t, err, "the same person signs in anew")
}

func schemaOf(t *testing.T, l *demo.Live) string {
	t.Helper()
	id, err := tenants.ParseID(l.ID)
	require.NoError(t, err)
	return tenants.SchemaName(id)
}
