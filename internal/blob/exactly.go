package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// exactly reads the announced number of bytes: an early end and a byte too many
// are ErrSize. The last bytes are handed out only after a look that the source
// ends there, so that a store never has the whole of an object that is refused.
type exactly struct {
	ctx  context.Context
	r    io.Reader
	left int64
	// wrong is the first fault, for drivers whose SDK hides the reader's error.
	wrong error
}

// exact returns the reader; a source that should be empty is looked at now.
func exact(ctx context.Context, r io.Reader, size int64) (*exactly, error) {
	if size < 0 {
		return nil, fmt.Errorf("blob: a negative size: %w", ErrSize)
	}
	e := &exactly{ctx: ctx, r: r, left: size}
	if size == 0 {
		return e, e.end()
	}
	return e, nil
}

// Read implements io.Reader.
func (e *exactly) Read(p []byte) (int, error) {
	if e.wrong != nil {
		return 0, e.wrong
	}
	if err := e.ctx.Err(); err != nil {
		return 0, e.fail(fmt.Errorf("blob: %w: %w", ErrUnavailable, err))
	}
	if e.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > e.left {
		p = p[:e.left]
	}
	n, err := e.r.Read(p)
	e.left -= int64(n)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return 0, e.fail(fmt.Errorf("blob: reading the source: %w", err))
	case err != nil && e.left > 0:
		return 0, e.fail(fmt.Errorf("blob: %d bytes are missing: %w", e.left, ErrSize))
	case err == nil && e.left == 0:
		if err := e.end(); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// end checks that the source holds nothing more.
func (e *exactly) end() error {
	var one [1]byte
	for range 100 {
		n, err := e.r.Read(one[:])
		switch {
		case n > 0:
			return e.fail(fmt.Errorf("blob: more bytes than announced: %w", ErrSize))
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return e.fail(fmt.Errorf("blob: reading the source: %w", err))
		}
	}
	return e.fail(fmt.Errorf("blob: reading the source: %w", io.ErrNoProgress))
}

func (e *exactly) fail(err error) error {
	e.wrong = err
	return err
}

// watched is an object's bytes on their way out: it fails when the context ends
// and when the bytes end before the object's size.
type watched struct {
	ctx  context.Context
	done context.CancelFunc
	body io.ReadCloser
	left int64
}

// Read implements io.Reader.
func (w *watched) Read(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, fmt.Errorf("blob: reading: %w: %w", ErrUnavailable, err)
	}
	n, err := w.body.Read(p)
	w.left -= int64(n)
	switch {
	case err == nil:
		return n, nil
	case !errors.Is(err, io.EOF):
		return n, fmt.Errorf("blob: reading: %w: %w", ErrUnavailable, err)
	case w.left != 0:
		return n, fmt.Errorf("blob: the object ended early: %w: %w", ErrUnavailable, io.ErrUnexpectedEOF)
	default:
		return n, io.EOF
	}
}

// Close implements io.Closer.
func (w *watched) Close() error {
	w.done()
	return w.body.Close()
}
