// Package obspg makes spans of Postgres queries. It stands apart from obs so
// that a process without a database, the router above all, links no SQL.
//
// It records a statement's name or its first keyword. It never records the
// arguments, the statement's text or the text of an error: all may hold PHI.
package obspg

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

const scope = "github.com/caresphere/caresphere/postgres"

// Tracer returns a pgx tracer for queries and batches; set it as the Tracer of a
// connection's config. It makes a span only under a span that is recorded.
func Tracer() pgx.QueryTracer { return tracer{} }

type tracer struct{}

var (
	_ pgx.QueryTracer = tracer{}
	_ pgx.BatchTracer = tracer{}
)

// TraceQueryStart implements pgx.QueryTracer.
func (tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	return start(ctx, StatementName(d.SQL))
}

// TraceQueryEnd implements pgx.QueryTracer.
func (tracer) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryEndData) {
	end(ctx, d.Err)
}

// TraceBatchStart implements pgx.BatchTracer.
func (tracer) TraceBatchStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceBatchStartData) context.Context {
	ctx = start(ctx, "batch")
	if d.Batch != nil {
		trace.SpanFromContext(ctx).SetAttributes(attribute.Int("db.batch.size", d.Batch.Len()))
	}
	return ctx
}

// TraceBatchQuery implements pgx.BatchTracer.
func (tracer) TraceBatchQuery(ctx context.Context, _ *pgx.Conn, d pgx.TraceBatchQueryData) {
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.AddEvent(StatementName(d.SQL))
	}
}

// TraceBatchEnd implements pgx.BatchTracer.
func (tracer) TraceBatchEnd(ctx context.Context, _ *pgx.Conn, d pgx.TraceBatchEndData) {
	end(ctx, d.Err)
}

type ownSpan struct{}

func start(ctx context.Context, name string) context.Context {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return context.WithValue(ctx, ownSpan{}, false)
	}
	ctx, _ = otel.Tracer(scope).Start(ctx, "postgres "+name, trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.String("db.system.name", "postgresql"), attribute.String("db.operation.name", name)))
	return context.WithValue(ctx, ownSpan{}, true)
}

func end(ctx context.Context, err error) {
	if own, _ := ctx.Value(ownSpan{}).(bool); !own {
		return
	}
	span := trace.SpanFromContext(ctx)
	if err != nil {
		span.SetStatus(codes.Error, "")
	}
	span.End()
}

// StatementName returns the name in sqlc's leading "-- name: X" comment, else
// the statement's first keyword in lower case, else "statement".
func StatementName(sql string) string {
	const mark = "-- name: "
	sql = strings.TrimSpace(sql)
	if rest, ok := strings.CutPrefix(sql, mark); ok {
		rest, _, _ = strings.Cut(rest, "\n")
		if name, _, _ := strings.Cut(strings.TrimSpace(rest), " "); isWord(name) {
			return name
		}
	}
	word, _, _ := strings.Cut(sql, " ")
	if word = strings.TrimRight(word, ";"); isWord(word) && len(word) <= 16 {
		return strings.ToLower(word)
	}
	return "statement"
}

func isWord(s string) bool {
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' {
			return false
		}
	}
	return s != ""
}
