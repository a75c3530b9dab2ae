package httpx_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/tenants"
)

type person struct {
	Name  string     `json:"name" minLength:"1" maxLength:"40"`
	Email string     `json:"email,omitempty" format:"email"`
	Site  string     `json:"site,omitempty" format:"uri"`
	Age   int        `json:"age,omitempty" minimum:"0" maximum:"150"`
	Role  string     `json:"role,omitempty" enum:"nurse,owner"`
	Ref   tenants.ID `json:"ref,omitzero"`
	Tags  []string   `json:"tags,omitempty" maxItems:"3"`
	Next  *person    `json:"next,omitempty"`
}

type createInput struct {
	ID   tenants.ID `path:"id"`
	Key  string     `header:"Idempotency-Key"`
	Body person
}

type listInput struct {
	Limit int       `query:"limit" minimum:"1" maximum:"100" default:"20"`
	From  time.Time `query:"from"`
	Many  []string  `query:"many,explode"`
}

type output struct {
	Body struct {
		OK    bool   `json:"ok"`
		Limit int    `json:"limit"`
		Ref   string `json:"ref"`
	}
}

// planted stands for PHI that a client sends in the wrong place.
const planted = "MariaMusterfrau"

func testAPI(marshal func(any) ([]byte, error), fail error) *fiber.App {
	app := httpx.New(httpx.Config{BodyLimit: 64 << 10})
	api := httpx.NewAPI(app, app, httpx.APIConfig{
		Title: "Test", Version: "1.0.0", Description: "An API for a test.", Marshal: marshal,
		Tags: []httpx.Tag{{Name: "things", Description: "Things."}},
	})
	huma.Register(api, huma.Operation{OperationID: "createThing", Method: http.MethodPost, Path: "/v1/things/{id}",
		Summary: "Make a thing", Tags: []string{"things"}, DefaultStatus: 201, MaxBodyBytes: 4096,
	}, func(_ context.Context, in *createInput) (*output, error) {
		out := &output{}
		out.Body.OK, out.Body.Ref = true, in.ID.String()
		return out, fail
	})
	huma.Register(api, huma.Operation{OperationID: "listThings", Method: http.MethodGet, Path: "/v1/things",
		Summary: "List things", Tags: []string{"things"}, Security: httpx.Public(),
	}, func(ctx context.Context, in *listInput) (*output, error) {
		out := &output{}
		_, _, out.Body.Ref = httpx.RequestInfo(ctx)
		out.Body.OK, out.Body.Limit = true, in.Limit
		return out, nil
	})
	huma.Register(api, huma.Operation{OperationID: "exportThings", Method: http.MethodGet, Path: "/v1/export",
		Summary: "Export things", Tags: []string{"things"},
	}, func(context.Context, *struct{}) (*huma.StreamResponse, error) {
		return &huma.StreamResponse{Body: func(ctx huma.Context) {
			ctx.SetHeader("Content-Type", "application/jsonl")
			httpx.StreamFrom(ctx, func(_ context.Context, w *bufio.Writer) error {
				for i := range 1000 {
					if _, err := fmt.Fprintln(w, i); err != nil {
						return err
					}
				}
				return nil
			})
		}}, nil
	})
	return app
}

