package httpx

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/caresphere/caresphere/tenants"
)

// TooLarge is the error for a body over its limit; the message names the limit.
func TooLarge(limit int64) error {
	return &tenants.Error{Kind: tenants.KindTooLarge, Message: fmt.Sprintf("the body is larger than %d bytes", limit),
		Fields: []tenants.FieldError{{Field: "body", Message: fmt.Sprintf("must be at most %d bytes", limit)}}}
}

// minBodyRate is how many bytes a second a streamed body brings at least, over the
// time that was spent waiting for it: a client that drips keeps no connection.
const minBodyRate = 1 << 10

// bodyStream reads a request's body and makes four promises that the server's
// own stream does not: it never yields more than limit bytes, a body that ends
// before its Content-Length is an error and not an end, a pause longer than the
// read timeout is an error however long the whole takes, and so is a body that
// arrives slower than minBodyRate for longer than that.
type bodyStream struct {
	r       io.Reader
	conn    interface{ SetReadDeadline(time.Time) error }
	pause   time.Duration
	declare int64 // Content-Length, or -1
	limit   int64
	read    int64
	waited  time.Duration // in Read, for the client
	err     error
}

// Read implements io.Reader. Its errors are of kind KindTooLarge, malformed for
// a truncated body, and fiber.ErrRequestTimeout for a pause.
func (b *bodyStream) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.conn != nil {
		began := time.Now()
		owed := time.Duration(b.read/minBodyRate) * time.Second
		_ = b.conn.SetReadDeadline(began.Add(min(b.pause, b.pause+owed-b.waited)))
		defer func() { b.waited += time.Since(began) }()
	}
	// One byte beyond the limit tells a body of exactly the limit from a larger one.
	if room := b.limit - b.read + 1; int64(len(p)) > room {
		p = p[:room]
	}
	n, err := b.r.Read(p)
	b.read += int64(n)
	if b.read > b.limit {
		n -= int(b.read - b.limit)
		b.read = b.limit
		b.err = TooLarge(b.limit)
		return n, b.err
	}
	if err != nil {
		b.err = b.translate(err)
	}
	return n, b.err
}

func (b *bodyStream) translate(err error) error {
	var ne net.Error
	switch {
	case errors.Is(err, io.EOF) && (b.read == b.declare || b.declare < 0 && sawLastChunk(b.r)):
		return io.EOF
	case errors.As(err, &ne) && ne.Timeout():
		return fiber.ErrRequestTimeout
	default:
		return Malformed("body", "ended too early or is not framed correctly")
	}
}

// sawLastChunk tells whether a chunked body that says io.EOF came to its last
// chunk. The server's stream says the same where the connection ended between two
// chunks, and only its own field knows the difference; a stream without that field
// never ends well, which no test of a body survives.
func sawLastChunk(stream io.Reader) bool {
	v := reflect.ValueOf(stream)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return false
	}
	eof := v.Elem().FieldByName("eof")
	return eof.IsValid() && eof.Kind() == reflect.Bool && eof.Bool()
}

// takeBody bounds the body. For a streaming request it leaves the bounded stream
// for the handler; for any other it reads the body, so that c.Body() is whole.
func (s *server) takeBody(c *fiber.Ctx) error {
	req := c.Request()
	stream := req.BodyStream()
	if stream == nil {
		return nil
	}
	streaming := s.cfg.Streaming != nil && s.cfg.Streaming(c)
	limit := s.cfg.BodyLimit
	if streaming {
		limit = s.cfg.StreamLimit
	}
	declared := int64(req.Header.ContentLength())
	if declared > limit {
		return TooLarge(limit)
	}
	b := &bodyStream{r: stream, pause: s.cfg.ReadTimeout, declare: declared, limit: limit}
	if streaming {
		b.conn = c.Context().Conn()
		requestOf(c).body = b
		return nil
	}
	var buf bytes.Buffer
	if declared > 0 {
		buf.Grow(int(declared) + bytes.MinRead)
	}
	if _, err := buf.ReadFrom(b); err != nil {
		// The server drains a little of what is left, so that the client can read
		// the answer, and closes the connection if there is more.
		return err
	}
	// SetBodyRaw would put the buffer in reach of the server's pool of buffers.
	req.SetBody(buf.Bytes())
	return nil
}

// BodyStream returns the request's body for a handler of a streaming request; for
// any other, a reader of what was read. Reading past the limit gives KindTooLarge.
func BodyStream(c *fiber.Ctx) io.Reader {
	if r := requestOf(c); r != nil && r.body != nil {
		return r.body
	}
	if c.Request().BodyStream() != nil {
		return bytes.NewReader(nil)
	}
	return bytes.NewReader(c.Request().Body())
}

// BodySize returns the declared size of the body in bytes, -1 for a chunked one.
func BodySize(c *fiber.Ctx) int64 {
	n := int64(c.Request().Header.ContentLength())
	switch {
	case n >= 0:
		return n
	case n == -1:
		return -1
	default:
		return 0
	}
}
