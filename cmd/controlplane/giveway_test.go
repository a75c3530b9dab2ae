package main

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// confirms uses a mailed code in a browser of its own and returns who that is then.
func (w *world) confirms(t *testing.T, flow, code string) reply {
	t.Helper()
	p := w.person(t)
	p.submit("recovery", flowState{id: flow}, "code", "code", code)
	return p.get("/api/v1/me")
}

// A stranger signs up with somebody's address and the name of their organization:
// whoever holds the mailbox has both all the same. A confirmed sign-up is the twin.
func TestUnconfirmedSignUpGivesWay(t *testing.T) {
	t.Parallel()
	w := start(t)
	squatted := w.signedUp(t)
	_, oldFlow, oldCode := squatted.letter(squatted.email)

	holder := w.person(t)
	r := holder.post("/api/v1/signups", signUpBody(squatted.slug, squatted.email))
	require.Equal(t, http.StatusAccepted, r.status, "%s", r.body)
	assert.Equal(t, squatted.slug, r.doc["slug"], "the short name is free for the same address")
	template, flow, code := holder.letter(squatted.email)
	require.Equal(t, "invitation", template)
	assert.Equal(t, http.StatusUnauthorized, w.confirms(t, oldFlow, oldCode).status, "the older letter opens nothing")
	me := w.confirms(t, flow, code)
	require.Equal(t, http.StatusOK, me.status, "%s", me.body)
	assert.Equal(t, r.doc["organization_id"], me.at("organization.id"))

	assert.Equal(t, 1, w.count(t, "SELECT count(*) FROM account WHERE email = $1", squatted.email))
	assert.Equal(t, 1, w.count(t, "SELECT count(*) FROM organization WHERE id = $1::uuid AND state = 'closed' AND slug LIKE '%~%'", squatted.organization))
	for action, of := range map[string]any{"organization.sign_up_released": squatted.organization, "account.withdrawn": squatted.organization, "organization.sign_up": r.doc["organization_id"]} {
		assert.Equal(t, 1, w.count(t, "SELECT count(*) FROM audit_entry WHERE action = $1 AND outcome = 'ok' AND organization_id = $2::text::uuid AND request_id IS NOT NULL", action, of), action)
	}

	again := holder.post("/api/v1/signups", signUpBody(squatted.slug, squatted.email))
	assert.Equal(t, http.StatusConflict, again.status, "a confirmed sign-up keeps its short name")
	require.Equal(t, http.StatusAccepted, holder.post("/api/v1/signups", signUpBody(unique("late"), squatted.email)).status)
	template, _, _ = holder.letter(squatted.email)
	assert.Equal(t, "already_registered", template, "and its address")
	assert.Equal(t, 1, w.count(t, "SELECT count(*) FROM account a JOIN organization o ON o.id = a.organization_id WHERE a.email = $1 AND o.state = 'pending'", squatted.email))
}

