package router

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/caresphere/caresphere/internal/httpx"
	"github.com/caresphere/caresphere/tenants"
)

// bufferLimit is the size in bytes up to which a body is held: a request's to be
// sent again, an answer's to be known whole before the client sees its head.
const bufferLimit = 64 << 10

// outgoing is a client's request on its way to a server.
type outgoing struct {
	ctx        context.Context
	cancel     context.CancelCauseFunc
	method     string
	uri        string // path and query
	host       string
	header     http.Header
	size       int64
	held       []byte  // the body, if it is small
	stream     *upload // the body, if it is not
	idempotent bool
	epoch      int64
	streaming  bool
	limit      *time.Timer
}

// errSlow: no server answered in time.
var errSlow = &tenants.Error{Kind: tenants.KindUnavailable, Message: "no server answered in time", RetryAfter: time.Second}

// prepare reads the request. All that is done for it ends after the answer's time, unless
// its body is streamed: then the transport's own begins once the body was sent, and
// until then neither side may pause for too long.
func prepare(c *fiber.Ctx, path string, cfg *Config) (*outgoing, error) {
	o := &outgoing{method: c.Method(), uri: path, host: string(c.Request().Header.Host()), size: httpx.BodySize(c)}
	o.ctx, o.cancel = context.WithCancelCause(httpx.Context(c))
	if q := c.Request().URI().QueryString(); len(q) > 0 {
		o.uri += "?" + string(q)
	}
	o.header = requestHeaders(c, o.ctx)
	switch o.method {
	case fiber.MethodGet, fiber.MethodHead, fiber.MethodOptions, fiber.MethodPut, fiber.MethodDelete:
		o.idempotent = true
	default:
		o.idempotent = o.header.Get("Idempotency-Key") != ""
	}
	switch {
	case o.size == 0:
	case o.size > 0 && o.size <= bufferLimit:
		held, err := io.ReadAll(httpx.BodyStream(c))
		if err != nil {
			o.cancel(err)
			return nil, err
		}
		o.held = held
	default:
		o.stream = &upload{from: httpx.BodyStream(c), conn: c.Context().Conn(), fail: o.cancel, pause: cfg.PauseTimeout}
		return o, nil
	}
	o.limit = time.AfterFunc(cfg.AnswerTimeout, func() { o.cancel(errSlow) })
	return o, nil
}

// unlimited takes the limit back.
func (o *outgoing) unlimited() {
	if o.limit != nil {
		o.limit.Stop()
	}
}

// replayable tells whether the body can be sent (again) from its beginning.
func (o *outgoing) replayable() bool { return o.stream == nil || !o.stream.touched() }

// mayRepeat tells whether the request may be sent to another server after an
// error: always if it never left, else if sending it twice is the same as once.
func (o *outgoing) mayRepeat(err error) bool {
	return o.replayable() && (o.idempotent || isDial(err))
}

// request makes one attempt.
func (o *outgoing) request(base string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(o.ctx, o.method, base+o.uri, nil)
	if err != nil {
		return nil, fmt.Errorf("addressing a server: %w", err)
	}
	req.Header = o.header.Clone()
	setEpoch(req.Header, o.epoch)
	req.Host = o.host
	switch {
	case o.held != nil:
		held := o.held
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(held)), int64(len(held))
		if o.idempotent {
			// Lets the request be repeated when an idle connection was stale.
			req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(held)), nil }
		}
	case o.stream != nil:
		req.Body, req.ContentLength = o.stream, o.size
	}
	return req, nil
}

// release ends the request unless its answer is streaming: then the answer does.
func (o *outgoing) release() {
	if !o.streaming {
		o.finish()
	}
}

func (o *outgoing) finish() {
	o.unlimited()
	o.cancel(errFinished)
	if o.stream != nil {
		o.stream.stop()
	}
}

var (
	errFinished = errors.New("the request is over")
	errStopped  = errors.New("the answer came before the body was read")
)

// upload passes the client's body on. A server that takes nothing of it for too long is
// given up; how long the client may take is httpx's to say. The transport may still be
// reading it when the answer is over; stop makes sure that it is not, for the connection
// then belongs to the next request.
type upload struct {
	from  io.Reader
	conn  net.Conn
	fail  context.CancelCauseFunc
	pause time.Duration

	mu      sync.Mutex
	server  *time.Timer // runs while the server has what was read last
	reading bool
	stopped bool
	began   bool
	idle    chan struct{}
}

// Read implements io.Reader.
func (u *upload) Read(p []byte) (int, error) {
	u.mu.Lock()
	if u.stopped {
		u.mu.Unlock()
		return 0, errStopped
	}
	u.took()
	u.reading, u.began, u.idle = true, true, make(chan struct{})
	u.mu.Unlock()
	n, err := u.from.Read(p)
	u.mu.Lock()
	u.reading = false
	close(u.idle)
	stopped := u.stopped
	switch {
	case err != nil || stopped:
	case u.server == nil:
		u.server = time.AfterFunc(u.pause, func() { u.fail(errPause) })
	default:
		u.server.Reset(u.pause)
	}
	u.mu.Unlock()
	if err != nil && !errors.Is(err, io.EOF) && !stopped {
		u.fail(err) // the client learns what was wrong with its body, not that a server is away
	}
	return n, err
}

// took ends the wait for the server; the lock is held.
func (u *upload) took() {
	if u.server != nil {
		u.server.Stop()
	}
}

// Close implements io.Closer. It leaves the connection to its owner.
func (u *upload) Close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.took()
	return nil
}

func (u *upload) touched() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.began
}

func (u *upload) stop() {
	u.mu.Lock()
	u.stopped = true
	u.took()
	reading, idle := u.reading, u.idle
	u.mu.Unlock()
	if reading {
		_ = u.conn.SetReadDeadline(time.Unix(1, 0))
		<-idle
	}
}
