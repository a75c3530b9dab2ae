package obs

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// Inject writes the context's trace into the headers of an outgoing request (W3C traceparent).
func Inject(ctx context.Context, h http.Header) {
	otel.GetTextMapPropagator().Inject(ctx, propagation.HeaderCarrier(h))
}

// Transport wraps a round tripper so that each call is a client span named by
// the method and the peer's role, and carries the trace on.
func Transport(next http.RoundTripper, peer string) http.RoundTripper {
	return &tracedTransport{next: next, peer: peer}
}

type tracedTransport struct {
	next http.RoundTripper
	peer string
}

// RoundTrip implements http.RoundTripper.
func (t *tracedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, span := otel.Tracer("github.com/caresphere/caresphere").Start(r.Context(), r.Method+" "+t.peer,
		trace.WithSpanKind(trace.SpanKindClient))
	defer span.End()
	r = r.Clone(ctx)
	Inject(ctx, r.Header)
	resp, err := t.next.RoundTrip(r)
	if err != nil {
		span.SetStatus(codes.Error, "")
		return nil, err
	}
	span.SetAttributes(attribute.Int("http.response.status_code", resp.StatusCode))
	return resp, nil
}
