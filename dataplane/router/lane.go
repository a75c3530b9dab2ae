package router

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/caresphere/caresphere/internal/httpx"
)

const (
	laneBuffer = 16 << 10
	// headLimit bounds the head of an answer in bytes.
	headLimit = 64 << 10
	// interimLimit bounds the interim answers (1xx) before the final one.
	interimLimit = 5
)

// errStale is for a lane on which no byte of an answer came because its server had
// given it up: it closes one that was unused when it likes.
var errStale = errors.New("the server had given the connection up")

var longAgo = time.Unix(1, 0)

// lane is a connection to a server that carries one exchange at a time.
type lane struct {
	conn  net.Conn
	limit io.LimitedReader
	br    *bufio.Reader
	bw    *bufio.Writer
	give  func(n *lane, whole bool)
	to    *destination
	// place is of the kind that the exchange under way has taken.
	place places
	// since is when it was last given back; used tells that it has carried an exchange.
	since time.Time
	used  bool
}

func newLane(conn net.Conn, to *destination, give func(*lane, bool)) *lane {
	n := &lane{conn: conn, to: to, place: to.places, give: give, limit: io.LimitedReader{R: conn, N: math.MaxInt64}}
	n.br, n.bw = bufio.NewReaderSize(&n.limit, laneBuffer), bufio.NewWriterSize(conn, laneBuffer)
	return n
}

// end closes the connection.
func (n *lane) end() { _ = n.conn.Close() }

// quiet tells that nothing has come since the last answer: neither in the socket, nor
// in what TLS has read of it already. What came unasked would be taken for the answer
// to the next request.
func (n *lane) quiet() bool {
	if !httpx.Quiet(n.conn) || n.conn.SetReadDeadline(longAgo) != nil {
		return false
	}
	_, err := n.br.Peek(1)
	return errors.Is(err, os.ErrDeadlineExceeded) && n.conn.SetReadDeadline(time.Time{}) == nil
}

// exchange writes the request and reads the head of its answer. Whatever fails ends
// the lane; when all went well, the answer's body gives it back. The end of the
// request's context interrupts both, and is then the error.
func (n *lane) exchange(req *http.Request) (*http.Response, error) {
	stop := context.AfterFunc(req.Context(), func() { _ = n.conn.SetDeadline(longAgo) })
	// A server may have answered what it did not read to its end: the answer counts.
	werr := req.Write(n.bw)
	if werr == nil {
		werr = n.bw.Flush()
	}
	resp, err := n.head(req)
	if err == nil {
		resp.Body = &lent{lane: n, body: resp.Body, stop: stop, ctx: req.Context(), last: resp.Close || werr != nil}
		return resp, nil
	}
	stop()
	n.end()
	if cause := context.Cause(req.Context()); cause != nil {
		return nil, cause
	}
	if werr != nil && !errors.Is(err, errStale) {
		err = werr
	}
	return nil, fmt.Errorf("an exchange with a server: %w", err)
}

// head reads the head of the final answer.
func (n *lane) head(req *http.Request) (*http.Response, error) {
	n.limit.N = headLimit
	defer func() { n.limit.N = math.MaxInt64 }()
	if _, err := n.br.Peek(1); err != nil {
		if n.used {
			return nil, errors.Join(errStale, err)
		}
		return nil, err
	}
	for range interimLimit {
		resp, err := http.ReadResponse(n.br, req)
		switch {
		case errors.Is(err, io.EOF):
			return nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, err
		case resp.StatusCode == http.StatusSwitchingProtocols:
			return nil, errors.New("the server switched protocols unasked")
		case resp.StatusCode >= http.StatusOK:
			return resp, nil
		}
	}
	return nil, errors.New("too many interim answers")
}

// lent is an answer's body on its lane.
type lent struct {
	lane *lane
	body io.Reader
	ctx  context.Context
	stop func() bool
	// last tells that the lane takes no other exchange; err is set once it is over.
	last bool
	err  error
}

// Read implements io.Reader. A body that ended before it was whole is an error
// other than io.EOF.
func (b *lent) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.body.Read(p)
	if err == nil {
		return n, nil
	}
	if cause := context.Cause(b.ctx); cause != nil && !errors.Is(err, io.EOF) {
		err = cause
	}
	b.over(err)
	return n, err
}

// streams takes a place among the answers that stream, in place of the exchange's own,
// and tells whether there was one. It does not wait: that would hold the other.
func (b *lent) streams() bool {
	if b.err != nil {
		return true // it is over, and holds no place
	}
	if !b.lane.to.answers.take() {
		return false
	}
	b.lane.place.give()
	b.lane.place = b.lane.to.answers
	return true
}

// Close implements io.Closer. It reads nothing more: what is left would take its time.
func (b *lent) Close() error {
	if b.err == nil {
		b.over(net.ErrClosed)
	}
	return nil
}

func (b *lent) over(err error) {
	b.err = err
	// Nobody may set this connection's deadline later, and nothing may have come behind the answer.
	whole := b.stop() && errors.Is(err, io.EOF) && !b.last && b.lane.br.Buffered() == 0
	b.lane.give(b.lane, whole)
}