func TestUnconfirmedSignUpGivesWayToAnInvitation(t *testing.T) {
	t.Parallel()
	w := start(t)
	clinic, squatted := w.onboarded(t), w.signedUp(t)
	_, oldFlow, oldCode := squatted.letter(squatted.email)
	worker := w.process(t, "dataplane")
	r := worker.post("/internal/v1/invitations", map[string]any{"organization_id": clinic.organization, "email": squatted.email, "name": "Nia Nurse"})
	require.Equal(t, http.StatusOK, r.status, "%s", r.body)
	template, flow, code := squatted.letter(squatted.email)
	require.Equal(t, "member_invitation", template)
	assert.Equal(t, http.StatusUnauthorized, w.confirms(t, oldFlow, oldCode).status, "the older letter opens nothing")
	me := w.confirms(t, flow, code)
	require.Equal(t, http.StatusOK, me.status, "%s", me.body)
	assert.Equal(t, clinic.organization, me.at("organization.id"))
	assert.Equal(t, false, me.at("account.owner"))
	assert.Equal(t, 1, w.count(t, "SELECT count(*) FROM organization WHERE id = $1::uuid AND state = 'closed'", squatted.organization))
	for _, action := range []string{"organization.sign_up_closed", "account.withdrawn"} {
		assert.Equal(t, 1, w.count(t, "SELECT count(*) FROM audit_entry WHERE action = $1 AND organization_id = $2::uuid AND actor_kind = 'system'", action, squatted.organization), action)
	}
	// Who was invited and has not come yet does not give way to a stranger.
	waiting := unique("waiting") + "@example.org"
	require.Equal(t, http.StatusOK, worker.post("/internal/v1/invitations", map[string]any{"organization_id": clinic.organization, "email": waiting, "name": "Wen Waiting"}).status)
	require.Equal(t, http.StatusAccepted, w.person(t).post("/api/v1/signups", signUpBody(unique("stranger"), waiting)).status)
	assert.Equal(t, 1, w.count(t, "SELECT count(*) FROM account WHERE email = $1 AND organization_id = $2::uuid", waiting, clinic.organization))
}

// What becomes of a short name tells nobody whether the address has an account.
func TestShortNameTellsNothingOfTheAddress(t *testing.T) {
	t.Parallel()
	w := start(t)
	known := w.confirmed(t)
	for name, email := range map[string]string{"an account": known.email, "none": unique("nobody") + "@example.org"} {
		p := w.person(t)
		slug := unique("watched")
		free := func() int {
			return p.post("/api/v1/signups", signUpBody(slug, unique("watcher")+"@example.org")).status
		}
		require.Equal(t, http.StatusAccepted, p.post("/api/v1/signups", signUpBody(slug, email)).status, name)
		assert.Equal(t, http.StatusConflict, free(), "%s: taken", name)
		require.Equal(t, http.StatusAccepted, p.post("/api/v1/signups", signUpBody(slug, email)).status, "%s: the same again", name)
		assert.Equal(t, http.StatusConflict, free(), "%s: taken again", name)
		require.Equal(t, http.StatusAccepted, p.post("/api/v1/signups", signUpBody(unique("next"), email)).status, name)
		assert.Equal(t, http.StatusAccepted, free(), "%s: let go", name)
	}
}

func TestUnconfirmedSignUpsLapse(t *testing.T) {
	t.Parallel()
	w := start(t)
	ctx := context.Background()
	idle, fresh, kept := w.signedUp(t), w.signedUp(t), w.confirmed(t)
	quiet := unique("quiet")
	require.Equal(t, http.StatusAccepted, idle.post("/api/v1/signups", signUpBody(quiet, kept.email)).status)
	w.exec(t, "UPDATE organization SET sign_up_lapses_at = now() - interval '1 second' WHERE slug IN ($1, $2)", idle.slug, quiet)
	// What was never open to lapsing does not, however old it is.
	w.exec(t, "UPDATE organization SET created_at = now() - interval '1 year'")
	_, flow, code := idle.letter(idle.email)
	var identity string
	require.NoError(t, w.super.QueryRow(ctx, "SELECT identity_id::text FROM account WHERE email = $1", idle.email).Scan(&identity))

	require.NoError(t, w.plane.members.Lapse(ctx))
	before := w.rows(t)
	require.NoError(t, w.plane.members.Lapse(ctx))
	assert.Equal(t, before, w.rows(t), "once")

	assert.Equal(t, http.StatusUnauthorized, w.confirms(t, flow, code).status, "its letter opens nothing")
	assert.Zero(t, w.count(t, "SELECT count(*) FROM account WHERE email = $1", idle.email))
	_, err := w.plane.customers.ids.Find(ctx, idle.email)
	require.Error(t, err, "the identity is gone too")
	assert.Equal(t, 2, w.count(t, "SELECT count(*) FROM audit_entry WHERE action = 'organization.sign_up_lapsed' AND actor_kind = 'system'"))
	assert.Equal(t, 1, w.count(t, "SELECT count(*) FROM audit_entry WHERE action = 'account.withdrawn' AND record_id = $1", identity))
	for _, slug := range []string{idle.slug, quiet} {
		assert.Equal(t, http.StatusAccepted, w.person(t).post("/api/v1/signups", signUpBody(slug, unique("new")+"@example.org")).status, "the short name is free")
	}

	for name, o := range map[string]*owner{"fresh": fresh, "confirmed": kept} {
		assert.Equal(t, 1, w.count(t, "SELECT count(*) FROM account a JOIN organization o ON o.id = a.organization_id WHERE a.email = $1 AND o.state = 'pending' AND o.slug = $2", o.email, o.slug), name)
	}
	assert.Equal(t, http.StatusOK, kept.get("/api/v1/me").status)
	_, flow, code = fresh.letter(fresh.email)
	assert.Equal(t, http.StatusOK, w.confirms(t, flow, code).status)
}

