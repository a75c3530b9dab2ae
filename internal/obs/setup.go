package obs

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Config says where the three go. The zero value logs at info to standard error
// and makes no spans.
type Config struct {
	// LogLevel is debug, info, warn or error.
	LogLevel string `env:"CARESPHERE_LOG_LEVEL" default:"info"`
	// Traces is none, file:PATH (JSON lines, appended) or otlp:URL (OTLP over HTTP).
	Traces string `env:"CARESPHERE_TRACES" default:"none"`
	// LogTo takes the log lines; nil is standard error.
	LogTo io.Writer
}

// Obs is a process's logger, metrics and tracer.
type Obs struct {
	Log     *slog.Logger
	Metrics *prometheus.Registry
	Tracer  trace.Tracer

	http *httpMetrics
}

// Setup makes the three for a service, makes the logger slog's default and the
// tracer OpenTelemetry's, and returns them with a function that writes out the
// spans still held. Only the W3C trace context is propagated, never baggage,
// which could carry anything. The error says what in the configuration is wrong.
func Setup(ctx context.Context, service string, cfg Config) (*Obs, func(context.Context) error, error) {
	level, err := ParseLevel(cfg.LogLevel)
	if err != nil {
		return nil, nil, err
	}
	out := cfg.LogTo
	if out == nil {
		out = os.Stderr
	}
	provider, stop, err := newProvider(ctx, service, cfg.Traces)
	if err != nil {
		return nil, nil, err
	}
	log := NewLogger(out, service, level)
	slog.SetDefault(log)
	otel.SetTracerProvider(provider)
	otel.SetTextMapPropagator(propagation.TraceContext{})
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		log.Warn("spans were lost", Err(err))
	}))
	reg := prometheus.NewRegistry()
	// The collectors package would link database/sql into every process.
	reg.MustRegister(prometheus.NewGoCollector(), prometheus.NewProcessCollector(prometheus.ProcessCollectorOpts{})) //nolint:staticcheck // see above
	return &Obs{
		Log: log, Metrics: reg, Tracer: provider.Tracer("github.com/caresphere/caresphere"),
		http: newHTTPMetrics(reg),
	}, stop, nil
}

func newProvider(ctx context.Context, service, target string) (trace.TracerProvider, func(context.Context) error, error) {
	kind, where, _ := strings.Cut(target, ":")
	var exporter sdktrace.SpanExporter
	var file *os.File
	switch kind {
	case "", "none":
		return noop.NewTracerProvider(), func(context.Context) error { return nil }, nil
	case "file":
		f, err := os.OpenFile(where, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, nil, fmt.Errorf("opening the trace file: %w", err)
		}
		e, err := stdouttrace.New(stdouttrace.WithWriter(f))
		if err != nil {
			return nil, nil, fmt.Errorf("making the trace file's exporter: %w", err)
		}
		exporter, file = e, f
	case "otlp":
		e, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(where))
		if err != nil {
			return nil, nil, fmt.Errorf("making the OTLP exporter: %w", err)
		}
		exporter = e
	default:
		return nil, nil, fmt.Errorf("traces %q: want none, file:PATH or otlp:URL", target)
	}
	p := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.AlwaysSample())),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", service))),
	)
	return p, func(ctx context.Context) error {
		err := p.Shutdown(ctx)
		if file != nil {
			if cerr := file.Close(); err == nil {
				err = cerr
			}
		}
		return err
	}, nil
}
