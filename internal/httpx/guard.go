package httpx

import (
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// outermost answers methods that do not exist, which Fiber answers in plain
// text, and keeps the process alive through a panic in anything inside it.
func (s *server) outermost(app *fiber.App, next fasthttp.RequestHandler) fasthttp.RequestHandler {
	known := map[string]bool{}
	for _, m := range Methods {
		known[m] = true
	}
	return func(rctx *fasthttp.RequestCtx) {
		defer func() {
			if p := recover(); p != nil {
				logPanic(rctx, p)
				rctx.Response.Reset()
				rctx.Response.SetStatusCode(fiber.StatusInternalServerError)
				rctx.Response.SetConnectionClose()
			}
		}()
		if !known[string(rctx.Method())] {
			c := app.AcquireCtx(rctx)
			defer app.ReleaseCtx(c)
			r := s.begin(c)
			defer r.end()
			rctx.SetConnectionClose() // what would follow CONNECT is no request
			_ = s.onError(c, fiber.ErrMethodNotAllowed)
			return
		}
		next(rctx)
	}
}

// around gives the request its life: everything else runs inside it.
func (s *server) around(c *fiber.Ctx) error {
	r := s.begin(c)
	defer func() {
		if !r.streams {
			r.end()
		}
	}()
	if err := c.Next(); err != nil {
		_ = s.onError(c, err)
	}
	secure(c)
	return nil
}

// guard refuses ambiguous requests, reads the body and turns a panic into a problem.
func (s *server) guard(c *fiber.Ctx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			logPanic(Context(c), p)
			id := requestOf(c).id
			c.Response().Reset()
			c.Set(HeaderRequestID, id)
			err = errPanic
		}
	}()
	if err := checkRequest(c); err != nil {
		// Where the request was not understood, the next one on this connection
		// would not be either.
		c.Context().SetConnectionClose()
		return err
	}
	if err := s.takeBody(c); err != nil {
		return err
	}
	requestOf(c).bound(s.cfg.RequestTime)
	return c.Next()
}

// errPanic maps to internal; the panic itself was logged where it was caught.
var errPanic = &logged{fmt.Errorf("a handler panicked")}

// logged is an error that has been written to the log already.
type logged struct{ error }

func (l *logged) Unwrap() error { return l.error }

// logPanic writes the stack. The panic's value is written only if the runtime
// made it: any other may quote what the handler was working on.
func logPanic(ctx interface{ Value(any) any }, p any) {
	what := fmt.Sprintf("%T", p)
	if re, ok := p.(runtime.Error); ok {
		what = re.Error()
	}
	id := ""
	if r, ok := ctx.Value(requestCtx).(*request); ok {
		id = r.id
	}
	slog.Error("a handler panicked", "panic", what, "request_id", id, "stack", string(debug.Stack()))
}

// onError is the app's error handler.
func (s *server) onError(c *fiber.Ctx, err error) error {
	p := describe(c.UserContext(), err)
	if s.cfg.ErrorPage != nil && c.Accepts("application/json", "text/html") == "text/html" && s.cfg.ErrorPage(c, p) {
		c.Status(p.Status)
		secure(c)
		return nil
	}
	return send(c, p)
}
