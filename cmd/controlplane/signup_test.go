package main

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/identity"
)

func TestSignUpDoesNotTellWhoHasAnAccount(t *testing.T) {
	t.Parallel()
	w := start(t)
	o := w.confirmed(t)
	stranger := w.person(t)
	slug := unique("other")
	known := stranger.post("/api/v1/signups", signUpBody(slug, strings.ToUpper(o.email)))
	fresh := stranger.post("/api/v1/signups", signUpBody(unique("fresh"), unique("fresh")+"@example.org"))
	require.Equal(t, http.StatusAccepted, fresh.status)
	assert.Equal(t, fresh.status, known.status)
	assert.Equal(t, fresh.doc["status"], known.doc["status"])
	assert.Len(t, known.doc, len(fresh.doc))
	assert.Equal(t, slug, known.doc["slug"])

	// The slug is taken in both cases: trying it again tells nothing either.
	again := stranger.post("/api/v1/signups", signUpBody(slug, unique("else")+"@example.org"))
	assert.Equal(t, http.StatusConflict, again.status)

	template, _, _ := stranger.letter(o.email)
	assert.Equal(t, "already_registered", template)
	assert.Equal(t, 1, w.count(t, "SELECT count(*) FROM account WHERE email = $1", o.email))
	assert.Equal(t, 1, w.count(t, "SELECT count(*) FROM organization WHERE slug = $1 AND state = 'closed'", slug))
	assert.Equal(t, 1, w.count(t, "SELECT count(*) FROM audit_entry WHERE action = 'organization.sign_up' AND outcome = 'denied'"))
}

func TestTakenSlugIsNamed(t *testing.T) {
	t.Parallel()
	w := start(t)
	o := w.signedUp(t)
	before := w.rows(t)
	r := w.person(t).post("/api/v1/signups", signUpBody(o.slug, unique("new")+"@example.org"))
	assert.Equal(t, http.StatusConflict, r.status)
	assert.Equal(t, []string{"body.organization.slug"}, r.fields())
	assert.Equal(t, before, w.rows(t))
}

func TestSlugIsProposed(t *testing.T) {
	t.Parallel()
	w := start(t)
	seen := map[string]bool{}
	name := "Same Name " + unique("x")
	for range 3 {
		body := signUpBody("", unique("p")+"@example.org")
		body["organization"] = map[string]any{"legal_name": name, "care_setting": "clinic"}
		r := w.person(t).post("/api/v1/signups", body)
		require.Equal(t, http.StatusAccepted, r.status, "%s", r.body)
		slug, _ := r.doc["slug"].(string)
		assert.False(t, seen[slug], slug)
		seen[slug] = true
	}
}

func TestSignUpHappensOnceForAKey(t *testing.T) {
	t.Parallel()
	w := start(t)
	p := w.person(t)
	slug := unique("once")
	body, key := signUpBody(slug, slug+"@example.org"), unique("key")
	const racers = 5
	replies := make([]reply, racers)
	var wg sync.WaitGroup
	for i := range replies {
		wg.Go(func() { replies[i] = p.post("/api/v1/signups", body, "Idempotency-Key", key) })
	}
	wg.Wait()
	for _, r := range replies {
		require.Equal(t, http.StatusAccepted, r.status, "%s", r.body)
		assert.Equal(t, replies[0].doc["organization_id"], r.doc["organization_id"])
	}
	assert.Equal(t, 1, w.count(t, "SELECT count(*) FROM organization"))
	assert.Equal(t, 1, w.count(t, "SELECT count(*) FROM mail"))
	r := p.post("/api/v1/signups", signUpBody(unique("two"), unique("two")+"@example.org"), "Idempotency-Key", key)
	assert.Equal(t, http.StatusUnprocessableEntity, r.status)
	assert.Equal(t, "idempotency_mismatch", r.kind())
}

