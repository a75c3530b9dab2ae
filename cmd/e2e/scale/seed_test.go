package scale_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/client"
	"github.com/caresphere/caresphere/internal/demo"
	"github.com/caresphere/caresphere/internal/devstack"
	"github.com/caresphere/caresphere/tenants"
)

// tenant is a provisioned organization with a nurse who is signed in.
type tenant struct {
	id       tenants.ID
	slug     string
	facility tenants.ID
	nurse    tenants.ID
	token    string
	client   string // the id of the one client's record
}

func (n *tenant) schema() string { return tenants.SchemaName(n.id) }

// batch is how many organizations are planted in a statement.
const batch = 250

// seed brings a cell to its number of tenants: it plants organizations with agreements in
// force, and has the provisioner take their steps. It returns all but the first known
// when all are live and reachable, those that a kept stack had before among them.
func (s *stack) seed(t testing.TB, f *figures, known int) []*tenant {
	t.Helper()
	control := s.superuser(t, devstack.ControlDatabase)
	rows, err := control.Query(t.Context(), `SELECT id, slug FROM organization WHERE slug LIKE 's-%' ORDER BY id OFFSET $1`, known)
	require.NoError(t, err)
	there, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*tenant, error) {
		n := staffed()
		return n, row.Scan(&n.id, &n.slug)
	})
	require.NoError(t, err)
	require.LessOrEqual(t, known+len(there), f.Tenants, "the stack that is kept has more tenants than that")
	all := slices.Grow(there, f.Tenants-known-len(there))
	begun := time.Now()
	for known+len(all) < f.Tenants {
		some := make([]*tenant, 0, batch)
		for range min(batch, f.Tenants-known-len(all)) {
			n := staffed()
			n.id = tenants.NewID()
			n.slug = "s-" + n.id.Hex()[12:]
			some = append(some, n)
		}
		plant(t, control, some)
		all = append(all, some...)
	}
	const notYet = `SELECT count(*) FROM organization WHERE slug LIKE 's-%' AND (state <> 'live' OR gate_applied < gate_version)`
	require.NoError(t, control.QueryRow(t.Context(), notYet).Scan(&f.New))
	s.wait(t, control, time.Duration(f.New)*4*time.Second+2*time.Minute, "provisioned", notYet)
	f.Provisioning = time.Since(begun)
	t.Logf("%d tenants: provisioned %d in %s", f.Tenants, f.New, f.Provisioning)
	return all
}

// staffed is a tenant with the names of a facility, of a nurse and of her session.
func staffed() *tenant {
	return &tenant{facility: tenants.NewID(), nurse: tenants.NewID(), token: "ory_st_" + tenants.NewID().Hex()}
}

// mail is the nurse's address: a kept stack has those of earlier runs.
func (n *tenant) mail() string { return n.slug + "-" + n.nurse.Hex()[20:] + "@example.com" }

// plant writes what sign-up, signatures and countersignature would have left.
func plant(t testing.TB, control *pgx.Conn, some []*tenant) {
	t.Helper()
	var ids, agreements, owners []string
	var slugs []string
	for _, n := range some {
		ids, agreements, owners = append(ids, n.id.String()), append(agreements, tenants.NewID().String()), append(owners, tenants.NewID().String())
		slugs = append(slugs, n.slug)
	}
	tx, err := control.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	for _, q := range []struct {
		sql  string
		args []any
	}{
		{`INSERT INTO organization (id, slug, legal_name, care_setting, state) SELECT i, s, s, 'residential', 'provisioning' FROM unnest($1::uuid[], $2::text[]) AS o(i, s)`, []any{ids, slugs}},
		{`INSERT INTO account (identity_id, organization_id, email, name, first_owner) SELECT w, i, s || '@example.com', 'An Owner', true FROM unnest($1::uuid[], $2::text[], $3::uuid[]) AS o(i, s, w)`, []any{ids, slugs, owners}},
		{`INSERT INTO subscription (organization_id, plan, status) SELECT i, 'manual', 'pending' FROM unnest($1::uuid[]) AS o(i)`, []any{ids}},
		{`INSERT INTO baa (id, organization_id, template_version, document, document_sha256) SELECT b, i, 'v1', 'text', sha256('text') FROM unnest($1::uuid[], $2::uuid[]) AS o(i, b)`, []any{ids, agreements}},
		{`UPDATE baa SET state = 'signed', customer_evidence = 'c', signed_at = now() WHERE id = ANY($1::uuid[])`, []any{agreements}},
		{`UPDATE baa SET state = 'executed', operator_evidence = 'o', pdf = 'p', bundle = 'b', executed_at = now() - interval '1 minute', expires_at = now() + interval '1 year' WHERE id = ANY($1::uuid[])`, []any{agreements}},
		{`INSERT INTO river_job (kind, args, queue, max_attempts) SELECT 'provision', jsonb_build_object('organization_id', i::text), 'provision', 25 FROM unnest($1::uuid[]) AS o(i)`, []any{ids}},
	} {
		_, err := tx.Exec(t.Context(), q.sql, q.args...)
		require.NoError(t, err, q.sql)
	}
	require.NoError(t, tx.Commit(t.Context()))
}

