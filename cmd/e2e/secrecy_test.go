package e2e_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/client"
	"github.com/caresphere/caresphere/internal/devstack"
)

// spellings are the forms in which a planted word might be written down.
func spellings(planted string) map[string][]byte {
	all := map[string][]byte{
		"as it is": []byte(planted), "in capitals": []byte(strings.ToUpper(planted)),
		"in hexadecimal": []byte(hex.EncodeToString([]byte(planted))),
	}
	// In base64 a text looks different by where its first byte falls.
	for shift := range 3 {
		text := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("-", shift) + planted + "---"))
		all[fmt.Sprintf("in base64, %d further", shift)] = []byte(text[2*shift : len(text)-8])
	}
	return all
}

// inFiles returns where below the folders a planted word stands.
func inFiles(t *testing.T, planted string, dirs ...string) []string {
	t.Helper()
	var found []string
	words := spellings(planted)
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return ignoreGone(err)
			}
			content, err := os.ReadFile(path)
			if err != nil {
				return ignoreGone(err)
			}
			for how, word := range words {
				if bytes.Contains(content, word) {
					found = append(found, path+" "+how)
				}
			}
			return nil
		})
		require.NoError(t, err)
	}
	return found
}

// ignoreGone passes over what a server removed meanwhile.
func ignoreGone(err error) error {
	if err != nil && os.IsNotExist(err) {
		return nil
	}
	return err
}

// inRows returns the tables of a database that show the word in a row, which the
// bytes of a compressed value would not.
func (w *world) inRows(t *testing.T, planted, database string) []string {
	t.Helper()
	ctx, db := within(t, time.Minute), w.database(t, database)
	rows, err := db.Query(ctx, `SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'm', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema')`)
	require.NoError(t, err)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	var found []string
	for _, table := range tables {
		var n int
		require.NoError(t, db.QueryRow(ctx, "SELECT count(*) FROM "+table+" x WHERE x::text ILIKE '%' || $1 || '%' OR x::text LIKE '%' || $2 || '%'",
			planted, hex.EncodeToString([]byte(planted))).Scan(&n), table)
		if n > 0 {
			found = append(found, database+"."+table)
		}
	}
	return found
}

var databases = []string{devstack.ControlDatabase, devstack.CellDatabase, devstack.KratosDatabase, devstack.OpsKratosDatabase}

// everywhere searches all that the stack keeps and says of itself.
func (w *world) everywhere(t *testing.T, planted string) []string {
	t.Helper()
	ctx, db := within(t, time.Minute), w.database(t, devstack.ControlDatabase)
	_, err := db.Exec(ctx, "CHECKPOINT")
	require.NoError(t, err)
	var data string
	require.NoError(t, db.QueryRow(ctx, "SHOW data_directory").Scan(&data))
	dirs := []string{w.Layout().State}
	if !strings.HasPrefix(data, w.Layout().State) {
		dirs = append(dirs, data)
	}
	found := inFiles(t, planted, dirs...)
	for _, d := range databases {
		found = append(found, w.inRows(t, planted, d)...)
	}
	for _, program := range devstack.Programs() {
		a := w.wire(t, w.URL(devstack.HealthPort(program))).do(t, http.MethodGet, "/metrics", nil)
		require.Equal(t, http.StatusOK, a.status)
		require.Contains(t, a.body, "go_goroutines", "%s tells its metrics", program)
		if strings.Contains(strings.ToLower(a.body), planted) {
			found = append(found, "metrics of "+program)
		}
	}
	return found
}

