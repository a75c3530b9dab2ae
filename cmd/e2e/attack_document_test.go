package e2e_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// schema is what the attacks read of a JSON schema.
type schema struct {
	Ref        string `json:"$ref"`
	Type       any
	Format     string
	Enum       []any
	Required   []string
	Properties map[string]*schema
	Items      *schema
	// PHI is what internal/phi marks.
	PHI bool `json:"x-phi"`
}

// operation is one of an OpenAPI document.
type operation struct {
	id, method, path string
	// public is asked without a session of a person.
	public         bool
	query, headers []string
	body           *schema
}

// document is an API's description, as a customer reads it.
type document struct {
	ops     []operation
	schemas map[string]*schema
}

// describe reads a document, and holds it against the one that the repository keeps.
func describe(t *testing.T, x wire, path, kept string) *document {
	t.Helper()
	a := x.do(t, http.MethodGet, path, nil)
	require.Equal(t, http.StatusOK, a.status)
	d, err := parseDocument([]byte(a.body))
	require.NoError(t, err)
	raw, err := os.ReadFile(filepath.Join("..", "..", "docs", "openapi", kept))
	require.NoError(t, err)
	want, err := parseDocument(raw)
	require.NoError(t, err)
	require.Empty(t, d.differsFrom(want), "the stack describes what the repository does")
	return d
}

func parseDocument(raw []byte) (*document, error) {
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			OperationID string                      `json:"operationId"`
			Security    *[]map[string]any           `json:"security"`
			Parameters  []struct{ In, Name string } `json:"parameters"`
			RequestBody struct {
				Content map[string]struct{ Schema *schema }
			} `json:"requestBody"`
		}
		Components struct{ Schemas map[string]*schema }
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, err
	}
	d := &document{schemas: doc.Components.Schemas}
	for path, item := range doc.Paths {
		for method, o := range item {
			op := operation{id: o.OperationID, method: strings.ToUpper(method), path: path, public: o.Security != nil}
			for _, p := range o.Parameters {
				switch p.In {
				case "path":
				case "query":
					op.query = append(op.query, p.Name)
				case "header":
					op.headers = append(op.headers, p.Name)
				default:
					return nil, fmt.Errorf("teach the attacks to send %s of %s in the %s", p.Name, o.OperationID, p.In)
				}
			}
			for kind, c := range o.RequestBody.Content {
				if kind != "application/json" {
					return nil, fmt.Errorf("teach the attacks to send %s to %s", kind, o.OperationID)
				}
				op.body = c.Schema
			}
			d.ops = append(d.ops, op)
		}
	}
	slices.SortFunc(d.ops, func(a, b operation) int { return strings.Compare(a.path+a.method, b.path+b.method) })
	return d, nil
}