func TestBadInputIsNamedAndNeverRepeated(t *testing.T) {
	in := serve(t, testAPI(nil, nil))
	c := in.client(t, "")
	const id = "01920000-0000-7000-8000-000000000000"
	const js = "application/json"
	deep := strings.Repeat(`{"name":"a","next":`, 40) + `{"name":"a"}` + strings.Repeat("}", 40)
	for name, tc := range map[string]struct {
		path, contentType, body string
		status                  int
		field                   string
	}{
		"good":                  {"", js, `{"name":"a","email":"a@b.c","ref":"` + id + `"}`, 201, ""},
		"good with charset":     {"", js + "; charset=utf-8", `{"name":"a"}`, 201, ""},
		"good nested":           {"", js, `{"name":"a","next":{"name":"b"}}`, 201, ""},
		"missing":               {"", js, `{}`, 422, "body.name"},
		"empty":                 {"", js, `{"name":""}`, 422, "body.name"},
		"too long":              {"", js, `{"name":"` + strings.Repeat(planted, 9) + `"}`, 422, "body.name"},
		"wrong type":            {"", js, `{"name":1931}`, 422, "body.name"},
		"wrong number":          {"", js, `{"name":"a","age":"` + planted + `"}`, 422, "body.age"},
		"fraction":              {"", js, `{"name":"a","age":1.5}`, 422, "body.age"},
		"huge number":           {"", js, `{"name":"a","age":99999999999999999999}`, 422, "body.age"},
		"out of range":          {"", js, `{"name":"a","age":151}`, 422, "body.age"},
		"not of the set":        {"", js, `{"name":"a","role":"` + planted + `"}`, 422, "body.role"},
		"no e-mail":             {"", js, `{"name":"a","email":"` + planted + `"}`, 422, "body.email"},
		"two e-mails":           {"", js, `{"name":"a","email":"a@b.c, ` + planted + `@b.c"}`, 422, "body.email"},
		"no URL":                {"", js, `{"name":"a","site":"http://` + planted + `:x"}`, 422, "body.site"},
		"no id":                 {"", js, `{"name":"a","ref":"` + planted + `"}`, 422, "body.ref"},
		"id in capitals":        {"", js, `{"name":"a","ref":"01920000-0000-7000-8000-00000000000A"}`, 422, "body.ref"},
		"unknown field":         {"", js, `{"name":"a","surname":"` + planted + `"}`, 422, "body.surname"},
		"another case":          {"", js, `{"name":"a","NAME":"` + planted + `"}`, 422, "body.NAME"},
		"unknown nested":        {"", js, `{"name":"a","next":{"name":"b","x":1}}`, 422, "body.next.x"},
		"too many":              {"", js, `{"name":"a","tags":["a","b","c","d"]}`, 422, "body.tags"},
		"wrong item":            {"", js, `{"name":"a","tags":["a",2]}`, 422, "body.tags[1]"},
		"null":                  {"", js, `null`, 422, "body"},
		"array":                 {"", js, `[]`, 422, "body"},
		"string":                {"", js, `"` + planted + `"`, 422, "body"},
		"no body":               {"", js, ``, 400, "body"},
		"blank":                 {"", js, `  `, 400, "body"},
		"malformed":             {"", js, `{"name":"` + planted, 400, "body.name"},
		"not JSON":              {"", js, planted, 400, "body"},
		"trailing data":         {"", js, `{"name":"a"}{"name":"` + planted + `"}`, 400, "body"},
		"trailing garbage":      {"", js, `{"name":"a"} ` + planted, 400, "body"},
		"repeated name":         {"", js, `{"name":"a","name":"` + planted + `"}`, 400, "body.name"},
		"repeated nested":       {"", js, `{"name":"a","next":{"name":"b","name":"c"}}`, 400, "body.next.name"},
		"invalid UTF-8":         {"", js, "{\"name\":\"a\xff" + planted + "\"}", 400, "body.name"},
		"invalid UTF-8 in name": {"", js, "{\"na\xffme\":1}", 400, "body"},
		"lone surrogate":        {"", js, `{"name":"\ud800"}`, 400, "body.name"},
		"too deep":              {"", js, deep, 400, "body"},
		"too large":             {"", js, `{"name":"` + strings.Repeat("a", 5000) + `"}`, 413, "body"},
		"larger than the app's": {"", js, strings.Repeat("a", 70<<10), 413, "body"},
		"form":                  {"", "application/x-www-form-urlencoded", `name=a`, 415, "header.Content-Type"},
		"text":                  {"", "text/plain", `{"name":"a"}`, 415, "header.Content-Type"},
		"no media type":         {"", "", `{"name":"a"}`, 415, "header.Content-Type"},
		"other charset":         {"", js + "; charset=utf-16", `{"name":"a"}`, 415, "header.Content-Type"},
		"other JSON":            {"", "application/merge-patch+json", `{"name":"a"}`, 415, "header.Content-Type"},
		"path id":               {"/v1/things/" + planted, js, `{"name":"a"}`, 422, "path.id"},
		"query":                 {"/v1/things/" + id + "?debug=" + planted, js, `{"name":"a"}`, 422, "query.debug"},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.path == "" {
				tc.path = "/v1/things/" + id
			}
			resp, body := do(t, c, "POST", in.url(tc.path), tc.contentType, tc.body)
			require.Equal(t, tc.status, resp.StatusCode, body)
			if tc.field == "" {
				require.Contains(t, body, `"ok":true`)
				return
			}
			p := problem(t, resp, body)
			require.NotEmpty(t, p.RequestID)
			require.NotEmpty(t, p.Errors, body)
			require.Equal(t, tc.field, p.Errors[0].Field, body)
			require.NotContains(t, body, planted)
		})
	}
	for name, tc := range map[string]struct {
		query  string
		status int
		field  string
	}{
		"none":         {"", 200, ""},
		"good":         {"?limit=5&from=2026-01-02T03:04:05Z", 200, ""},
		"repeats":      {"?many=a&many=b", 200, ""},
		"unknown":      {"?name=" + planted, 422, "query.name"},
		"another case": {"?Limit=5", 422, "query.Limit"},
		"repeated":     {"?limit=5&limit=" + planted, 400, "query.limit"},
		"no number":    {"?limit=" + planted, 422, "query.limit"},
		"out of range": {"?limit=101", 422, "query.limit"},
		"no time":      {"?from=" + planted, 422, "query.from"},
		"bad UTF-8":    {"?limit=%ff", 400, "query.limit"},
	} {
		t.Run("query "+name, func(t *testing.T) {
			resp, body := do(t, c, "GET", in.url("/v1/things"+tc.query), "", "")
			require.Equal(t, tc.status, resp.StatusCode, body)
			if tc.field != "" {
				p := problem(t, resp, body)
				require.Equal(t, tc.field, p.Errors[0].Field)
				require.NotContains(t, body, planted)
			}
		})
	}
	// A body or a header where none belongs.
	resp, body := do(t, c, "GET", in.url("/v1/things"), "application/json", `{"x":1}`)
	require.Equal(t, 400, resp.StatusCode, body)
	resp, body = do(t, c, "POST", in.url("/v1/things/"+id), "application/json", `{"name":"a"}`, "Idempotency-Key", "a\xff")
	require.Equal(t, 400, resp.StatusCode, body)
	require.Equal(t, "header.Idempotency-Key", problem(t, resp, body).Errors[0].Field)
	resp, body = do(t, c, "POST", in.url("/v1/things/"+id), "application/json", `{"name":"a"}`, "Content-Encoding", "gzip")
	require.Equal(t, 415, resp.StatusCode, body)
	resp, body = do(t, c, "DELETE", in.url("/v1/things"), "", "")
	require.Equal(t, 405, resp.StatusCode, body)
	problem(t, resp, body)
	resp, body = do(t, c, "GET", in.url("/v1/things/"), "", "")
	require.Equal(t, 404, resp.StatusCode, body)
	require.NotContains(t, logged.String(), planted)
}