// Of sign-ups of one address at the same moment one is left, whole.
func TestSignUpsOfOneAddressAtTheSameMoment(t *testing.T) {
	t.Parallel()
	w := start(t)
	first := w.signedUp(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			r := w.person(t).post("/api/v1/signups", signUpBody(unique("race"), first.email))
			assert.Equal(t, http.StatusAccepted, r.status, "%s", r.body)
		})
	}
	wg.Wait()
	assert.Equal(t, 1, w.count(t, "SELECT count(*) FROM organization WHERE state = 'pending'"))
	assert.Equal(t, 4, w.count(t, "SELECT count(*) FROM organization WHERE state = 'closed' AND slug LIKE '%~%'"))
	// The one that is left need not be the one whose letter was written last.
	var me reply
	opened := 0
	for _, l := range first.letters(first.email) {
		if r := w.confirms(t, l.flow, l.code); r.status == http.StatusOK {
			me = r
			opened++
		}
	}
	require.Equal(t, 1, opened, "letters that open anything")
	assert.Equal(t, 1, w.count(t, "SELECT count(*) FROM account a JOIN organization o ON o.id = a.organization_id WHERE a.email = $1 AND o.state = 'pending' AND o.id = $2::text::uuid", first.email, me.at("organization.id")))
}

// Without its record nothing gives way; and the role cannot remove an account that
// somebody proved, nor any but by the one function.
func TestNothingGivesWayWithoutARecord(t *testing.T) {
	t.Parallel()
	w := start(t)
	ctx := context.Background()
	squatted, proven := w.signedUp(t), w.confirmed(t)
	_, flow, code := squatted.letter(squatted.email)
	before := w.rows(t)
	w.exec(t, "REVOKE INSERT ON audit_entry FROM controlplane")
	w.exec(t, "REVOKE INSERT (id) ON audit_entry FROM controlplane")
	assert.GreaterOrEqual(t, w.person(t).post("/api/v1/signups", signUpBody(squatted.slug, squatted.email)).status, 500)
	w.exec(t, "UPDATE organization SET sign_up_lapses_at = now() WHERE slug = $1", squatted.slug)
	require.Error(t, w.plane.members.Lapse(ctx))
	assert.Equal(t, before, w.rows(t))
	w.exec(t, "GRANT INSERT ON audit_entry TO controlplane")
	assert.Equal(t, http.StatusOK, w.confirms(t, flow, code).status, "it is as it was")

	var refused *pgconn.PgError
	_, err := w.plane.pool.Exec(ctx, "DELETE FROM account WHERE email = $1", proven.email)
	require.True(t, errors.As(err, &refused), "%v", err)
	assert.Equal(t, "42501", refused.Code)
	var gone bool
	require.NoError(t, w.plane.pool.QueryRow(ctx, "SELECT withdraw_account(identity_id) FROM account WHERE email = $1", proven.email).Scan(&gone))
	assert.False(t, gone)
}
