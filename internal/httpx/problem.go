package httpx

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/caresphere/caresphere/internal/obs"
	"github.com/caresphere/caresphere/tenants"
)

// ProblemBase begins the type of every problem; the rest is the kind.
const ProblemBase = "https://caresphere.dev/problems/"

// MIMEProblem is the media type of a problem (RFC 9457).
const MIMEProblem = "application/problem+json"

// ProblemDetails is the one form of an error (RFC 9457). It never holds a value
// from the request or a record.
type ProblemDetails struct {
	Type      string         `json:"type" doc:"The kind of problem, as a URL that ends in its name." example:"https://caresphere.dev/problems/invalid"`
	Title     string         `json:"title" doc:"What the status means." example:"Unprocessable Entity"`
	Status    int            `json:"status" doc:"The HTTP status." example:"422"`
	Detail    string         `json:"detail,omitempty" doc:"What happened, for a person." example:"the request is not valid"`
	RequestID string         `json:"request_id,omitempty" doc:"Names the request in our logs and the audit trail."`
	Errors    []FieldProblem `json:"errors,omitempty" doc:"What is wrong with which input."`

	retryAfter time.Duration
}

// FieldProblem says what is wrong with one input. It never repeats the input.
type FieldProblem struct {
	Field   string `json:"field" doc:"Where the input stands." example:"body.owner.email"`
	Message string `json:"message" doc:"What it must be." example:"expected string to be RFC 5322 email"`
}

// Error implements error.
func (p *ProblemDetails) Error() string { return p.Title + ": " + p.Detail }

// GetStatus implements huma.StatusError.
func (p *ProblemDetails) GetStatus() int { return p.Status }

// ContentType implements huma.ContentTypeFilter.
func (p *ProblemDetails) ContentType(string) string { return MIMEProblem }

// Kind returns the last part of the type.
func (p *ProblemDetails) Kind() tenants.Kind {
	return tenants.Kind(strings.TrimPrefix(p.Type, ProblemBase))
}

// statuses is the one mapping of kinds to HTTP.
var statuses = map[tenants.Kind]int{
	tenants.KindInvalid:             http.StatusUnprocessableEntity,
	tenants.KindUnauthenticated:     http.StatusUnauthorized,
	tenants.KindSecondFactor:        http.StatusForbidden,
	tenants.KindOnboarding:          http.StatusForbidden,
	tenants.KindForbidden:           http.StatusForbidden,
	tenants.KindGateClosed:          http.StatusForbidden,
	tenants.KindNotFound:            http.StatusNotFound,
	tenants.KindConflict:            http.StatusConflict,
	tenants.KindIdempotencyMismatch: http.StatusUnprocessableEntity,
	tenants.KindTooLarge:            http.StatusRequestEntityTooLarge,
	tenants.KindRateLimited:         http.StatusTooManyRequests,
	tenants.KindMisdirected:         http.StatusMisdirectedRequest,
	tenants.KindUnavailable:         http.StatusServiceUnavailable,
	tenants.KindIntegrity:           http.StatusInternalServerError,
	tenants.KindInternal:            http.StatusInternalServerError,
}

// Status returns the HTTP status of a kind; 500 for an unknown one.
func Status(k tenants.Kind) int {
	if s, ok := statuses[k]; ok {
		return s
	}
	return http.StatusInternalServerError
}

// statusError is a tenants.Error with a narrower status than its kind's.
type statusError struct {
	err    *tenants.Error
	status int
}

// Error implements error.
func (e *statusError) Error() string { return e.err.Error() }

// Unwrap gives errors.As the kind.
func (e *statusError) Unwrap() error { return e.err }

// Malformed is a KindInvalid error for input that cannot be read at all: 400.
func Malformed(field, message string) error {
	return &statusError{&tenants.Error{Kind: tenants.KindInvalid, Message: "the request cannot be read",
		Fields: []tenants.FieldError{{Field: field, Message: message}}}, http.StatusBadRequest}
}

// UnsupportedMedia is a KindInvalid error for a body in another form than the
// operation takes: 415.
func UnsupportedMedia(want string) error {
	return &statusError{&tenants.Error{Kind: tenants.KindInvalid, Message: "the body's media type is not accepted here",
		Fields: []tenants.FieldError{{Field: "header.Content-Type", Message: "must be " + want}}}, http.StatusUnsupportedMediaType}
}

