package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"github.com/caresphere/caresphere/dataplane/dptest"
	"github.com/caresphere/caresphere/tenants"
)

// rows counts everything that a request could have written, the trail apart.
func rows(t *testing.T, p *place) int {
	t.Helper()
	n := 0
	for _, table := range []string{"facility", "member", "member_facility", "facility_grant", "client", "client_placement", "client_contact",
		"client_allergy", "care_team_member", "shift_note", "idempotency_key"} {
		n += p.cell.Count(t, "SELECT count(*) FROM "+p.Role+"."+table)
	}
	return n
}

// broken is a body that must be refused, and the field that the answer must name.
type broken struct {
	what, body, field string
	status            []int
}

// breakages derives bad bodies from a good one and its schema: each required field
// missing, each field of another type, each string too long, an unknown field, and
// what is no JSON at all.
func breakages(t *testing.T, registry huma.Registry, schema *huma.Schema, good m) []broken {
	t.Helper()
	refused := []int{400, 422}
	encode := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	changed := func(change func(m)) string {
		var c m
		if err := json.Unmarshal([]byte(encode(good)), &c); err != nil {
			t.Fatal(err)
		}
		change(c)
		return encode(c)
	}
	out := []broken{
		{"an unknown field", changed(func(c m) { c["surprise"] = 1 }), "surprise", refused},
		{"a body that is a list", "[]", "body", refused},
		{"half a body", `{"a":`, "body", refused},
		{"two bodies", encode(good) + encode(good), "body", refused},
		{"a repeated name", `{"x":1,"x":2}`, "body", refused},
		{"invalid UTF-8", "{\"x\":\"\xff\"}", "body", refused},
		{"an oversize body", `{"x":"` + strings.Repeat("a", 300<<10) + `"}`, "", []int{413}},
	}
	for _, name := range schema.Required {
		// Null stands for absent, which an optional field may be.
		out = append(out, broken{"no " + name, changed(func(c m) { delete(c, name) }), name, refused},
			broken{name + " null", changed(func(c m) { c[name] = nil }), name, refused})
	}
	for name, property := range schema.Properties {
		if property.Ref != "" {
			property = registry.SchemaFromRef(property.Ref)
		}
		var wrong any = "text"
		if property.Type == huma.TypeString {
			wrong = 5
		}
		out = append(out, broken{name + " of another type", changed(func(c m) { c[name] = wrong }), name, refused})
		if property.Type != huma.TypeString {
			continue
		}
		if property.MaxLength == nil && property.Format != "uuid" && property.Format != "date" && property.Format != "date-time" && property.Enum == nil {
			t.Errorf("%s has no limit on its length", name)
		}
		long := 70000
		if property.MaxLength != nil {
			long = *property.MaxLength + 1
		}
		out = append(out, broken{name + " with U+0000", changed(func(c m) { c[name] = "a\x00b" }), name, refused})
		out = append(out, broken{name + " too long", changed(func(c m) { c[name] = strings.Repeat("a", long) }), name, refused})
		if property.Enum != nil || property.Format != "" {
			out = append(out, broken{name + " of no known value", changed(func(c m) { c[name] = "no such value" }), name, refused})
		}
	}
	return out
}

func TestBadBodiesAreRefusedAndNamed(t *testing.T) {
	cell := dptest.Start(t)
	p := furnish(t, cell, "harbor")
	registry := cell.API.Huma.OpenAPI().Components.Schemas
	for _, r := range routes() {
		op := find(t, cell, r.id)
		if op.RequestBody == nil {
			if r.method == "GET" || r.method == "DELETE" {
				before := rows(t, p)
				if a := p.Owner.Do(t, r.method, "/session", `{"surprise":1}`); r.id == "getSession" && a.Status != 400 {
					t.Errorf("a body where none belongs answers %d", a.Status)
				}
				if n := rows(t, p); n != before {
					t.Error("something was written")
				}
			}
			continue
		}
		t.Run(r.id, func(t *testing.T) {
			var good m
			raw, _ := json.Marshal(r.body(t, p))
			if err := json.Unmarshal(raw, &good); err != nil {
				t.Fatal(err)
			}
			schema := op.RequestBody.Content["application/json"].Schema
			if schema.Ref != "" {
				schema = registry.SchemaFromRef(schema.Ref)
			}
			path := r.path(t, p)
			before := rows(t, p)
			for _, b := range breakages(t, registry, schema, good) {
				a := p.Owner.Do(t, r.method, path, b.body)
				if !contains(b.status, a.Status) {
					t.Errorf("%s answers %d: %s", b.what, a.Status, a.Body)
					continue
				}
				named := b.field == ""
				for _, f := range a.Problem(t).Errors {
					named = named || strings.Contains(f.Field, b.field) || strings.Contains(f.Message, b.field)
				}
				if !named {
					t.Errorf("%s: the answer does not name %s: %s", b.what, b.field, a.Body)
				}
			}
			if a := p.Owner.Do(t, r.method, path, good, "Content-Type", "text/plain"); a.Status != http.StatusUnsupportedMediaType {
				t.Errorf("another media type answers %d", a.Status)
			}
			if a := p.Owner.Do(t, r.method, path+"?surprise=1", good); a.Status/100 != 4 {
				t.Errorf("an unknown query parameter answers %d", a.Status)
			}
			if n := rows(t, p); n != before {
				t.Errorf("%d rows were written by refused requests", n-before)
			}
		})
	}
}