// A crash between Kratos and the database leaves an identity without an account;
// it must not stand in the way of trying again.
func TestIdentityLeftBehindIsAdopted(t *testing.T) {
	t.Parallel()
	w := start(t)
	email := unique("left") + "@example.org"
	ctx := context.Background()
	left, created, err := w.plane.customers.ids.CreateIdentity(ctx, identity.NewIdentity{Email: email, Name: "Earlier Try"})
	require.NoError(t, err)
	require.True(t, created)

	slug := unique("adopt")
	p := w.person(t)
	r := p.post("/api/v1/signups", signUpBody(slug, email))
	require.Equal(t, http.StatusAccepted, r.status, "%s", r.body)
	assert.Equal(t, 1, w.count(t, "SELECT count(*) FROM account WHERE identity_id = $1", left))
	_, flow, code := p.letter(email)
	p.submit("recovery", flowState{id: flow}, "code", "code", code)
	me := p.get("/api/v1/me")
	require.Equal(t, http.StatusOK, me.status, "%s", me.body)
	assert.Equal(t, r.doc["organization_id"], me.at("organization.id"))
	assert.Equal(t, "Dana Whitfield", me.at("account.name"))
}

func TestNoRecordNoSignUp(t *testing.T) {
	t.Parallel()
	w := start(t)
	p := w.person(t)
	email := unique("audit") + "@example.org"
	before := w.rows(t)
	w.exec(t, "REVOKE INSERT ON audit_entry FROM controlplane")
	w.exec(t, "REVOKE INSERT (id) ON audit_entry FROM controlplane")
	r := p.post("/api/v1/signups", signUpBody(unique("audit"), email))
	assert.GreaterOrEqual(t, r.status, 500)
	assert.Equal(t, before, w.rows(t))
	w.exec(t, "GRANT INSERT ON audit_entry TO controlplane")
	r = p.post("/api/v1/signups", signUpBody(unique("audit"), email))
	assert.Equal(t, http.StatusAccepted, r.status, "the same address once the trail can be written: %s", r.body)
}

