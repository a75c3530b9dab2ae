package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/caresphere/caresphere/dataplane/access"
	"github.com/caresphere/caresphere/dataplane/records"
	"github.com/caresphere/caresphere/dataplane/session"
	"github.com/caresphere/caresphere/internal/phi"
	"github.com/caresphere/caresphere/tenants"
)

// prefix begins every operation's path.
const prefix = "/t/{slug}/v1"

// operation describes one operation, and how the gate treats it.
type operation struct {
	method, path, id, summary, about, tag string
	status                                int
	// write is refused while the organization is read-only.
	write bool
	// sensitive asks Kratos again before it is done.
	sensitive bool
}

func (o operation) huma() huma.Operation {
	errs := []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound,
		http.StatusMisdirectedRequest, http.StatusUnprocessableEntity, http.StatusInternalServerError, http.StatusServiceUnavailable}
	if o.method != http.MethodGet {
		errs = append(errs, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	return huma.Operation{Method: o.method, Path: prefix + o.path, OperationID: o.id, Summary: o.summary, Description: o.about,
		Tags: []string{o.tag}, DefaultStatus: o.status, Errors: errs, MaxBodyBytes: 256 << 10}
}

// The parts below are embedded in operations' inputs, and exported because huma fills
// exported fields only.

// TenantPath is the part of the path that every operation has.
type TenantPath struct {
	Slug string `path:"slug" minLength:"2" maxLength:"39" pattern:"^[a-z](?:[a-z0-9]|-[a-z0-9]){1,38}$" patternDescription:"an organization's short name" doc:"The organization's short name" example:"harbor-house"`
}

// RecordPath names one record.
type RecordPath struct {
	TenantPath
	ID tenants.ID `path:"id" format:"uuid" doc:"The record's id"`
}

// PageQuery asks for one page of a list.
type PageQuery struct {
	Cursor string `query:"cursor" maxLength:"36" pattern:"^([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})?$" patternDescription:"a cursor from a page" doc:"next_cursor of the page before"`
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"Records a page"`
}

func (q PageQuery) cursor() (records.Cursor, error) {
	c := records.Cursor{Limit: q.Limit}
	if q.Cursor == "" {
		return c, nil
	}
	id, err := tenants.ParseID(q.Cursor)
	if err != nil {
		return c, tenants.Invalid("query.cursor", "must be a cursor from a page")
	}
	c.After = id
	return c, nil
}

// OnceHeader makes a creating POST safe to repeat.
type OnceHeader struct {
	Key string `header:"Idempotency-Key" maxLength:"128" pattern:"^[!-~]*$" patternDescription:"printable ASCII without spaces" doc:"A value of the client's own; a repeat with the same key and body answers with the record that the first one made" example:"8f1c2a7e-admission-1"`
}

// once binds the key to the operation, its record and its body.
func (h OnceHeader) once(operation string, record tenants.ID, body any) (access.Once, error) {
	if h.Key == "" {
		return access.Once{}, nil
	}
	// The encoding that reveals is only hashed, under a key, and then gone.
	raw, err := phi.EncodeJSON(body)
	if err != nil {
		return access.Once{}, err
	}
	if !record.IsZero() {
		operation += ":" + record.String()
	}
	return access.Once{Key: h.Key, Operation: operation, Body: raw}, nil
}

// answer is a JSON answer.
type answer[T any] struct{ Body T }

// add registers an operation that answers with a T.
func add[I, T any](a *API, o operation, handle func(context.Context, session.Visit, *I) (T, error)) {
	huma.Register(a.Huma, o.huma(), func(ctx context.Context, in *I) (*answer[T], error) {
		v, err := a.admit(ctx, o)
		if err != nil {
			return nil, err
		}
		out, err := handle(ctx, v, in)
		if err != nil {
			return nil, err
		}
		return &answer[T]{Body: out}, nil
	})
}

// addEmpty registers an operation that answers 204.
func addEmpty[I any](a *API, o operation, handle func(context.Context, session.Visit, *I) error) {
	o.status = http.StatusNoContent
	huma.Register(a.Huma, o.huma(), func(ctx context.Context, in *I) (*struct{}, error) {
		v, err := a.admit(ctx, o)
		if err != nil {
			return nil, err
		}
		return nil, handle(ctx, v, in)
	})
}

// admit holds what the operation asks of the gate beyond being let in.
func (a *API) admit(ctx context.Context, o operation) (session.Visit, error) {
	v, err := visitOf(ctx)
	if err != nil {
		return v, err
	}
	if o.write {
		if err := a.cfg.Gate.Writable(ctx, v); err != nil {
			return v, err
		}
	}
	if o.sensitive {
		if err := a.cfg.Gate.Confirm(ctx, v); err != nil {
			return v, err
		}
	}
	return v, nil
}
