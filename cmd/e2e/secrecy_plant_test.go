package e2e_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/client"
	"github.com/caresphere/caresphere/internal/demo"
	"github.com/caresphere/caresphere/internal/devstack"
)

// plantedDate stands in every date that is PHI: a day that nothing else is about.
const plantedDate = "1907-02-23"

// plant writes the marker into every property of a body that is PHI and returns
// their names.
func (d *document) plant(t *testing.T, s *schema, body m, marker string) (names []string) {
	t.Helper()
	for name, p := range d.resolved(s).Properties {
		p = d.resolved(p)
		switch {
		case p.PHI && p.Format == "date":
			body[name] = plantedDate
		case p.PHI && p.Format == "email":
			body[name] = marker + "@example.com"
		case p.PHI:
			body[name] = marker
		case p.Properties != nil:
			inner := m{}
			within := d.plant(t, p, inner, marker)
			for _, n := range within {
				names = append(names, name+"."+n)
			}
			if len(within) > 0 {
				body[name] = inner
			}
			continue
		case p.Items != nil:
			require.Empty(t, d.plant(t, p.Items, m{}, marker), "teach this test lists of PHI: %s", name)
			continue
		default:
			continue
		}
		names = append(names, name)
	}
	return names
}

// plantAll calls every operation of the data plane that takes PHI, with the marker
// in each field that the description marks. Who may see it is shown it.
func plantAll(t *testing.T, owner wire, l *demo.Live, elsewhere, marker string) (made client.Person, fields []string) {
	t.Helper()
	d := describe(t, owner, "/t/openapi.json", "dataplane.json")
	// What these operations demand beside PHI.
	demanded := map[string]m{
		"createClient": {"facility_id": l.Facility}, "updateClient": {"version": 1}, "createAllergy": {"severity": "mild"},
		"createContact": {"relationship": "friend"}, "createNote": {"shift": "day"}, "transferClient": {"facility_id": elsewhere},
	}
	type call struct {
		operation
		body m
	}
	var calls []call
	for _, o := range d.ops {
		if o.body == nil {
			continue
		}
		body := demanded[o.id]
		if body == nil {
			body = m{}
		}
		names := d.plant(t, o.body, body, marker)
		for _, n := range names {
			fields = append(fields, o.id+" "+n)
		}
		if len(names) > 0 {
			calls = append(calls, call{o, body})
		}
	}
	sort.Strings(fields)
	require.GreaterOrEqual(t, len(fields), 25, "the description marks what is PHI")
	// The client comes first, and its transfer last: the others stand on its facility.
	rank := map[string]int{"createClient": -1, "transferClient": 1}
	sort.SliceStable(calls, func(i, j int) bool { return rank[calls[i].id] < rank[calls[j].id] })
	for _, c := range calls {
		if c.id == "searchClients" {
			// It looks for one thing at a time; each in turn.
			for name, v := range c.body {
				a := owner.do(t, c.method, strings.Replace(c.path, "{slug}", l.Slug, 1), m{name: v})
				require.Equal(t, http.StatusOK, a.status, a.body)
			}
			continue
		}
		path := strings.Replace(strings.Replace(c.path, "{slug}", l.Slug, 1), "{id}", made.ID, 1)
		require.NotContains(t, path, "{")
		a := owner.with("Idempotency-Key", word()).do(t, c.method, path, c.body)
		require.Less(t, a.status, 300, "%s: %s", c.id, a.body)
		if c.id == "createClient" {
			require.Contains(t, a.body, marker, "whoever may see it is shown it")
			require.NoError(t, json.Unmarshal([]byte(a.body), &made))
		}
	}
	require.NotEmpty(t, made.ID)
	return made, fields
}

// slips are ways in which PHI could get out, one for each kind of place. Each writes
// the marker there; one that makes metrics returns where they are told.
func (w *world) slips(t *testing.T) map[string]func(marker string) *wire {
	t.Helper()
	file := func(name string, content func(string) string) func(string) *wire {
		return func(marker string) *wire {
			path := w.Layout().Path(name)
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
			require.NoError(t, os.WriteFile(path, []byte(content(marker)), 0o600))
			t.Cleanup(func() { _ = os.Remove(path) })
			return nil
		}
	}
	row := func(database, sql string, undo ...string) func(string) *wire {
		return func(marker string) *wire {
			db := w.database(t, database)
			_, err := db.Exec(within(t, 10*time.Second), sql, marker)
			require.NoError(t, err)
			t.Cleanup(func() {
				again := w.database(t, database)
				for _, u := range undo {
					_, err := again.Exec(context.Background(), u, marker)
					require.NoError(t, err)
				}
			})
			return nil
		}
	}
	return map[string]func(string) *wire{
		"a log line": file("logs/slip.log", func(s string) string { return `{"level":"INFO","msg":"admitted ` + s + `"}` + "\n" }),
		"a URL in a log": file("logs/slip-url.log", func(s string) string {
			return `{"msg":"request","path":"/t/willow/v1/clients?family=` + strings.ToUpper(s) + `"}` + "\n"
		}),
		"a span": file("logs/slip-spans.json", func(s string) string {
			return `{"Attributes":[{"Key":"db.query.parameter","Value":{"Value":"` + hex.EncodeToString([]byte(s)) + `"}}]}`
		}),
		"a problem body that was kept": file("logs/slip-problem.log", func(s string) string {
			return base64.StdEncoding.EncodeToString([]byte(`{"type":"invalid","detail":"` + s + ` is not a date"}`))
		}),
		"an object": file("blobs/t/slip/slip", func(s string) string { return "%PDF-1.7 " + s }),
		"a job's argument": row(devstack.ControlDatabase,
			`INSERT INTO river_job (kind, args, state, finalized_at) VALUES ('slip', jsonb_build_object('name', $1::text), 'cancelled', now())`,
			`DELETE FROM river_job WHERE kind = 'slip' AND args->>'name' = $1`),
		"a mail": row(devstack.ControlDatabase,
			`INSERT INTO mail (id, recipient, template, subject, body, sent_at) VALUES (gen_random_uuid(), 'slip@example.com', 'slip', 'About', repeat('long ', 2000) || $1, now())`,
			`DELETE FROM mail WHERE body LIKE '%' || $1`),
		"a name of the identity provider": row(devstack.KratosDatabase,
			`WITH made AS (SELECT $1::text AS word) SELECT pg_logical_emit_message(true, 'slip', word) FROM made`),
		"the write-ahead log alone": row(devstack.CellDatabase, `SELECT pg_logical_emit_message(false, 'slip', $1)`),
		"a metric's label": func(marker string) *wire {
			server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
				fmt.Fprintf(rw, "go_goroutines 1\ncaresphere_slips{family=%q} 1\n", marker)
			}))
			t.Cleanup(server.Close)
			x := w.wire(t, server.URL)
			return &x
		},
	}
}