// describe turns an error into the problem that a client sees, and logs what a
// client must not see.
func describe(ctx context.Context, err error) *ProblemDetails {
	var p *ProblemDetails
	if !errors.As(err, &p) {
		p = classify(err)
		report(ctx, p.Status, err)
	}
	p.RequestID = obs.RequestID(ctx)
	return p
}

func classify(err error) *ProblemDetails {
	var te *tenants.Error
	var se *statusError
	var fe *fiber.Error
	switch {
	case errors.As(err, &te):
		p := newProblem(te.Kind, Status(te.Kind), te.Message)
		if errors.As(err, &se) {
			p = newProblem(te.Kind, se.status, te.Message)
		}
		for _, f := range te.Fields {
			p.Errors = append(p.Errors, FieldProblem{f.Field, f.Message})
		}
		p.retryAfter = te.RetryAfter
		return p
	case errors.As(err, &fe):
		return fromStatus(fe.Code)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return newProblem(tenants.KindUnavailable, http.StatusServiceUnavailable, "the request took too long or was given up")
	default:
		return newProblem(tenants.KindInternal, http.StatusInternalServerError, "something went wrong on our side")
	}
}

// fromStatus is for the few answers that are HTTP's own and no kind of ours.
func fromStatus(status int) *ProblemDetails {
	switch status {
	case http.StatusNotFound:
		return newProblem(tenants.KindNotFound, status, "not found")
	case http.StatusMethodNotAllowed:
		return newProblem("method_not_allowed", status, "this method does not exist here")
	case http.StatusRequestTimeout:
		return newProblem("request_timeout", status, "the request did not arrive in time")
	case http.StatusRequestEntityTooLarge:
		return newProblem(tenants.KindTooLarge, status, "the body is too large")
	case http.StatusRequestHeaderFieldsTooLarge, http.StatusRequestURITooLong:
		return newProblem(tenants.KindTooLarge, status, "the request's head is too large")
	case http.StatusHTTPVersionNotSupported:
		return newProblem(tenants.KindInvalid, status, "only HTTP/1.1 is spoken here")
	case http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout:
		return newProblem(tenants.KindUnavailable, status, "something that this needs is down")
	}
	if status >= 400 && status < 500 {
		return newProblem(tenants.KindInvalid, status, "the request cannot be read")
	}
	return newProblem(tenants.KindInternal, http.StatusInternalServerError, "something went wrong on our side")
}

func newProblem(kind tenants.Kind, status int, detail string) *ProblemDetails {
	return &ProblemDetails{Type: ProblemBase + string(kind), Title: http.StatusText(status), Status: status, Detail: detail}
}

// report logs an error whose cause is ours. Others are in the request's own line.
func report(ctx context.Context, status int, err error) {
	var seen *logged
	if status < 500 || errors.As(err, &seen) {
		return
	}
	if errors.Is(context.Cause(ctx), ErrClientGone) {
		slog.DebugContext(ctx, "the client has gone", obs.Err(err))
		return
	}
	slog.ErrorContext(ctx, "request failed", "status", status, obs.Err(err))
}

// retryHeader returns the seconds for Retry-After (RFC 9110, 10.2.3), or "".
func (p *ProblemDetails) retryHeader() string {
	wait := p.retryAfter
	if wait <= 0 {
		if p.Status != http.StatusTooManyRequests && p.Status != http.StatusServiceUnavailable {
			return ""
		}
		wait = time.Second
	}
	return strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10)
}

// Problem answers the request with the problem that the error maps to. Returning
// the error from a handler does the same.
func Problem(c *fiber.Ctx, err error) error { return send(c, describe(c.UserContext(), err)) }

func send(c *fiber.Ctx, p *ProblemDetails) error {
	body, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if s := p.retryHeader(); s != "" {
		c.Set(fiber.HeaderRetryAfter, s)
	}
	if p.Status == http.StatusUnauthorized {
		c.Set(fiber.HeaderWWWAuthenticate, `Bearer realm="caresphere"`)
	}
	c.Status(p.Status)
	err = c.Send(body)
	c.Set(fiber.HeaderContentType, MIMEProblem)
	secure(c)
	return err
}
