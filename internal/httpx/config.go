package httpx

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/caresphere/caresphere/internal/obs"
)

// Defaults of Config.
const (
	DefaultBodyLimit    = 1 << 20
	DefaultStreamLimit  = 5 << 30
	DefaultReadTimeout  = 30 * time.Second
	DefaultWriteTimeout = 60 * time.Second
	DefaultIdleTimeout  = 75 * time.Second
	DefaultRequestTime  = 10 * time.Second
	DefaultDrainTimeout = 20 * time.Second
	// DefaultAnswerRate is far below what a person could work with.
	DefaultAnswerRate  = 4 << 10
	defaultConcurrency = 16384
	readBufferSize     = 16 << 10
)

// Config describes an app. The zero value is a sound public API server.
type Config struct {
	// Name says which server this is in log lines.
	Name string
	// Obs counts, traces and logs the requests; nil does not.
	Obs *obs.Obs
	// TrustedPeers are the certificate names (CN) whose X-Real-Ip, X-Request-Id,
	// traceparent, X-Forwarded-* and Caresphere-* headers are believed. From
	// anybody else they are removed before a handler runs.
	TrustedPeers []string
	// BodyLimit is the size in bytes that a buffered body may have.
	BodyLimit int64
	// Streaming tells which requests are handed over unread; their handler reads
	// BodyStream, up to StreamLimit bytes. All others are read before the handler runs.
	Streaming   func(*fiber.Ctx) bool
	StreamLimit int64
	// ReadTimeout bounds reading a request, and each pause in a streamed body.
	// WriteTimeout bounds writing an answer, and each pause in a streamed one.
	ReadTimeout, WriteTimeout, IdleTimeout time.Duration
	// AnswerRate is how many bytes a second of a streamed answer the client must take.
	AnswerRate int
	// RequestTime bounds the request's context, from when its body was read until
	// its handler returned or its answer began to stream; negative does not. Any
	// call that a handler makes without a limit of its own ends then.
	RequestTime time.Duration
	// DrainDelay is how long readiness says no before the listeners close;
	// DrainTimeout how long requests in flight may then take.
	DrainDelay, DrainTimeout time.Duration
	// Concurrency bounds the connections; MaxConnsPerIP those of one address, or of one
	// /64 of IPv6 (0: unbounded, right behind a load balancer).
	Concurrency, MaxConnsPerIP int
	// MaxRequestsPerConn closes a connection after so many requests; 0: never.
	MaxRequestsPerConn int
	// ErrorPage may answer a problem as a page. It returns false to leave the
	// answer to the JSON form. It is asked only when the client prefers HTML.
	ErrorPage func(c *fiber.Ctx, p *ProblemDetails) bool
}

func (cfg *Config) defaults() {
	setDefault(&cfg.BodyLimit, DefaultBodyLimit)
	setDefault(&cfg.StreamLimit, DefaultStreamLimit)
	setDefault(&cfg.ReadTimeout, DefaultReadTimeout)
	setDefault(&cfg.WriteTimeout, DefaultWriteTimeout)
	setDefault(&cfg.IdleTimeout, DefaultIdleTimeout)
	setDefault(&cfg.AnswerRate, DefaultAnswerRate)
	setDefault(&cfg.RequestTime, DefaultRequestTime)
	setDefault(&cfg.DrainTimeout, DefaultDrainTimeout)
	setDefault(&cfg.Concurrency, defaultConcurrency)
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// server is what belongs to one app beyond what Fiber keeps.
type server struct {
	cfg      Config
	base     context.Context
	abort    context.CancelCauseFunc
	draining atomic.Bool
	inFlight atomic.Int64
}

// servers finds an app's server. An app lives as long as its process.
var servers sync.Map // *fiber.App -> *server

func serverOf(app *fiber.App) *server {
	if s, ok := servers.Load(app); ok {
		return s.(*server)
	}
	return nil
}

// Methods are the request methods that exist here; any other is answered 405.
var Methods = []string{fiber.MethodGet, fiber.MethodHead, fiber.MethodPost, fiber.MethodPut,
	fiber.MethodPatch, fiber.MethodDelete, fiber.MethodOptions}

// New returns an app in which, before any handler runs, the request was checked
// to be unambiguous, has an id, a context and a bounded body; and after it the
// answer has its security headers. Errors and panics become problems.
func New(cfg Config) *fiber.App {
	cfg.defaults()
	s := &server{cfg: cfg}
	s.base, s.abort = context.WithCancelCause(context.Background())
	app := fiber.New(fiber.Config{
		StrictRouting: true, CaseSensitive: true, Immutable: true,
		StreamRequestBody: true, DisablePreParseMultipartForm: true,
		// The server reads this much ahead of a handler; the limit itself is ours.
		BodyLimit:      8 << 10,
		ReadBufferSize: readBufferSize,
		ReadTimeout:    cfg.ReadTimeout, WriteTimeout: cfg.WriteTimeout, IdleTimeout: cfg.IdleTimeout,
		Concurrency: cfg.Concurrency,
		// With no proxy trusted by address, Fiber itself believes no forwarding
		// header; RequestInfo believes one by the peer's certificate.
		EnableTrustedProxyCheck: true, EnableIPValidation: true,
		RequestMethods: Methods, ErrorHandler: s.onError,
		DisableStartupMessage: true, Network: "tcp",
	})
	srv := app.Server()
	srv.CloseOnShutdown = true
	srv.NoDefaultServerHeader = true
	srv.SecureErrorLogMessage = true
	srv.MaxRequestsPerConn = cfg.MaxRequestsPerConn
	srv.Handler = s.outermost(app, srv.Handler)
	servers.Store(app, s)

	app.Use(s.around)
	if cfg.Obs != nil {
		app.Use(cfg.Obs.Middleware())
	}
	app.Use(s.guard)
	return app
}