// staff gives each tenant a facility and a nurse with a session in Kratos.
func (s *stack) staff(t testing.TB, some []*tenant) {
	t.Helper()
	cell, kratos := s.superuser(t, devstack.CellDatabase), s.superuser(t, devstack.KratosDatabase)
	for k, n := range some {
		if k%500 == 499 {
			require.NoError(t, cell.Close(t.Context()))
			cell = s.superuser(t, devstack.CellDatabase)
		}
		schema := tenants.SchemaName(n.id)
		var b pgx.Batch
		b.Queue(`INSERT INTO `+schema+`.facility (id, name) VALUES ($1, $2)`, n.facility, "North "+n.facility.Hex()[20:])
		b.Queue(`INSERT INTO `+schema+`.member (identity_id, email, name, role) VALUES ($1, $2, 'A Nurse', 'nurse')`, n.nurse, n.mail())
		b.Queue(`INSERT INTO `+schema+`.member_facility (identity_id, facility_id, assigned_by) VALUES ($1, $2, $1)`, n.nurse, n.facility)
		require.NoError(t, cell.SendBatch(t.Context(), &b).Close(), n.slug)
	}
	var people, sessions, organizations, slugs, mails, tokens []string
	for _, n := range some {
		mails = append(mails, n.mail())
		people, sessions, organizations = append(people, n.nurse.String()), append(sessions, tenants.NewID().String()), append(organizations, n.id.String())
		slugs, tokens = append(slugs, n.slug), append(tokens, n.token)
	}
	// What her invitation would have left: a worker tells the control plane of every member.
	_, err := s.superuser(t, devstack.ControlDatabase).Exec(t.Context(), `INSERT INTO account (identity_id, organization_id, email, name)
		SELECT p, o, m, 'A Nurse' FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS n(p, o, m)`, people, organizations, mails)
	require.NoError(t, err)
	for _, q := range []struct {
		sql  string
		args []any
	}{
		{`INSERT INTO identities SELECT (jsonb_populate_record(NULL::identities, to_jsonb(i) || jsonb_build_object('id', o.person,
			'traits', jsonb_build_object('email', o.mail, 'name', 'A Nurse'),
			'metadata_public', jsonb_build_object('organization_id', o.organization, 'slug', o.slug)))).*
			FROM identities AS i, unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS o(person, organization, slug, mail) WHERE i.id = $1`,
			[]any{s.template.identity, people, organizations, slugs, mails}},
		{`INSERT INTO identity_verifiable_addresses SELECT (jsonb_populate_record(NULL::identity_verifiable_addresses, to_jsonb(a) || jsonb_build_object('id', gen_random_uuid(),
			'identity_id', o.person, 'value', o.mail))).*
			FROM identity_verifiable_addresses AS a, unnest($2::text[], $3::text[]) AS o(person, mail) WHERE a.identity_id = $1`,
			[]any{s.template.identity, people, mails}},
		{`INSERT INTO sessions SELECT (jsonb_populate_record(NULL::sessions, to_jsonb(x) || jsonb_build_object('id', o.session, 'identity_id', o.person,
			'token', o.token, 'logout_token', o.session, 'expires_at', now() + interval '1 day'))).*
			FROM sessions AS x, unnest($2::text[], $3::text[], $4::text[]) AS o(session, person, token) WHERE x.id = $1`,
			[]any{s.template.session, sessions, people, tokens}},
	} {
		_, err := kratos.Exec(t.Context(), q.sql, q.args...)
		require.NoError(t, err, q.sql)
	}
}

// template is the real session that the others are copies of.
type template struct{ identity, session string }

// model signs a nurse in for real.
func (s *stack) model(t testing.TB) template {
	t.Helper()
	o := s.Operator()
	operator := client.New(o.Origin, client.Options{Roots: s.roots})
	require.NoError(t, operator.SignIn(t.Context(), o.Email, o.Password, o.TOTPSecret))
	l, err := demo.BringUp(t.Context(), demo.Options{Origin: s.Origin(), Roots: s.roots, Operator: demo.Operator(o)}, operator, "model")
	require.NoError(t, err)
	s.operator = operator
	kratos := s.superuser(t, devstack.KratosDatabase)
	var m template
	require.NoError(t, kratos.QueryRow(t.Context(), `SELECT i.id::text, s.id::text FROM identities AS i JOIN sessions AS s ON s.identity_id = i.id
		WHERE i.traits ->> 'email' = $1 AND s.aal = 'aal2' AND s.active ORDER BY s.authenticated_at DESC LIMIT 1`, l.Nurse.Email).Scan(&m.identity, &m.session))
	return m
}

// wait polls a count until it is nought.
func (s *stack) wait(t testing.TB, db *pgx.Conn, limit time.Duration, what, sql string, args ...any) {
	t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	said := time.Now()
	for begun := time.Now(); ; <-tick.C {
		var left int
		require.NoError(t, db.QueryRow(t.Context(), sql, args...).Scan(&left))
		if left == 0 {
			return
		}
		if time.Since(said) > 10*time.Second {
			t.Logf("%d are not %s yet, after %s", left, what, time.Since(begun).Round(time.Second))
			said = time.Now()
		}
		require.Less(t, time.Since(begun), limit, fmt.Sprintf("%d are not %s", left, what))
	}
}