func TestBadPathsAndQueries(t *testing.T) {
	cell := dptest.Start(t)
	p := furnish(t, cell, "harbor")
	for _, r := range routes() {
		path := r.path(t, p)
		i := strings.IndexByte(strings.TrimPrefix(path, "/"), '/')
		if i < 0 || strings.HasPrefix(path, "/audit") || path == "/clients/search" {
			continue
		}
		parts := strings.Split(path, "/")
		for _, bad := range []string{"not-an-id", strings.ToUpper(parts[2]), "0"} {
			parts[2] = bad
			a := p.Owner.Do(t, r.method, strings.Join(parts, "/"), r.body(t, p))
			if a.Status != 422 || !strings.Contains(string(a.Body), `"path.id"`) {
				t.Errorf("%s of %s answers %d: %s", r.id, bad, a.Status, a.Body)
			}
		}
	}
	for query, field := range map[string]string{
		"/clients?limit=0": "query.limit", "/clients?limit=201": "query.limit", "/clients?limit=x": "query.limit", "/clients?cursor=x": "query.cursor",
		"/clients?limit=1&limit=2": "query.limit", "/members?cursor=../..": "query.cursor", "/audit/entries?actor=x": "query.actor",
		"/audit/entries?from=yesterday": "query.from", "/audit/entries?outcome=maybe": "query.outcome", "/audit/entries?cursor=AAAA": "query.cursor",
		"/audit/entries?action=Drop%20table": "query.action", "/audit/export?format=xml": "query.format",
		"/audit/entries?from=2026-02-01T00:00:00Z&to=2026-01-01T00:00:00Z": "query.to",
	} {
		a := p.Owner.Do(t, "GET", query, nil)
		if a.Status != 422 && a.Status != 400 || !strings.Contains(string(a.Body), `"`+field+`"`) {
			t.Errorf("%s answers %d without naming %s: %s", query, a.Status, field, a.Body)
		}
	}
	if a := p.Owner.Do(t, "POST", "/clients/search", m{}); a.Status != 422 {
		t.Errorf("an empty search answers %d", a.Status)
	}
	if a := p.Owner.Do(t, "POST", "/clients", m{"facility_id": p.North, "name": m{"given": "A", "family": "B"}, "birth_date": "2999-01-01"}); a.Status != 422 ||
		!strings.Contains(string(a.Body), "body.birth_date") {
		t.Errorf("a birth in the future answers %d: %s", a.Status, a.Body)
	}
}

// TestErrorsHoldNoPHI sends PHI in every way that is refused and looks for it in
// the answers.
func TestErrorsHoldNoPHI(t *testing.T) {
	cell := dptest.Start(t)
	p := furnish(t, cell, "harbor")
	const marker = "Zyxmarker"
	for i, body := range []any{
		m{"facility_id": p.North, "name": m{"given": marker, "family": strings.Repeat(marker, 50)}, "birth_date": "1948-03-11"},
		m{"facility_id": p.North, "name": m{"given": marker, "family": marker}, "birth_date": marker},
		m{"facility_id": marker, "name": m{"given": marker, "family": marker}, "birth_date": "1948-03-11"},
		m{"facility_id": tenants.NewID(), "name": m{"given": marker, "family": marker}, "birth_date": "1948-03-11"},
		`{"name": {"given": "` + marker + `"`,
		`{"` + marker + `": 1}`,
	} {
		a := p.Owner.Do(t, "POST", "/clients", body)
		if a.Status/100 != 4 || strings.Contains(string(a.Body), marker) && i != 5 {
			t.Errorf("body %d answers %d: %s", i, a.Status, a.Body)
		}
	}
	p.Owner.Do(t, "POST", "/clients", m{"facility_id": p.North, "name": m{"given": "A", "family": "B"}, "birth_date": "1948-03-11", "record_number": marker}).ID(t)
	a := p.Owner.Do(t, "POST", "/clients", m{"facility_id": p.North, "name": m{"given": "A", "family": "B"}, "birth_date": "1948-03-11", "record_number": marker})
	if a.Status != 409 || strings.Contains(string(a.Body), marker) {
		t.Errorf("a record number that is taken answers %d: %s", a.Status, a.Body)
	}
	if a := p.Owner.Do(t, "POST", "/clients", m{"facility_id": p.South, "name": m{"given": "A", "family": "B"}, "birth_date": "1948-03-11", "record_number": marker}); a.Status != 201 {
		t.Errorf("the same number at another facility answers %d: %s", a.Status, a.Body)
	}
}

func find(t *testing.T, cell *dptest.Cell, id string) *huma.Operation {
	t.Helper()
	for _, item := range cell.API.Huma.OpenAPI().Paths {
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Put, item.Patch, item.Delete} {
			if op != nil && op.OperationID == id {
				return op
			}
		}
	}
	t.Fatal(fmt.Errorf("there is no operation %s", id))
	return nil
}

func contains(all []int, one int) bool {
	for _, s := range all {
		if s == one {
			return true
		}
	}
	return false
}
