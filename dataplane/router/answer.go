package router

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/caresphere/caresphere/internal/httpx"
)

// answer is what a server said: its head, and its body held or still arriving.
type answer struct {
	resp *http.Response
	held []byte
	body *arriving
}

// send makes one attempt and holds a small answer. The error is for a server
// that could not be reached or broke off before its answer was certain.
func (r *Router) send(c *fiber.Ctx, o *outgoing, to *servers, base string, up *upstream) (*answer, error) {
	req, err := o.request(base)
	if err != nil {
		return nil, err
	}
	if up != nil {
		up.busy.Add(1)
	}
	resp, err := to.send(req, o)
	if err != nil {
		r.settle(o, up, err)
		return nil, err
	}
	a := &answer{resp: resp}
	if n := resp.ContentLength; n >= 0 && n <= bufferLimit || o.method == fiber.MethodHead {
		a.held, err = r.hold(o, resp)
		_ = resp.Body.Close()
		r.settle(o, up, err)
		if err != nil {
			return nil, fmt.Errorf("reading a held answer: %w", err)
		}
		return a, nil
	}
	if !mayStream(resp) {
		_ = resp.Body.Close()
		r.settle(o, up, errFull)
		return nil, errFull
	}
	a.body = &arriving{body: resp.Body, pause: r.cfg.PauseTimeout, cancel: o.cancel,
		settle: func(err error) { r.settle(o, up, err) }}
	return a, nil
}

// hold is held within the answer's time, which a request whose body streamed has not
// begun to spend.
func (r *Router) hold(o *outgoing, resp *http.Response) ([]byte, error) {
	if o.stream != nil {
		late := time.AfterFunc(r.cfg.AnswerTimeout, func() { o.cancel(errSlow) })
		defer late.Stop()
	}
	return held(resp)
}

// held reads a body whose length is known, to its very end.
func held(resp *http.Response) ([]byte, error) {
	b := bytes.NewBuffer(make([]byte, 0, min(max(resp.ContentLength, 0), bufferLimit)+bytes.MinRead))
	_, err := b.ReadFrom(resp.Body)
	return b.Bytes(), err
}

// settle notes how an exchange with a worker ended. A client that went away or
// sent a broken body says nothing about the worker, and neither does a status, nor how
// much others have under way with it.
func (r *Router) settle(o *outgoing, up *upstream, err error) {
	if up == nil {
		return
	}
	up.busy.Add(-1)
	switch {
	case err == nil:
		up.succeeded()
	case errors.Is(err, errFull):
		r.metrics.full.WithLabelValues(up.worker.ID).Inc()
	case o.ctx.Err() == nil || errors.Is(context.Cause(o.ctx), errPause) || errors.Is(context.Cause(o.ctx), errSlow):
		r.fleet.failed(up)
	}
}

func (a *answer) status() int { return a.resp.StatusCode }

func (a *answer) discard() {
	if a.body != nil {
		_ = a.body.Close()
	}
}

// deliver hands the answer to the client.
func (a *answer) deliver(c *fiber.Ctx, o *outgoing) error {
	c.Status(a.resp.StatusCode)
	responseHeaders(&c.Response().Header, a.resp.Header)
	if a.body == nil {
		if o.method == fiber.MethodHead {
			c.Response().SkipBody = true
			if n := a.resp.ContentLength; n >= 0 {
				c.Response().Header.Set(fiber.HeaderContentLength, strconv.FormatInt(n, 10))
			}
			return nil
		}
		c.Response().SetBodyRaw(a.held)
		return nil
	}
	o.streaming = true
	o.unlimited()
	a.body.done = o.finish
	httpx.StreamReader(c, a.body, a.resp.ContentLength)
	return nil
}

// arriving is a streamed answer's body. A server that pauses for too long is
// given up, which breaks the client's connection as well.
type arriving struct {
	body   io.ReadCloser
	pause  time.Duration
	cancel context.CancelCauseFunc
	settle func(error)
	done   func()
	timer  *time.Timer
	err    error
	ended  bool
}

var errPause = errors.New("the server paused for too long")

// Read implements io.Reader.
func (b *arriving) Read(p []byte) (int, error) {
	if b.timer == nil {
		b.timer = time.AfterFunc(b.pause, func() { b.cancel(errPause) })
	} else {
		b.timer.Reset(b.pause)
	}
	n, err := b.body.Read(p)
	b.timer.Stop()
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = err
	}
	return n, err
}

// Close implements io.Closer.
func (b *arriving) Close() error {
	if b.ended {
		return nil
	}
	b.ended = true
	b.settle(b.err)
	if b.done != nil {
		b.done()
	}
	return b.body.Close()
}