func TestSignUpRefusesBadInput(t *testing.T) {
	t.Parallel()
	w := start(t)
	p := w.person(t)
	good := func() map[string]any { return signUpBody(unique("good"), unique("good")+"@example.org") }
	with := func(group, field string, value any) []byte {
		b := good()
		m, _ := b[group].(map[string]any)
		if value == nil {
			delete(m, field)
		} else {
			m[field] = value
		}
		doc, err := json.Marshal(b)
		require.NoError(t, err)
		return doc
	}
	const jsonType = "application/json"
	for name, c := range map[string]struct {
		body        []byte
		contentType string
		status      int
		field       string
	}{
		"legal name missing":       {with("organization", "legal_name", nil), jsonType, 422, "body.organization.legal_name"},
		"legal name a number":      {with("organization", "legal_name", 7), jsonType, 422, "body.organization.legal_name"},
		"legal name one letter":    {with("organization", "legal_name", "M"), jsonType, 422, "body.organization.legal_name"},
		"legal name too long":      {with("organization", "legal_name", strings.Repeat("m", 201)), jsonType, 422, "body.organization.legal_name"},
		"legal name with a link":   {with("organization", "legal_name", "Win at https://evil.example"), jsonType, 422, "body.organization.legal_name"},
		"legal name with newline":  {with("organization", "legal_name", "Maple\nBcc: x"), jsonType, 422, "body.organization.legal_name"},
		"legal name right-to-left": {with("organization", "legal_name", "Maple \u202e evil"), jsonType, 422, "body.organization.legal_name"},
		"slug upper case":          {with("organization", "slug", "Maple"), jsonType, 422, "body.organization.slug"},
		"slug reserved":            {with("organization", "slug", "admin"), jsonType, 422, "body.organization.slug"},
		"slug with dots":           {with("organization", "slug", "../x"), jsonType, 422, "body.organization.slug"},
		"care setting unknown":     {with("organization", "care_setting", "hospital"), jsonType, 422, "body.organization.care_setting"},
		"care setting missing":     {with("organization", "care_setting", nil), jsonType, 422, "body.organization.care_setting"},
		"owner's name missing":     {with("owner", "name", nil), jsonType, 422, "body.owner.name"},
		"owner's name markup":      {with("owner", "name", "<b>Dana</b>"), jsonType, 422, "body.owner.name"},
		"e-mail missing":           {with("owner", "email", nil), jsonType, 422, "body.owner.email"},
		"e-mail without at":        {with("owner", "email", "dana.example.org"), jsonType, 422, "body.owner.email"},
		"e-mail two addresses":     {with("owner", "email", "a@example.org,b@example.org"), jsonType, 422, "body.owner.email"},
		"e-mail with a name":       {with("owner", "email", "Dana <dana@example.org>"), jsonType, 422, "body.owner.email"},
		"e-mail header":            {with("owner", "email", "dana@example.org\r\nBcc: x@example.org"), jsonType, 422, "body.owner.email"},
		"e-mail too long":          {with("owner", "email", strings.Repeat("d", 250)+"@example.org"), jsonType, 422, "body.owner.email"},
		"e-mail an object":         {with("owner", "email", map[string]any{}), jsonType, 422, "body.owner.email"},
		"unknown field":            {with("owner", "role", "operator"), jsonType, 422, "body.owner.role"},
		"other spelling":           {with("owner", "Email", "x@example.org"), jsonType, 422, "body.owner.Email"},
		"no owner":                 {[]byte(`{"organization":{"legal_name":"Maple","care_setting":"clinic"}}`), jsonType, 422, "body.owner"},
		"an array":                 {[]byte(`[]`), jsonType, 422, "body"},
		"not JSON":                 {[]byte(`{"organization":`), jsonType, 400, "body.organization"},
		"name given twice":         {[]byte(`{"owner":{"name":"A A","name":"B B","email":"x@example.org"},"organization":{"legal_name":"Maple","care_setting":"clinic"}}`), jsonType, 400, ""},
		"invalid UTF-8":            {[]byte("{\"owner\":{\"name\":\"Da\xffna\",\"email\":\"x@example.org\"},\"organization\":{\"legal_name\":\"Maple\",\"care_setting\":\"clinic\"}}"), jsonType, 400, ""},
		"nothing":                  {nil, jsonType, 400, ""},
		"a form":                   {[]byte("owner=x"), "application/x-www-form-urlencoded", 415, "header.Content-Type"},
		"too large":                {with("owner", "name", strings.Repeat("d", 20<<10)), jsonType, 413, ""},
	} {
		t.Run(name, func(t *testing.T) {
			before := w.rows(t)
			p.t = t
			r := p.send(http.MethodPost, "/api/v1/signups", c.contentType, c.body)
			assert.Equal(t, c.status, r.status, "%s", r.body)
			if c.field != "" {
				assert.Contains(t, r.fields(), c.field, "%s", r.body)
			}
			assert.Equal(t, before, w.rows(t), "nothing is written")
			assert.NotContains(t, string(r.body), "evil", "no value comes back")
		})
	}
	p.t = t
	for name, c := range map[string]struct{ path, key, field string }{
		"unknown parameter": {"/api/v1/signups?admin=1", "", "query.admin"},
		"key too long":      {"/api/v1/signups", strings.Repeat("k", 129), "header.Idempotency-Key"},
		"key with a space":  {"/api/v1/signups", "a b", "header.Idempotency-Key"},
	} {
		before := w.rows(t)
		r := p.post(c.path, good(), "Idempotency-Key", c.key)
		assert.Equal(t, http.StatusUnprocessableEntity, r.status, "%s: %s", name, r.body)
		assert.Contains(t, strings.ToLower(strings.Join(r.fields(), " ")), strings.ToLower(c.field), "%s: %s", name, r.body)
		assert.Equal(t, before, w.rows(t), name)
	}
	require.Equal(t, http.StatusAccepted, p.post("/api/v1/signups", good()).status, "the allowed twin")
}
