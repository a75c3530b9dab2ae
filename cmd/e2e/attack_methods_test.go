package e2e_test

import (
	"net/http"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/testkit/prove"
)

var everyMethod = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions, http.MethodTrace, "PROPFIND", "get"}

// undescribed are requests with the right session by every method that the
// description of a path does not name. HEAD is GET without its body (RFC 9110, 9.3.2).
func (f *front) undescribed(t *testing.T, who string, x wire, docs []*document, paths ...string) []attack {
	t.Helper()
	var list []attack
	for _, d := range docs {
		methods := map[string][]string{}
		for _, o := range d.ops {
			methods[o.path] = append(methods[o.path], o.method)
		}
		s := &siege{doc: d, who: who, x: x}
		for _, o := range d.ops {
			if o.method != methods[o.path][0] || len(paths) > 0 && !slices.Contains(paths, o.id) {
				continue // a path once
			}
			path, _, _ := s.make(o, f.theirs.Slug, f.theirs.own, f.theirs.own)
			for _, method := range everyMethod {
				judge := func(r reply) string {
					switch r.status {
					case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented, http.StatusBadRequest,
						http.StatusUnprocessableEntity: // a word where another path has an id
						return ""
					}
					return "is not refused"
				}
				if slices.Contains(methods[o.path], method) {
					continue
				}
				if method == http.MethodHead && slices.Contains(methods[o.path], http.MethodGet) {
					continue
				}
				var body any
				if method != http.MethodGet && method != http.MethodHead && method != http.MethodTrace {
					body = m{"version": 1, "name": "Other", "reason": "none"}
				}
				s.add(o, "by "+method, body, method, path, nil, judge, nil)
			}
		}
		require.NoError(t, s.err)
		list = append(list, s.list...)
	}
	return list
}

func (f *front) methods(t *testing.T) {
	customers, who := []*document{f.data, f.control}, "the owner's cookies"
	console := f.w.wire(t, f.w.OperatorOrigin()).as(f.w.operator(t))
	before := f.w.rows(t, f.theirs.Live)
	got := launch(within(t, f.limit), append(f.undescribed(t, who, f.w.wire(t, f.w.Origin()).as(f.theirs.Owner.Client), customers),
		f.undescribed(t, "the operator's token", console, []*document{f.operators})...))
	for _, name := range changed(before, f.w.rows(t, f.theirs.Live)) {
		got.gave = append(got.gave, "rows changed in "+name)
	}
	for _, gave := range got.gave {
		assert.Fail(t, gave)
	}
	prove.State(t, prove.Methods, got.tried, len(got.gave))

	// A server that takes any method for the one that it knows.
	put2get := func(r *http.Request) {
		if r.Method == http.MethodPut {
			r.Method, r.Body, r.ContentLength = http.MethodGet, nil, 0
		}
	}
	willing := f.w.leak(t, f.w.Origin(), put2get, nil)
	got = launch(within(t, f.limit), f.undescribed(t, who, f.w.wire(t, willing).as(f.theirs.Owner.Client), customers, "getClient"))
	noticed := min(1, len(got.gave))
	console.base = f.w.leak(t, f.w.OperatorOrigin(), put2get, nil)
	got = launch(within(t, f.limit), f.undescribed(t, "the operator's token", console, []*document{f.operators}, "get-baa"))
	prove.Plant(t, prove.Methods, 2, noticed+min(1, len(got.gave)))
}

// forgotten plants descriptions that the attacks do not cover: each is noticed before
// anything is sent.
func (f *front) forgotten(t *testing.T) {
	whole, err := parseDocument([]byte(f.w.wire(t, f.w.Origin()).do(t, http.MethodGet, "/t/openapi.json", nil).body))
	require.NoError(t, err)
	less := &document{schemas: whole.schemas, ops: slices.DeleteFunc(slices.Clone(whole.ops), func(o operation) bool { return o.id == "getClient" })}
	noticed := 0
	if less.differsFrom(whole) != "" {
		noticed++
	}
	for _, planted := range []operation{
		{id: "newKind", method: http.MethodGet, path: "/t/{slug}/v1/devices/{id}"},
		{id: "newQuery", method: http.MethodGet, path: "/t/{slug}/v1/clients", query: []string{"patient"}},
		{id: "newHeader", method: http.MethodGet, path: "/t/{slug}/v1/clients", headers: []string{"X-Patient"}},
		{id: "newBody", method: http.MethodPost, path: "/t/{slug}/v1/clients", body: &schema{Properties: map[string]*schema{"patient_ref": {Type: "string", Format: "uuid"}}}},
		{id: "newWord", method: http.MethodPost, path: "/t/{slug}/v1/clients", body: &schema{Properties: map[string]*schema{"favourite_colour": {Type: "string"}}}},
	} {
		s := &siege{doc: whole, own: f.mine.own, x: wire{head: http.Header{}}}
		s.foreign(planted, f.theirs.own, nil)
		if s.err != nil {
			noticed++
		}
	}
	for _, planted := range []string{`"requestBody":{"content":{"text/csv":{"schema":{}}}}`, `"parameters":[{"in":"cookie","name":"patient"}]`} {
		if _, err := parseDocument([]byte(`{"paths":{"/x":{"post":{"operationId":"x",` + planted + `}}}}`)); err != nil {
			noticed++
		}
	}
	prove.Plant(t, prove.Methods, 8, noticed)
}