// differsFrom names the operations that one of two documents lacks.
func (d *document) differsFrom(want *document) string {
	keys := func(d *document) map[string]bool {
		all := map[string]bool{}
		for _, o := range d.ops {
			all[o.method+" "+o.path] = true
		}
		return all
	}
	have, must := keys(d), keys(want)
	var out []string
	for k := range have {
		if !must[k] {
			out = append(out, "unknown: "+k)
		}
	}
	for k := range must {
		if !have[k] {
			out = append(out, "forgotten: "+k)
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// named are what stands in the request for each kind of record.
type named map[string]string

// kinds says which kind of record a property or parameter names. With plain below it
// is all that the attacks know of requests: another name fails them.
var kinds = map[string]string{
	"facility_id": "facility", "facilities": "facility", "member_id": "member", "amends": "note", "tenant": "slug",
	"cursor": "client", "actor": "member", "facility": "facility", "record_id": "client", "before": "organization", "after": "organization",
}

// idempotencyKey is attacked by itself, in attack_idempotency_test.go.
const idempotencyKey = "Idempotency-Key"

// parameters are those beside the path that name no record: in the query, and as headers.
var parameters = []string{"limit", "from", "to", "record_type", "action", "outcome", "format", "search", "state", idempotencyKey}

// unknown says which parameter of the operation the attacks do not know.
func (o operation) unknown() error {
	for _, name := range slices.Concat(o.query, o.headers) {
		if kinds[name] == "" && !slices.Contains(parameters, name) {
			return fmt.Errorf("teach the attacks what %s of %s names", name, o.id)
		}
	}
	return nil
}

// plain are values for what names no record.
var plain = map[string]any{
	"name": "Ann Other", "email": "", "phone": "1", "address": "1 Road", "gender": "x", "record_number": "", "reason": "A test of isolation.",
	"timezone": "America/Chicago", "birth_date": "1948-03-11", "expires_at": "", "version": 1, "limit": 5, "given": "Rosa", "family": "New",
	"body": "Not mine.", "reaction": "Rash", "substance": "Nuts", "emergency": true, "term_months": 12, "authority": "I may.",
	"title": "Director", "consent": true, "intent": true, "document_sha256": strings.Repeat("0", 64), "legal_name": "X", "slug": "",
	"cell": "main", "apply": false, "sex": "female", "status": "active", "role": "nurse", "relationship": "friend",
}

// besides are optional properties without which an operation would do nothing.
var besides = map[string][]string{
	"updateFacility": {"timezone"}, "updateMember": {"name"}, "updateClient": {"phone"}, "searchClients": {"family"}, "ask-isolation-proof": {"tenant"},
}

// place is where in a body a record is named.
type place struct {
	steps []any // names and indices
	kind  string
}

func (p place) String() string { return fmt.Sprint(p.steps...) }

// resolved follows references.
func (d *document) resolved(s *schema) *schema {
	for s != nil && s.Ref != "" {
		s = d.schemas[s.Ref[strings.LastIndexByte(s.Ref, '/')+1:]]
	}
	return s
}

// request makes a body of the operation with the records named, and lists every
// place where one may stand; with at, an optional one is present too.
func (d *document) request(o operation, n named, at *place) (any, []place, error) {
	if o.body == nil {
		return nil, nil, nil
	}
	w := &writer{d: d, op: o, n: n, at: at}
	v := w.value(o.body, "", nil)
	if w.err != nil {
		return nil, nil, fmt.Errorf("teach the attacks the body of %s: %w", o.id, w.err)
	}
	return v, w.places, nil
}

type writer struct {
	d      *document
	op     operation
	n      named
	at     *place
	places []place
	err    error
}

func (w *writer) value(s *schema, name string, steps []any) any {
	s = w.d.resolved(s)
	switch {
	case s == nil:
		w.err = fmt.Errorf("%s has no schema", name)
		return nil
	case s.Properties != nil:
		return w.object(s, steps)
	case s.Items != nil:
		return []any{w.value(s.Items, name, append(slices.Clone(steps), 0))}
	}
	if kind, ok := kinds[name]; ok {
		w.places = append(w.places, place{steps: steps, kind: kind})
		return w.n[kind]
	}
	v, known := plain[name]
	switch {
	case s.Format == "uuid":
		w.err = fmt.Errorf("which record does %s name?", name)
	case len(s.Enum) > 0:
		return s.Enum[0]
	case !known:
		w.err = fmt.Errorf("what is a valid %s?", name)
	case name == "email" && w.op.id == "sign-up":
		return "no address" // or every attack would found an organization
	case name == "email":
		return word() + "@example.com"
	case name == "expires_at":
		return time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	case name == "record_number":
		return "MRN-" + word()
	case name == "name" && w.op.id == "createFacility":
		return "New " + word()
	}
	return v
}

func (w *writer) object(s *schema, steps []any) any {
	out := m{}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		here := append(slices.Clone(steps), name)
		v := w.value(s.Properties[name], name, here)
		asked := w.at != nil && len(w.at.steps) >= len(here) && slices.Equal(w.at.steps[:len(here)], here)
		if slices.Contains(s.Required, name) || slices.Contains(besides[w.op.id], name) || asked {
			out[name] = v
		}
	}
	return out
}

// put sets another record at the place.
func put(body any, at place, id string) {
	for i, step := range at.steps {
		last := i == len(at.steps)-1
		switch b := body.(type) {
		case m:
			if last {
				b[step.(string)] = id
			}
			body = b[step.(string)]
		case []any:
			if last {
				b[step.(int)] = id
			}
			body = b[step.(int)]
		}
	}
}
