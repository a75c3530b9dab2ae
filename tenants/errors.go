package tenants

import (
	"errors"
	"fmt"
	"time"
)

// Kind is the meaning of an error, the only thing about it that a client learns.
type Kind string

// The kinds. One meaning each; internal/httpx maps them to HTTP in one place.
const (
	// KindInvalid: the input is wrong; Fields says where. Nothing was changed.
	KindInvalid Kind = "invalid"
	// KindUnauthenticated: no valid session, or it is past its idle or absolute limit.
	KindUnauthenticated Kind = "unauthenticated"
	// KindSecondFactor: the session lacks the second factor that this needs.
	KindSecondFactor Kind = "second_factor_required"
	// KindOnboarding: the account has an onboarding step open before anything else.
	KindOnboarding Kind = "onboarding_required"
	// KindForbidden: the actor is known and belongs here, and may not do this.
	KindForbidden Kind = "forbidden"
	// KindGateClosed: the organization's gate is closed (no BAA in force, suspended, ...).
	KindGateClosed Kind = "gate_closed"
	// KindNotFound: absent, or present where the actor may not look: the two look the same.
	KindNotFound Kind = "not_found"
	// KindConflict: the state does not allow this, or somebody else was first.
	KindConflict Kind = "conflict"
	// KindIdempotencyMismatch: the Idempotency-Key was used with a different request.
	KindIdempotencyMismatch Kind = "idempotency_mismatch"
	// KindTooLarge: the body or a field is over its limit.
	KindTooLarge Kind = "too_large"
	// KindRateLimited: too many tries; RetryAfter says when to come again.
	KindRateLimited Kind = "rate_limited"
	// KindMisdirected: this worker does not hold the tenant at that placement epoch.
	KindMisdirected Kind = "misdirected"
	// KindUnavailable: something that this needs is down. Safe to try again.
	KindUnavailable Kind = "unavailable"
	// KindIntegrity: a stored value failed its cryptographic check.
	KindIntegrity Kind = "integrity"
	// KindInternal: a defect of ours.
	KindInternal Kind = "internal"
)

// FieldError says what is wrong with one input.
type FieldError struct {
	// Field is the input's path, as "body.owner.email" or "query.limit".
	Field string
	// Message says what it must be. It never repeats the value: the value may be PHI.
	Message string
}

// Error is an error with a Kind. Message is for the client and never carries a
// value from the request or a record; the cause is for logs only.
type Error struct {
	Kind       Kind
	Message    string
	Fields     []FieldError
	RetryAfter time.Duration
	cause      error
}

// Error returns kind and message with the cause, for logs.
func (e *Error) Error() string {
	s := string(e.Kind)
	if e.Message != "" {
		s += ": " + e.Message
	}
	for _, f := range e.Fields {
		s += fmt.Sprintf(" [%s %s]", f.Field, f.Message)
	}
	if e.cause != nil {
		s += ": " + e.cause.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

// NewError returns an error of the kind with a message that a client may see.
func NewError(k Kind, message string) *Error { return &Error{Kind: k, Message: message} }

// WrapError is NewError with the cause kept for logs. A nil cause is allowed.
func WrapError(k Kind, message string, cause error) *Error {
	return &Error{Kind: k, Message: message, cause: cause}
}

// Invalid returns a KindInvalid error that names one field.
func Invalid(field, message string) *Error {
	return &Error{Kind: KindInvalid, Message: "the request is not valid", Fields: []FieldError{{field, message}}}
}

// NotFound is the one answer for absent and for not yours.
func NotFound() *Error { return &Error{Kind: KindNotFound, Message: "not found"} }

// KindOf returns the error's kind: KindInternal for an error without one, "" for nil.
func KindOf(err error) Kind {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return KindInternal
}

// IsKind tells whether the error is of the kind.
func IsKind(err error, k Kind) bool { return err != nil && KindOf(err) == k }
