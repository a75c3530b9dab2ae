package obs

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Unmatched is the route label of a request that no route took.
const Unmatched = "unmatched"

type httpMetrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	inFlight prometheus.Gauge
}

func newHTTPMetrics(reg prometheus.Registerer) *httpMetrics {
	m := &httpMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "caresphere_http_requests_total",
			Help: "Requests answered, by method, route template and status.",
		}, []string{"method", "route", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "caresphere_http_request_seconds",
			Help:    "Time until a handler returned, by method and route template.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"method", "route"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "caresphere_http_in_flight",
			Help: "Requests whose handler is running.",
		}),
	}
	reg.MustRegister(m.requests, m.seconds, m.inFlight)
	return m
}

// headerCarrier reads and writes the trace headers of a fasthttp request.
type headerCarrier struct{ c *fiber.Ctx }

func (h headerCarrier) Get(k string) string { return h.c.Get(k) }
func (h headerCarrier) Set(k, v string)     { h.c.Request().Header.Set(k, v) }
func (h headerCarrier) Keys() []string      { return []string{"traceparent", "tracestate"} }

// Middleware counts, times, traces and logs each request under its route
// template. httpx.New installs it when it is given an Obs; do not add it again.
// The parent span is taken from the traceparent header, which httpx removes
// unless the peer is our own router.
func (o *Obs) Middleware() fiber.Handler {
	return func(c *fiber.Ctx) error {
		start := time.Now()
		o.http.inFlight.Inc()
		defer o.http.inFlight.Dec()

		ctx := otel.GetTextMapPropagator().Extract(c.UserContext(), headerCarrier{c})
		ctx, span := o.Tracer.Start(ctx, "http "+c.Method(), trace.WithSpanKind(trace.SpanKindServer))
		defer span.End()
		c.SetUserContext(ctx)

		err := c.Next()
		route := Route(c, err)
		if err != nil {
			// The answer is written here, so that what is counted is what was sent.
			if herr := c.App().ErrorHandler(c, err); herr != nil {
				return herr
			}
		}
		status := c.Response().StatusCode()
		took := time.Since(start)
		method := strings.Clone(c.Method())
		o.http.requests.WithLabelValues(method, route, strconv.Itoa(status)).Inc()
		o.http.seconds.WithLabelValues(method, route).Observe(took.Seconds())
		if span.IsRecording() {
			span.SetName(method + " " + route)
			span.SetAttributes(
				attribute.String("http.request.method", method),
				attribute.String("http.route", route),
				attribute.Int("http.response.status_code", status),
				attribute.String("caresphere.request_id", RequestID(ctx)),
			)
			if t := Tenant(ctx); !t.IsZero() {
				span.SetAttributes(attribute.String("caresphere.tenant", t.String()))
			}
			if status >= 500 {
				span.SetStatus(codes.Error, "")
			}
		}
		o.Log.InfoContext(ctx, "request", "method", method, "route", route, "status", status,
			"ms", float64(took.Microseconds())/1000)
		return nil
	}
}

type routeKey struct{}

// SetRoute overrides the label of the request, for an app whose one route
// stands for several kinds of request.
func SetRoute(c *fiber.Ctx, label string) { c.Locals(routeKey{}, label) }

// Route returns the template that took the request, as "/v1/clients/:id", or
// Unmatched. err is what the chain returned.
func Route(c *fiber.Ctx, err error) string {
	if label, ok := c.Locals(routeKey{}).(string); ok {
		return label
	}
	var fe *fiber.Error
	if errors.As(err, &fe) && (fe.Code == fiber.StatusNotFound || fe.Code == fiber.StatusMethodNotAllowed) {
		return Unmatched
	}
	return strings.Clone(c.Route().Path)
}
