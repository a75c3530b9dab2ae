package obs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"go.opentelemetry.io/otel/trace"
)

// NewLogger returns a logger that writes JSON lines with the service's name and,
// for a context made by WithRequest, the request id, the tenant and the trace id.
// An error among the attributes is written by ErrorText.
func NewLogger(w io.Writer, service string, level slog.Leveler) *slog.Logger {
	h := slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: replaceAttr})
	return slog.New(&scopeHandler{h}).With("service", service)
}

// ParseLevel reads debug, info, warn or error; "" is info.
func ParseLevel(s string) (slog.Level, error) {
	if s == "" {
		return slog.LevelInfo, nil
	}
	var l slog.Level
	if err := l.UnmarshalText([]byte(s)); err != nil {
		return 0, fmt.Errorf("log level %q: want debug, info, warn or error", s)
	}
	return l, nil
}

// Err is the attribute for an error, under the key "error".
func Err(err error) slog.Attr { return slog.Any("error", err) }

// ErrorText returns the error's text for a log line, with the text of a database
// error in it replaced by its SQLSTATE: the server quotes values in its messages.
func ErrorText(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	var db interface {
		error
		SQLState() string
	}
	if errors.As(err, &db) {
		return strings.ReplaceAll(text, db.Error(), "SQLSTATE "+db.SQLState())
	}
	return text
}

func replaceAttr(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindAny {
		if err, ok := a.Value.Any().(error); ok {
			return slog.String(a.Key, ErrorText(err))
		}
	}
	return a
}

type scopeHandler struct{ slog.Handler }

func (h *scopeHandler) Handle(ctx context.Context, r slog.Record) error {
	if s, ok := ctx.Value(scopeKey{}).(*scope); ok {
		r.AddAttrs(slog.String("request_id", s.requestID))
		if t := s.tenant.Load(); t != nil {
			r.AddAttrs(slog.String("tenant", t.String()))
		}
	}
	if sc := trace.SpanContextFromContext(ctx); sc.HasTraceID() {
		r.AddAttrs(slog.String("trace_id", sc.TraceID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

func (h *scopeHandler) WithAttrs(a []slog.Attr) slog.Handler {
	return &scopeHandler{h.Handler.WithAttrs(a)}
}

func (h *scopeHandler) WithGroup(n string) slog.Handler {
	return &scopeHandler{h.Handler.WithGroup(n)}
}
