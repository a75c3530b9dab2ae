package api

import (
	"bufio"
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/caresphere/caresphere/dataplane/session"
	"github.com/caresphere/caresphere/dataplane/trail"
	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/audit/export"
	"github.com/caresphere/caresphere/internal/audit/search"
	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/tenants"
)

// TrailFilter chooses entries; all that is given must match.
type TrailFilter struct {
	Actor      string    `query:"actor" maxLength:"36" pattern:"^([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})?$" patternDescription:"a UUID in lower case" doc:"Who acted"`
	Facility   string    `query:"facility" maxLength:"36" pattern:"^([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})?$" patternDescription:"a UUID in lower case" doc:"At which facility"`
	From       time.Time `query:"from" doc:"From this moment on" example:"2026-01-01T00:00:00Z"`
	To         time.Time `query:"to" doc:"Before this moment" example:"2026-02-01T00:00:00Z"`
	RecordType string    `query:"record_type" maxLength:"64" pattern:"^[a-z0-9_.]*$" patternDescription:"the name of a kind of record" doc:"Kind of record" example:"client"`
	RecordID   string    `query:"record_id" maxLength:"128" pattern:"^[A-Za-z0-9_.:-]*$" patternDescription:"a record's id" doc:"The record"`
	Action     string    `query:"action" maxLength:"64" pattern:"^([a-z][a-z0-9_.]*)?$" patternDescription:"the name of an action" doc:"What was done" example:"client.read"`
	Outcome    string    `query:"outcome" maxLength:"8" pattern:"^(ok|denied|failed)?$" patternDescription:"ok, denied or failed" doc:"How it ended" example:"denied"`
}

func (q TrailFilter) filter() (audit.Filter, error) {
	f := audit.Filter{From: q.From, To: q.To, RecordType: q.RecordType, RecordID: q.RecordID, Action: q.Action, Outcome: audit.Outcome(q.Outcome)}
	for _, id := range []struct {
		name, value string
		into        *tenants.ID
	}{{"query.actor", q.Actor, &f.Actor}, {"query.facility", q.Facility, &f.Facility}} {
		if id.value == "" {
			continue
		}
		v, err := tenants.ParseID(id.value)
		if err != nil {
			return f, tenants.Invalid(id.name, "must be a UUID in lower case")
		}
		*id.into = v
	}
	if !f.From.IsZero() && !f.To.IsZero() && !f.From.Before(f.To) {
		return f, tenants.Invalid("query.to", "must lie after from")
	}
	return f, nil
}

func (a *API) auditRoutes() {
	type find struct {
		TenantPath
		TrailFilter
		Cursor string `query:"cursor" maxLength:"128" pattern:"^[A-Za-z0-9_-]*$" patternDescription:"a cursor from a page" doc:"next_cursor of the page before"`
		Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50" doc:"Entries a page"`
	}
	add(a, operation{method: http.MethodGet, path: "/audit/entries", id: "searchAudit", tag: "Audit",
		summary: "Search the audit trail", about: "Newest first. All that is given must match. The search is itself in the trail."},
		func(ctx context.Context, v session.Visit, in *find) (trail.Page, error) {
			f, err := in.filter()
			if err != nil {
				return trail.Page{}, err
			}
			return a.cfg.Trail.Search(ctx, v.Actor, f, search.Page{Cursor: in.Cursor, Limit: in.Limit})
		})
	a.exportRoute()
	a.keysRoute()
}

func (a *API) exportRoute() {
	type download struct {
		TenantPath
		TrailFilter
		Format string `query:"format" enum:"jsonl,csv" default:"jsonl" doc:"Form of the file"`
	}
	o := operation{method: http.MethodGet, path: "/audit/export", id: "exportAudit", tag: "Audit", sensitive: true, status: http.StatusOK,
		summary: "Take the audit trail away",
		about:   "Every entry that the filter chooses up to this moment, with the proofs that none was changed, removed or added. `caresphere audit verify` checks the file with the public keys alone. An answer that breaks off has no footer and does not verify."}
	op := o.huma()
	op.Responses = map[string]*huma.Response{"200": {Description: "The export", Content: map[string]*huma.MediaType{
		"application/jsonl": {Schema: &huma.Schema{Type: huma.TypeString, Description: "One JSON object a line"}},
		"text/csv":          {Schema: &huma.Schema{Type: huma.TypeString, Description: "RFC 4180, with a line of titles"}}}}}
	huma.Register(a.Huma, op, func(ctx context.Context, in *download) (*huma.StreamResponse, error) {
		v, err := a.admit(ctx, o)
		if err != nil {
			return nil, err
		}
		f, err := in.filter()
		if err != nil {
			return nil, err
		}
		write, err := a.cfg.Trail.Export(ctx, v.Actor, f, export.Format(in.Format))
		if err != nil {
			return nil, err
		}
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			kind := "application/jsonl"
			if in.Format == string(export.CSV) {
				kind = "text/csv; charset=utf-8"
			}
			hc.SetStatus(http.StatusOK)
			hc.SetHeader("Content-Type", kind)
			hc.SetHeader("Content-Disposition", `attachment; filename="audit.`+in.Format+`"`)
			httpx.StreamFrom(hc, func(ctx context.Context, w *bufio.Writer) error { return write(ctx, w) })
		}}, nil
	})
}

func (a *API) keysRoute() {
	type text struct {
		ContentType string `header:"Content-Type"`
		Body        []byte
	}
	o := operation{method: http.MethodGet, path: "/audit/keys", id: "getAuditKeys", tag: "Audit", status: http.StatusOK,
		summary: "Show the keys that an export verifies with", about: "Public verifier keys (C2SP signed note), one a line. Compare them with those published elsewhere before trusting an export by them."}
	op := o.huma()
	op.Responses = map[string]*huma.Response{"200": {Description: "Verifier keys, one a line", Content: map[string]*huma.MediaType{
		"text/plain": {Schema: &huma.Schema{Type: huma.TypeString}}}}}
	huma.Register(a.Huma, op, func(ctx context.Context, _ *TenantPath) (*text, error) {
		v, err := a.admit(ctx, o)
		if err != nil {
			return nil, err
		}
		keys, err := a.cfg.Trail.Keys(ctx, v.Actor)
		if err != nil {
			return nil, err
		}
		return &text{ContentType: "text/plain; charset=utf-8", Body: []byte(keys)}, nil
	})
}