func TestEveryKindHasItsAnswer(t *testing.T) {
	want := map[tenants.Kind]int{
		tenants.KindInvalid: 422, tenants.KindUnauthenticated: 401, tenants.KindSecondFactor: 403, tenants.KindOnboarding: 403,
		tenants.KindForbidden: 403, tenants.KindGateClosed: 403, tenants.KindNotFound: 404, tenants.KindConflict: 409,
		tenants.KindIdempotencyMismatch: 422, tenants.KindTooLarge: 413, tenants.KindRateLimited: 429,
		tenants.KindMisdirected: 421, tenants.KindUnavailable: 503, tenants.KindIntegrity: 500, tenants.KindInternal: 500,
	}
	for kind, status := range want {
		cause := errors.New("the secret cause")
		err := fmt.Errorf("opening the record: %w", &tenants.Error{Kind: kind, Message: "why", RetryAfter: 1500 * time.Millisecond,
			Fields: []tenants.FieldError{{Field: "body.x", Message: "must be y"}}})
		err = errors.Join(err, cause)
		app := testAPI(nil, err)
		app.Get("/plain", func(*fiber.Ctx) error { return err })
		in := serve(t, app)
		c := in.client(t, "")
		for _, path := range []string{"/plain", "/v1/things/01920000-0000-7000-8000-000000000000"} {
			method, ct, b := "GET", "", ""
			if path != "/plain" {
				method, ct, b = "POST", "application/json", `{"name":"a"}`
			}
			resp, body := do(t, c, method, in.url(path), ct, b)
			require.Equal(t, status, resp.StatusCode, "%s %s", kind, body)
			p := problem(t, resp, body)
			require.Equal(t, kind, p.Kind())
			require.Equal(t, "why", p.Detail)
			require.Equal(t, []httpx.FieldProblem{{Field: "body.x", Message: "must be y"}}, p.Errors)
			require.Equal(t, resp.Header.Get("X-Request-Id"), p.RequestID)
			require.NotContains(t, body, "secret")
			require.NotContains(t, body, "opening")
			require.Equal(t, "2", resp.Header.Get("Retry-After"))
			require.Equal(t, status == 401, resp.Header.Get("WWW-Authenticate") != "")
			require.Equal(t, httpx.DataCSP, resp.Header.Get("Content-Security-Policy"))
			require.Equal(t, "no-store", resp.Header.Get("Cache-Control"))
		}
	}
}

