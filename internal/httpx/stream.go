package httpx

import (
	"bufio"
	"context"
	"errors"
	"io"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/gofiber/fiber/v2"
)

// StreamReader answers with a body that is read while it is written, of size
// bytes or chunked for -1. The request's context lives until the body is closed.
// A read error breaks the connection, so that the client sees a broken answer
// and never a short one. A client that takes less than Config.AnswerRate is cut off.
func StreamReader(c *fiber.Ctx, body io.ReadCloser, size int64) {
	r := requestOf(c)
	r.streams = true
	r.unbound()
	s := serverOf(c.App())
	out := &answer{ReadCloser: body, end: r.end, conn: c.Context().Conn(), pace: pace{rate: s.cfg.AnswerRate, most: s.cfg.WriteTimeout}}
	c.Context().SetBodyStream(out, int(size))
}

// answer is a streamed body. Each read moves the deadline for writing, so that a
// long answer is bounded by its client's pace and not by its length.
type answer struct {
	io.ReadCloser
	end  func()
	conn interface{ SetWriteDeadline(time.Time) error }
	pace pace
}

// pace is a deadline that bytes move on, each by its share of a second, and never
// further ahead than the longest pause: who takes a little now and then falls behind,
// and what was taken fast earlier is no credit for that.
type pace struct {
	rate  int // bytes a second
	most  time.Duration
	until time.Time
}

// next returns the deadline for n bytes that were asked for at one time and there at
// another; the time between is not the client's.
func (p *pace) next(n int, asked, there time.Time) time.Time {
	end := there.Add(p.most)
	if !p.until.IsZero() {
		moved := p.until.Add(there.Sub(asked) + time.Duration(n)*time.Second/time.Duration(p.rate))
		if moved.Before(end) {
			end = moved
		}
	}
	p.until = end
	return end
}

// Read implements io.Reader.
func (a *answer) Read(p []byte) (n int, err error) {
	defer func() {
		if v := recover(); v != nil {
			logPanic(context.Background(), v)
			n, err = 0, errPanic
		}
	}()
	asked := time.Now()
	n, err = a.ReadCloser.Read(p)
	if a.conn != nil {
		_ = a.conn.SetWriteDeadline(a.pace.next(n, asked, time.Now()))
	}
	return n, err
}

// Close implements io.Closer.
func (a *answer) Close() error {
	defer a.end()
	return a.ReadCloser.Close()
}

// Stream answers with what write produces, chunked, while it is produced. An
// error or a panic in write breaks the connection. The context ends when the
// client goes.
func Stream(c *fiber.Ctx, write func(ctx context.Context, w *bufio.Writer) error) {
	ctx := Context(c)
	pr, pw := io.Pipe()
	go func() {
		err := errors.New("the stream's writer panicked")
		defer func() {
			if p := recover(); p != nil {
				logPanic(ctx, p)
			}
			_ = pw.CloseWithError(err)
		}()
		w := bufio.NewWriterSize(pw, 32<<10)
		if err = write(ctx, w); err == nil {
			err = w.Flush()
		}
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF // an EOF would end the answer as if it were whole
		}
		if err != nil {
			report(ctx, fiber.StatusInternalServerError, err)
		}
	}()
	StreamReader(c, pr, -1)
}

// StreamFrom is Stream for the body function of a huma.StreamResponse.
func StreamFrom(ctx huma.Context, write func(ctx context.Context, w *bufio.Writer) error) {
	Stream(humafiber.Unwrap(ctx), write)
}
