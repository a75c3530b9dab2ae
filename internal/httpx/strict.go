package httpx

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/url"
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/gofiber/fiber/v2"
)

// maxDepth bounds how deeply a JSON body may nest.
const maxDepth = 32

// strict reads a request before huma does, and refuses what huma lets pass:
// repeated query parameters, headers that are not UTF-8, a body of another media
// type or where none belongs, and JSON with repeated names, trailing data,
// invalid UTF-8 or too deep a nesting.
func strict(ctx huma.Context, next func(huma.Context)) {
	c := humafiber.Unwrap(ctx)
	op := ctx.Operation()
	if err := checkParams(c, op); err != nil {
		_ = Problem(c, err)
		return
	}
	body, err := checkBody(c, op)
	if err != nil {
		_ = Problem(c, err)
		return
	}
	next(&strictContext{humaContext: ctx, body: body})
}

type humaContext huma.Context

// strictContext hands huma the body that was checked.
type strictContext struct {
	humaContext
	body io.Reader
}

// BodyReader implements huma.Context.
func (s *strictContext) BodyReader() io.Reader { return s.body }

// Unwrap lets humafiber find Fiber's context.
func (s *strictContext) Unwrap() huma.Context { return s.humaContext }

func checkParams(c *fiber.Ctx, op *huma.Operation) error {
	// The query's encoding was checked with the target.
	query, err := url.ParseQuery(string(c.Request().URI().QueryString()))
	if err != nil {
		return Malformed("query", "must be percent-encoded")
	}
	names := make([]string, 0, len(query))
	for name := range query {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		if len(query[name]) > 1 && !repeats(op, name) {
			return Malformed("query."+fieldName(name), "must be given once")
		}
	}
	for _, p := range op.Parameters {
		if p.In != "header" {
			continue
		}
		values := c.Request().Header.PeekAll(p.Name)
		if len(values) > 1 {
			return Malformed("header."+p.Name, "must be given once")
		}
		if len(values) == 1 && !utf8.Valid(values[0]) {
			return Malformed("header."+p.Name, "must be valid UTF-8")
		}
	}
	return nil
}

func repeats(op *huma.Operation, name string) bool {
	for _, p := range op.Parameters {
		if p.In == "query" && p.Name == name {
			return p.Explode != nil && *p.Explode
		}
	}
	return false
}

func checkBody(c *fiber.Ctx, op *huma.Operation) (io.Reader, error) {
	stream := BodyStream(c)
	if op.RequestBody == nil {
		var one [1]byte
		if n, _ := io.ReadFull(stream, one[:]); n > 0 {
			return nil, Malformed("body", "must be empty here")
		}
		return bytes.NewReader(nil), nil
	}
	want := make([]string, 0, len(op.RequestBody.Content))
	for ct := range op.RequestBody.Content {
		want = append(want, ct)
	}
	sort.Strings(want)
	got, params, err := mime.ParseMediaType(c.Get(fiber.HeaderContentType))
	typed := err == nil && op.RequestBody.Content[got] != nil
	if cs := params["charset"]; cs != "" && !strings.EqualFold(cs, "utf-8") {
		typed = false
	}
	if enc := c.Get(fiber.HeaderContentEncoding); enc != "" && enc != "identity" {
		return nil, UnsupportedMedia("sent without a content encoding")
	}
	if op.RequestBody.Content["application/json"] == nil {
		if !typed && BodySize(c) != 0 {
			return nil, UnsupportedMedia(strings.Join(want, " or "))
		}
		return stream, nil
	}
	limit := op.MaxBodyBytes
	if limit <= 0 {
		limit = DefaultBodyLimit
	}
	raw, err := io.ReadAll(io.LimitReader(stream, limit+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(raw)) > limit:
		return nil, TooLarge(limit)
	case len(raw) == 0 && !op.RequestBody.Required:
		return bytes.NewReader(nil), nil
	case len(raw) == 0:
		return nil, Malformed("body", "is required")
	case !typed:
		return nil, UnsupportedMedia(strings.Join(want, " or "))
	}
	if got == "application/json" {
		if err := checkJSON(raw); err != nil {
			return nil, err
		}
	}
	return bytes.NewReader(raw), nil
}

// checkJSON refuses a body that two JSON readers could understand differently
// (RFC 7493, I-JSON). The error names the place.
func checkJSON(raw []byte) error {
	d := jsontext.NewDecoder(bytes.NewReader(raw))
	for {
		tok, err := d.ReadToken()
		if errors.Is(err, io.EOF) {
			if d.InputOffset() == 0 {
				return Malformed("body", "is required")
			}
			return nil
		}
		if err != nil {
			return jsonProblem(err, d)
		}
		if tok.Kind() == '"' && strings.ContainsRune(tok.String(), 0) {
			return Malformed("body"+pointerPath(d.StackPointer()), "must not hold the character U+0000")
		}
		if d.StackDepth() > maxDepth {
			return Malformed("body", fmt.Sprintf("must not nest deeper than %d", maxDepth))
		}
		if d.StackDepth() == 0 && (tok.Kind() == '}' || tok.Kind() == ']' || tok.Kind() != '{' && tok.Kind() != '[') {
			if rest := bytes.TrimLeft(raw[d.InputOffset():], " \t\r\n"); len(rest) > 0 {
				return Malformed("body", "must be one JSON value with nothing after it")
			}
			return nil
		}
	}
}

func jsonProblem(err error, d *jsontext.Decoder) error {
	where := "body" + pointerPath(d.StackPointer())
	var syntactic *jsontext.SyntacticError
	if errors.As(err, &syntactic) {
		where = "body" + pointerPath(syntactic.JSONPointer)
		switch {
		case errors.Is(err, jsontext.ErrDuplicateName):
			return Malformed(where, "is given more than once")
		case strings.Contains(syntactic.Err.Error(), "UTF-8"):
			return Malformed(where, "must be valid UTF-8")
		}
	}
	return Malformed(where, "is not well-formed JSON")
}

// pointerPath turns a JSON pointer into the form of our field names.
func pointerPath(p jsontext.Pointer) string {
	var b strings.Builder
	for tok := range p.Tokens() {
		if tok != "" && strings.Trim(tok, "0123456789") == "" {
			b.WriteString("[" + tok + "]")
			continue
		}
		b.WriteString("." + fieldName(tok))
	}
	return b.String()
}