func TestPlantedPHIIsNowhereInClear(t *testing.T) {
	t.Parallel()
	w := here(t)
	l := w.tenant(t, "secrecy")
	// Letters and digits of one case, so that no normalization hides it.
	planted, plain := "zq"+word()+word(), "qz"+word()+word()
	x := w.wire(t, w.Origin()).as(l.Nurse.Client)
	base := "/t/" + l.Slug + "/v1"
	a := w.wire(t, w.Origin()).as(l.Owner.Client).do(t, http.MethodPost, base+"/facilities", m{"name": plain})
	require.Equal(t, http.StatusCreated, a.status, a.body)

	person := m{"facility_id": l.Facility, "name": m{"given": planted, "family": planted}, "birth_date": "1941-03-09",
		"record_number": planted, "phone": planted, "address": planted}
	made := x.with("Idempotency-Key", word()).do(t, http.MethodPost, base+"/clients", person)
	require.Equal(t, http.StatusCreated, made.status, made.body)
	require.Contains(t, made.body, planted, "whoever may see it is shown it")
	var p client.Person
	require.NoError(t, json.Unmarshal([]byte(made.body), &p))
	at := base + "/clients/" + p.ID
	for path, body := range map[string]any{
		at + "/notes": m{"shift": "day", "body": planted}, at + "/contacts": m{"relationship": "friend", "name": planted, "phone": planted},
		at + "/allergies": m{"severity": "mild", "substance": planted, "reaction": planted}, base + "/clients/search": m{"family": planted},
	} {
		a := x.with("Idempotency-Key", word()).do(t, http.MethodPost, path, body)
		require.Less(t, a.status, 300, "%s: %s", path, a.body)
	}
	found := x.do(t, http.MethodPost, base+"/clients/search", m{"record_number": planted})
	require.Contains(t, found.body, p.ID)

	// What is wrong, out of reach or in the wrong place is not repeated either.
	other := w.other(t)
	for name, send := range map[string]func() reply{
		"a wrong date": func() reply {
			return x.do(t, http.MethodPost, base+"/clients", m{"facility_id": l.Facility, "name": m{"given": "A", "family": "B"}, "birth_date": planted})
		},
		"a wrong shift": func() reply { return x.do(t, http.MethodPost, at+"/notes", m{"shift": planted, "body": "x"}) },
		"a wrong type": func() reply {
			return x.do(t, http.MethodPost, at+"/notes", m{"shift": "day", "body": []string{planted}})
		},
		"no JSON": func() reply { return x.do(t, http.MethodPost, at+"/notes", []byte(`{"body": "`+planted)) },
		"no media type": func() reply {
			return x.with("Content-Type", "text/plain").do(t, http.MethodPost, at+"/notes", []byte(planted))
		},
		"too long": func() reply {
			return x.do(t, http.MethodPost, at+"/notes", m{"shift": "day", "body": strings.Repeat(planted, 40000)})
		},
		"in the path":   func() reply { return x.do(t, http.MethodGet, base+"/clients/"+planted, nil) },
		"as the tenant": func() reply { return x.do(t, http.MethodGet, "/t/"+planted+"/v1/clients", nil) },
		"in the query":  func() reply { return x.do(t, http.MethodGet, base+"/clients?family="+planted, nil) },
		"as the cursor": func() reply { return x.do(t, http.MethodGet, base+"/clients?cursor="+planted, nil) },
		"no such page":  func() reply { return x.do(t, http.MethodGet, "/"+planted, nil) },
		"another tenant's": func() reply {
			return w.wire(t, w.Origin()).as(other.Nurse.Client).do(t, http.MethodPost, base+"/clients/search", m{"family": planted})
		},
		"a key twice": func() reply {
			k := x.with("Idempotency-Key", word())
			k.do(t, http.MethodPost, at+"/notes", m{"shift": "day", "body": planted})
			return k.do(t, http.MethodPost, at+"/notes", m{"shift": "day", "body": planted + planted})
		},
	} {
		a := send()
		assert.True(t, a.status >= 400 && a.status < 500, "%s: %d %s", name, a.status, a.body)
		assert.NotContains(t, strings.ToLower(a.body), planted, "%s is repeated in the refusal", name)
	}
	// The trail of the export is written and the spans of the last request are on disk.
	last := x.do(t, http.MethodGet, at, nil)
	require.Contains(t, last.body, planted)
	w.spans(t, last.head.Get("X-Request-Id"))

	require.NotEmpty(t, w.everywhere(t, plain), "the search finds what is stored in clear, as a facility's name is")
	assert.Empty(t, w.everywhere(t, planted), "PHI in clear")
}

// span is what the trace files say of one.
type span struct {
	Name        string
	SpanContext struct{ TraceID string }
	Attributes  []struct {
		Key   string
		Value struct{ Value any }
	}
}

func (s span) attribute(key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return fmt.Sprint(a.Value.Value)
		}
	}
	return ""
}

func (w *world) traced(t *testing.T, program string) (all []span) {
	t.Helper()
	for line := range strings.SplitSeq(w.Spans(t, program), "\n") {
		var s span
		if json.Unmarshal([]byte(line), &s) == nil {
			all = append(all, s)
		}
	}
	return all
}

// spans waits for a request's spans and returns them by program: its trace begins
// at the router, whatever the client says.
func (w *world) spans(t *testing.T, requestID string) map[string][]span {
	t.Helper()
	require.NotEmpty(t, requestID)
	found := map[string][]span{}
	until(t, 20*time.Second, "the spans of a request are written", func() (bool, string) {
		clear(found)
		trace := ""
		for _, s := range w.traced(t, devstack.Router) {
			if s.attribute("caresphere.request_id") == requestID {
				trace = s.SpanContext.TraceID
			}
		}
		if trace == "" {
			return false, "none of the router's"
		}
		database := 0
		for _, program := range append([]string{devstack.Router}, workers...) {
			for _, s := range w.traced(t, program) {
				if s.SpanContext.TraceID != trace {
					continue
				}
				found[program] = append(found[program], s)
				if s.attribute("db.system.name") != "" || s.attribute("db.system") != "" || strings.HasPrefix(s.Name, "pg ") {
					database++
				}
			}
		}
		return len(found[devstack.WorkerA])+len(found[devstack.WorkerB]) > 0 && database > 0, fmt.Sprintf("%+v", found)
	})
	return found
}

func TestOneTraceGoesFromTheRouterToTheDatabase(t *testing.T) {
	t.Parallel()
	w := here(t)
	l := w.other(t)
	claimed := strings.Repeat("ab", 16)
	a := w.wire(t, w.Origin()).as(l.Nurse.Client).with("Traceparent", "00-"+claimed+"-"+strings.Repeat("cd", 8)+"-01").
		do(t, http.MethodGet, "/t/"+l.Slug+"/v1/clients", nil)
	require.Equal(t, http.StatusOK, a.status)
	for program, spans := range w.spans(t, a.head.Get("X-Request-Id")) {
		for _, s := range spans {
			require.NotEqual(t, claimed, s.SpanContext.TraceID, "%s believes a client about the trace", program)
			require.NotContains(t, s.Name, l.Slug, "a span is named by the template")
		}
	}
	for _, program := range devstack.Programs() {
		x := w.wire(t, w.URL(devstack.HealthPort(program)))
		require.Equal(t, http.StatusOK, x.do(t, http.MethodGet, "/livez", nil).status, program)
		require.Equal(t, http.StatusOK, x.do(t, http.MethodGet, "/readyz", nil).status, program)
	}
}
