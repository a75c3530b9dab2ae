package obspg_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/caresphere/caresphere/internal/obs/obspg"
	"github.com/caresphere/caresphere/internal/testkit"
)

// planted stands for PHI.
const planted = "MariaMusterfrau"

func TestStatementName(t *testing.T) {
	for sql, name := range map[string]string{
		"-- name: GetClient :one\nSELECT 1": "GetClient",
		"  select 1":                        "select",
		"INSERT INTO x VALUES ('a')":        "insert",
		"begin;":                            "begin",
		"":                                  "statement",
		"'" + planted + "'":                 "statement",
		"-- " + planted + "\nSELECT 1":      "statement",
		"-- name: " + planted + "'x :one\n": "statement",
	} {
		require.Equal(t, name, obspg.StatementName(sql), sql)
	}
}

func TestQueriesAreSpansWithoutValues(t *testing.T) {
	cfg, err := pgx.ParseConfig(testkit.EmptyDB(t).Superuser(t))
	require.NoError(t, err)
	cfg.Tracer = obspg.Tracer()
	ctx := context.Background()
	conn, err := pgx.ConnectConfig(ctx, cfg)
	require.NoError(t, err)
	defer func() { _ = conn.Close(ctx) }()

	record := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(record))
	before := otel.GetTracerProvider()
	otel.SetTracerProvider(provider)
	defer otel.SetTracerProvider(before)

	// Without a span around it, a query makes none.
	_, err = conn.Exec(ctx, "select 1")
	require.NoError(t, err)
	require.Empty(t, record.Ended())

	ctx, parent := provider.Tracer("test").Start(ctx, "request")
	var s string
	require.NoError(t, conn.QueryRow(ctx, "-- name: EchoText :one\nselect $1::text", planted).Scan(&s))
	require.Equal(t, planted, s)
	_, err = conn.Exec(ctx, "select '"+planted+"'::date")
	require.Error(t, err)
	batch := &pgx.Batch{}
	batch.Queue("-- name: BatchText :one\nselect $1::text", planted)
	batch.Queue("select 2")
	require.NoError(t, conn.SendBatch(ctx, batch).Close())
	parent.End()

	var names []string
	for _, span := range record.Ended() {
		names = append(names, span.Name())
		require.Equal(t, parent.SpanContext().TraceID(), span.SpanContext().TraceID())
		for _, a := range span.Attributes() {
			require.NotContains(t, a.Value.String(), planted)
		}
		for _, e := range span.Events() {
			require.NotContains(t, e.Name, planted)
		}
		require.NotContains(t, span.Status().Description, planted)
	}
	require.Equal(t, []string{"postgres EchoText", "postgres select", "postgres batch", "request"}, names)
}