func TestTheEncoderIsPluggedIn(t *testing.T) {
	broken := false
	in := serve(t, testAPI(func(v any) ([]byte, error) {
		if broken {
			return nil, errors.New("it cannot be encoded: " + planted)
		}
		b, err := json.Marshal(v)
		return append([]byte(`{"by":"hook","v":`), append(b, '}')...), err
	}, nil))
	c := in.client(t, "")
	_, body := do(t, c, "GET", in.url("/v1/things"), "", "")
	require.Contains(t, body, `"by":"hook"`)
	resp, body := do(t, c, "GET", in.url("/v1/things?x=1"), "", "")
	require.Equal(t, 422, resp.StatusCode)
	problem(t, resp, body) // a problem is not the hook's business
	broken = true
	resp, body = do(t, c, "GET", in.url("/v1/things"), "", "")
	require.Equal(t, 500, resp.StatusCode)
	require.NotContains(t, body, planted)
	problem(t, resp, body)
}

func TestAnAPICanStream(t *testing.T) {
	in := serve(t, testAPI(nil, nil))
	resp, err := in.client(t, "").Get(in.url("/v1/export"))
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, "application/jsonl", resp.Header.Get("Content-Type"))
	require.Equal(t, 1000, strings.Count(string(b), "\n"))
}

func TestTheDocumentDescribesErrorsAndSecurity(t *testing.T) {
	in := serve(t, testAPI(nil, nil))
	resp, body := do(t, in.client(t, ""), "GET", in.url("/openapi.json"), "", "")
	require.Equal(t, 200, resp.StatusCode)
	var doc struct {
		OpenAPI string
		Info    struct{ License struct{ Identifier string } }
		Paths   map[string]map[string]struct {
			Security  []map[string][]string
			Responses map[string]struct {
				Ref string `json:"$ref"`
			}
		}
		Components struct {
			Schemas map[string]struct{ Properties map[string]any }
		}
	}
	require.NoError(t, json.Unmarshal([]byte(body), &doc))
	require.Equal(t, "3.1.0", doc.OpenAPI)
	require.Equal(t, "Apache-2.0", doc.Info.License.Identifier)
	post := doc.Paths["/v1/things/{id}"]["post"]
	require.Equal(t, "#/components/responses/Problem422", post.Responses["422"].Ref)
	require.Contains(t, post.Responses, "401")
	get := doc.Paths["/v1/things"]["get"]
	require.NotNil(t, get.Security)
	require.Empty(t, get.Security)
	require.NotContains(t, get.Responses, "401")
	require.NotContains(t, doc.Components.Schemas["FieldProblem"].Properties, "value")
	require.NotContains(t, body, "$schema")
	require.NotContains(t, body, "patternDescription")
	if to := os.Getenv("CARESPHERE_OPENAPI_OUT"); to != "" { // for make openapi-lint
		require.NoError(t, os.WriteFile(to, []byte(body), 0o600))
	}
}
