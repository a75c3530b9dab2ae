package e2e_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/client"
	"github.com/caresphere/caresphere/internal/demo"
	"github.com/caresphere/caresphere/internal/devstack"
	"github.com/caresphere/caresphere/tenants"
)

// ward is a tenant with one record of each kind that a request can name, in the
// nurse's facility, and some in another facility, which she does not have.
type ward struct {
	*demo.Live
	// own are the records of the nurse's facility, away those of the other.
	own, away named
	// marks occur in no answer but the tenant's own; marksAway in none of the nurse's.
	marks, marksAway []string
}

func furnish(t *testing.T, l *demo.Live) *ward {
	t.Helper()
	ctx := within(t, time.Minute)
	o := l.Owner.Tenant(l.Slug)
	r := admit(t, l, "Secret"+word())
	var members client.Page[struct{ ID, Email string }]
	require.NoError(t, o.Do(ctx, http.MethodGet, "/members", nil, &members))
	nurse := ""
	for _, p := range members.Items {
		if p.Email == l.Nurse.Email {
			nurse = p.ID
		}
	}
	require.NotEmpty(t, nurse)
	annex, err := o.CreateFacility(ctx, client.Facility{Name: "Annex " + word()}, "annex-"+word())
	require.NoError(t, err)
	// The grant is over before anybody uses it: the nurse must not have the annex.
	staff, err := o.CreateMember(ctx, client.NewMember{Email: "staff-" + word() + "@example.com", Name: "Sten " + word(), Role: "staff", Facilities: []string{annex.ID}}, "staff-"+word())
	require.NoError(t, err)
	var grant struct{ ID string }
	require.NoError(t, o.Do(ctx, http.MethodPost, "/members/"+staff.ID+"/grants", m{"facility_id": l.Facility, "reason": "cover"}, &grant))
	session, err := ownSession(t, l.Nurse.Client, l)
	require.NoError(t, err)
	p, err := o.CreateClient(ctx, client.Person{FacilityID: annex.ID, Name: client.PersonName{Given: "Away", Family: "Away" + word()},
		BirthDate: "1950-01-02", RecordNumber: "AWAY-" + word()}, "away-"+word())
	require.NoError(t, err)
	note, err := o.CreateNote(ctx, p.ID, client.Note{Shift: "day", Body: "Away " + word() + " slept."}, "away-note-"+word())
	require.NoError(t, err)
	w := &ward{Live: l,
		own: named{"slug": l.Slug, "facility": l.Facility, "client": r.client.ID, "note": r.note.ID, "member": nurse, "grant": grant.ID,
			"session": session, "baa": l.BAA.ID, "organization": l.ID, "run": l.ID},
		away: named{"facility": annex.ID, "client": p.ID, "note": note.ID}}
	w.marksAway = []string{annex.ID, annex.Name, p.ID, p.Name.Family, p.RecordNumber, note.ID, note.Body}
	w.marks = append([]string{r.client.Name.Family, l.ID, l.Name, l.Facility, nurse, grant.ID, session, r.client.ID, r.client.RecordNumber,
		r.note.ID, r.note.Body, l.BAA.ID, l.BAA.DocumentSHA256, l.Owner.Email, l.Nurse.Email}, w.marksAway...)
	return w
}

// nothing names records that do not exist anywhere.
func nothing() named {
	n := named{"slug": "nobody-" + word()}
	for _, kind := range []string{"facility", "client", "note", "member", "grant", "session", "baa", "organization", "run"} {
		n[kind] = tenants.NewID().String()
	}
	return n
}

// collections are the kinds of record by the part of the path before the id.
var collections = map[string]string{
	"facilities": "facility", "members": "member", "grants": "grant", "sessions": "session", "clients": "client", "notes": "note",
	"baas": "baa", "organizations": "organization", "proofs": "run", "repairs": "run", "key-rotations": "run",
}

// pathFor fills an operation's path. The kind is that of the record in it, or empty.
func pathFor(o operation, slug string, n named) (path, kind string, err error) {
	parts := strings.Split(strings.ReplaceAll(o.path, "{slug}", slug), "/")
	for i, p := range parts {
		if p == "{id}" && i > 0 {
			kind = collections[parts[i-1]]
			parts[i] = n[kind]
		}
	}
	path = strings.Join(parts, "/")
	if strings.ContainsAny(path, "{}") || kind == "" && strings.Contains(o.path, "{id}") {
		return "", "", fmt.Errorf("teach the attacks which record %s names", o.path)
	}
	return path, kind, nil
}

// rows is the content of everything that the tenant has: a count and a hash a table,
// seen as a superuser. What merely says that somebody was here is left out: the trail
// and when a session was last used.
func (w *world) rows(t *testing.T, l *demo.Live) map[string]string {
	t.Helper()
	ctx, schema := within(t, time.Minute), schemaOf(t, l)
	cell, control := w.database(t, devstack.CellDatabase), w.database(t, devstack.ControlDatabase)
	got, err := cell.Query(ctx, `SELECT relname FROM pg_class WHERE relnamespace = $1::regnamespace AND relkind IN ('r', 'p')
		AND relname !~ '^audit_' AND relname NOT IN ('member_session', 'probe', 'schema_version')`, schema)
	require.NoError(t, err)
	var tables []string
	for got.Next() {
		var name string
		require.NoError(t, got.Scan(&name))
		tables = append(tables, name)
	}
	require.NoError(t, got.Err())
	require.Greater(t, len(tables), 10)
	out := map[string]string{}
	for _, name := range tables {
		var hash string
		require.NoError(t, cell.QueryRow(ctx, `SELECT count(*) || ' ' || md5(coalesce(string_agg(md5(x::text), '' ORDER BY md5(x::text)), '')) FROM `+schema+"."+name+" x").Scan(&hash))
		out[name] = hash
	}
	var sessions string
	require.NoError(t, cell.QueryRow(ctx, `SELECT count(*) || ' ' || count(*) FILTER (WHERE revoked_at IS NOT NULL) FROM `+schema+`.member_session`).Scan(&sessions))
	out["member_session"] = sessions
	for name, sql := range map[string]string{
		"organization": `SELECT md5(string_agg(x::text, '')) FROM organization x WHERE id = $1`,
		"baa":          `SELECT md5(string_agg(x::text, '' ORDER BY id)) FROM baa x WHERE organization_id = $1`,
		"account":      `SELECT md5(string_agg(x::text, '' ORDER BY identity_id)) FROM account x WHERE organization_id = $1`,
	} {
		var hash string
		require.NoError(t, control.QueryRow(ctx, sql, l.ID).Scan(&hash))
		out["control "+name] = hash
	}
	return out
}

// changed names the tables whose rows differ.
func changed(before, after map[string]string) []string {
	var out []string
	for name, was := range before {
		if after[name] != was {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}
