package httpx

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"sort"
	"strconv"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/gofiber/fiber/v2"

	"github.com/caresphere/caresphere/tenants"
)

// APIConfig describes an API for its OpenAPI 3.1 document.
type APIConfig struct {
	Title, Version, Description string
	// Servers are the base URLs; empty is the origin that the document came from.
	Servers []string
	// Tags are the groups of operations, in order. Every operation names one.
	Tags []Tag
	// SpecPath is where the document is served; empty is /openapi.json.
	SpecPath string
	// Security schemes; nil is SessionSecurity. Every operation needs one of them
	// unless it sets Security to an empty, non-nil list.
	Security map[string]*huma.SecurityScheme
	// Marshal encodes answers; nil is encoding/json. The data plane gives the
	// encoder that may reveal PHI here.
	Marshal func(any) ([]byte, error)
}

// Tag is a group of operations.
type Tag struct{ Name, Description string }

// SessionSecurity are the ways to show a session: the cookie of a browser, or
// the session's token as a bearer.
func SessionSecurity(cookie string) map[string]*huma.SecurityScheme {
	return map[string]*huma.SecurityScheme{
		"session": {Type: "apiKey", In: "cookie", Name: cookie, Description: "The session of a signed-in browser."},
		"token":   {Type: "http", Scheme: "bearer", Description: "The token of a session, for programs."},
	}
}

// Public marks an operation that needs no session.
func Public() []map[string][]string { return []map[string][]string{} }

var setupHuma = sync.OnceFunc(func() {
	huma.ValidateStrictCasing = true
	huma.NewError = newHumaError
	huma.NewErrorWithContext = newHumaErrorWithContext
})

// problemStatuses are documented for every operation that does not say which it has.
var problemStatuses = []int{400, 401, 403, 404, 409, 413, 415, 422, 429, 500, 503}

// NewAPI returns a huma API on the router (the app or a group of it) whose
// requests are read strictly and whose errors are problems, and serves its
// OpenAPI 3.1 document. Operations give full paths, for the document has no
// other; the router adds only middleware.
func NewAPI(app *fiber.App, router fiber.Router, cfg APIConfig) huma.API {
	setupHuma()
	if cfg.Security == nil {
		cfg.Security = SessionSecurity("caresphere_session")
	}
	if cfg.SpecPath == "" {
		cfg.SpecPath = "/openapi.json"
	}
	if len(cfg.Servers) == 0 {
		cfg.Servers = []string{"/"}
	}
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	registry.RegisterTypeAlias(reflect.TypeFor[tenants.ID](), reflect.TypeFor[idSchema]())
	spec := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{Title: cfg.Title, Version: cfg.Version, Description: cfg.Description,
			License: &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"}},
		Components: &huma.Components{Schemas: registry, SecuritySchemes: cfg.Security,
			Responses: map[string]*huma.Response{}},
		OnAddOperation: []huma.AddOpFunc{documentErrors},
	}
	for _, u := range cfg.Servers {
		spec.Servers = append(spec.Servers, &huma.Server{URL: u})
	}
	for _, t := range cfg.Tags {
		spec.Tags = append(spec.Tags, &huma.Tag{Name: t.Name, Description: t.Description})
	}
	names := make([]string, 0, len(cfg.Security))
	for name := range cfg.Security {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		spec.Security = append(spec.Security, map[string][]string{name: {}})
	}
	format := huma.Format{Marshal: encoder(cfg.Marshal), Unmarshal: json.Unmarshal}
	api := humafiber.NewWithGroup(app, router, huma.Config{
		OpenAPI: spec, DefaultFormat: "application/json",
		Formats:                      map[string]huma.Format{"application/json": format, "json": format},
		RejectUnknownQueryParameters: true,
	})
	api.UseMiddleware(strict)
	serveSpec(app, cfg.SpecPath, api)
	return api
}

func serveSpec(app *fiber.App, path string, api huma.API) {
	document := sync.OnceValues(func() ([]byte, error) { return Document(api) })
	app.Get(path, func(c *fiber.Ctx) error {
		body, err := document()
		if err != nil {
			return fmt.Errorf("encoding the API's description: %w", err)
		}
		c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
		c.Set(fiber.HeaderCacheControl, "public, max-age=60")
		return c.Send(body)
	})
}

// Document returns the API's OpenAPI 3.1 document as JSON.
func Document(api huma.API) ([]byte, error) {
	raw, err := json.Marshal(api.OpenAPI())
	if err != nil {
		return nil, err
	}
	var doc any
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, err
	}
	// huma writes a keyword of its own into schemas, which linters refuse.
	drop(doc, "patternDescription")
	return json.Marshal(doc)
}

func drop(v any, key string) {
	switch v := v.(type) {
	case map[string]any:
		delete(v, key)
		for _, inner := range v {
			drop(inner, key)
		}
	case []any:
		for _, inner := range v {
			drop(inner, key)
		}
	}
}

// encoder writes problems with encoding/json whatever the hook does.
func encoder(marshal func(any) ([]byte, error)) func(io.Writer, any) error {
	if marshal == nil {
		marshal = json.Marshal
	}
	return func(w io.Writer, v any) error {
		encode := marshal
		if _, ok := v.(*ProblemDetails); ok {
			encode = json.Marshal
		}
		b, err := encode(v)
		if err != nil {
			return fmt.Errorf("encoding the answer: %w", err)
		}
		_, err = w.Write(b)
		return err
	}
}

// documentErrors describes an operation's errors by reference to shared answers.
func documentErrors(spec *huma.OpenAPI, op *huma.Operation) {
	statuses := op.Errors
	if len(statuses) == 0 {
		statuses = problemStatuses
	}
	schema := spec.Components.Schemas.Schema(reflect.TypeFor[ProblemDetails](), true, "ProblemDetails")
	for _, status := range statuses {
		if status == 401 && op.Security != nil && len(op.Security) == 0 {
			continue
		}
		name := "Problem" + strconv.Itoa(status)
		if spec.Components.Responses[name] == nil {
			r := &huma.Response{Description: http.StatusText(status),
				Content: map[string]*huma.MediaType{MIMEProblem: {Schema: schema}}}
			if status == 429 || status == 503 {
				r.Headers = map[string]*huma.Param{"Retry-After": {
					Description: "Seconds until it is worth trying again.", Schema: &huma.Schema{Type: huma.TypeInteger}}}
			}
			spec.Components.Responses[name] = r
		}
		op.Responses[strconv.Itoa(status)] = &huma.Response{Ref: "#/components/responses/" + name}
	}
	delete(op.Responses, "default")
}

// idSchema is how a tenants.ID looks in the document.
type idSchema [16]byte

// Schema implements huma.SchemaProvider.
func (idSchema) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "uuid",
		Pattern:            "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
		PatternDescription: "a UUID in lower case",
		Examples:           []any{"01920000-0000-7000-8000-000000000000"}}
}
