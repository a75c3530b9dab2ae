package httpx

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/caresphere/caresphere/tenants"
)

// newHumaError makes a problem of what huma says went wrong.
func newHumaError(status int, msg string, errs ...error) huma.StatusError {
	return problemOf(status, msg, errs)
}

// newHumaErrorWithContext is newHumaError with the request's id, the log and the
// headers that belong to the status.
func newHumaErrorWithContext(ctx huma.Context, status int, msg string, errs ...error) huma.StatusError {
	p := problemOf(status, msg, errs)
	std := context.Background()
	if ctx != nil {
		std = ctx.Context()
	}
	report(std, p.Status, errors.Join(errs...))
	_, _, p.RequestID = RequestInfo(std)
	if ctx != nil {
		if s := p.retryHeader(); s != "" {
			ctx.SetHeader("Retry-After", s)
		}
		if p.Status == http.StatusUnauthorized {
			ctx.SetHeader("WWW-Authenticate", `Bearer realm="caresphere"`)
		}
	}
	return p
}

func problemOf(status int, msg string, errs []error) *ProblemDetails {
	// A handler's error comes as the only one, with status 500.
	if status >= 500 && len(errs) == 1 {
		return classify(errs[0])
	}
	if status >= 500 || status == 0 {
		return newProblem(tenants.KindInternal, http.StatusInternalServerError, "something went wrong on our side")
	}
	p := fromStatus(status)
	p.Type = ProblemBase + string(kindOfStatus(status))
	if plainDetail[msg] {
		p.Detail = msg
	} else if status == http.StatusUnprocessableEntity || status == http.StatusBadRequest {
		p.Detail = "the request is not valid"
	}
	for _, err := range errs {
		p.Errors = append(p.Errors, fieldProblems(err)...)
	}
	return p
}

var plainDetail = map[string]bool{"request body is required": true, "request body read timeout": true}

func kindOfStatus(status int) tenants.Kind {
	switch status {
	case http.StatusUnauthorized:
		return tenants.KindUnauthenticated
	case http.StatusForbidden:
		return tenants.KindForbidden
	case http.StatusNotFound:
		return tenants.KindNotFound
	case http.StatusConflict:
		return tenants.KindConflict
	case http.StatusRequestEntityTooLarge:
		return tenants.KindTooLarge
	case http.StatusTooManyRequests:
		return tenants.KindRateLimited
	case http.StatusMisdirectedRequest:
		return tenants.KindMisdirected
	default:
		return tenants.KindInvalid
	}
}

// fieldProblems keeps where and what of a validation error, and drops the value.
func fieldProblems(err error) []FieldProblem {
	var te *tenants.Error
	if errors.As(err, &te) {
		out := make([]FieldProblem, 0, len(te.Fields))
		for _, f := range te.Fields {
			out = append(out, FieldProblem{f.Field, f.Message})
		}
		return out
	}
	var ed huma.ErrorDetailer
	if errors.As(err, &ed) {
		d := ed.ErrorDetail()
		// huma names the parent of what is missing; a form needs the field itself.
		if m := missing.FindStringSubmatch(d.Message); m != nil {
			return []FieldProblem{{Field: location(strings.TrimPrefix(d.Location+"."+m[1], ".")), Message: "is required"}}
		}
		return []FieldProblem{{Field: location(d.Location), Message: safeMessage(d.Message)}}
	}
	return []FieldProblem{{Field: "body", Message: "is not valid"}}
}

// location cleans each part of a path: a part may be the name of a field that
// the client made up.
func location(loc string) string {
	if loc == "" {
		return "request"
	}
	parts := strings.Split(loc, ".")
	if len(parts) > 32 {
		return parts[0]
	}
	for i, part := range parts {
		parts[i] = fieldName(part)
	}
	return strings.Join(parts, ".")
}

// quoting matches huma's messages that go on to quote a parser's error, and with
// it the value.
var quoting = regexp.MustCompile(`^(expected string to be (?:RFC 5322 email|RFC 3986 uri|RFC 4122 uuid|regex)|expected duration): `)

// missing matches huma's message for a property that is not there.
var missing = regexp.MustCompile(`^expected required property ([A-Za-z0-9_]+) to be present$`)

// ours are the beginnings of messages that hold nothing of the request.
var ours = []string{"expected ", "required ", "unexpected property", "unknown query parameter",
	"invalid integer", "invalid boolean", "invalid float", "invalid date/time for format "}

// safeMessage lets through the messages known to be made of the schema alone.
func safeMessage(msg string) string {
	if m := quoting.FindStringSubmatch(msg); m != nil {
		return m[1]
	}
	for _, begin := range ours {
		if strings.HasPrefix(msg, begin) {
			return msg
		}
	}
	return "is not valid"
}
