package router

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

const dialTimeout = 2 * time.Second

// dialError is a failure before a byte of the request was sent.
type dialError struct{ error }

func (e *dialError) Unwrap() error { return e.error }

func isDial(err error) bool {
	var de *dialError
	return errors.As(err, &de)
}

// servers are those of one kind, and the ways to them: lanes for what is held, net/http's
// transport for what streams. Both show a cut answer as an error, which fasthttp's client
// does not. Health is asked by connections of its own, whatever clients keep busy.
type servers struct {
	*http.Transport
	lanes  *lanes
	health *http.Transport
}

func newServers(conf *tls.Config, cfg *Config) *servers {
	dial := dialer(conf)
	return &servers{Transport: transport(dial, cfg.AnswerTimeout), lanes: newLanes(dial, cfg.MaxStreams), health: transport(dial, cfg.AnswerTimeout)}
}

// send makes one exchange, or is errFull when there is no place for it. An answer that ends
// with its connection is refused: crypto/tls takes a connection that was cut between two
// records for one that was closed.
func (s *servers) send(req *http.Request, o *outgoing) (resp *http.Response, err error) {
	if o.stream != nil {
		resp, err = s.upload(req)
	} else {
		resp, err = s.lanes.exchange(req, o.idempotent)
	}
	if err == nil && resp.ContentLength < 0 && len(resp.TransferEncoding) == 0 && req.Method != http.MethodHead {
		_ = resp.Body.Close()
		return nil, errEndless
	}
	return resp, err
}

// upload makes an exchange whose body streams. Without a place for it nothing is sent.
func (s *servers) upload(req *http.Request) (*http.Response, error) {
	to := s.lanes.destination(address(req.URL))
	if !to.uploads.take() {
		return nil, &dialError{errFull}
	}
	resp, err := s.RoundTrip(req)
	if err != nil {
		to.uploads.give()
		return nil, err
	}
	resp.Body = &placed{ReadCloser: resp.Body, give: sync.OnceFunc(to.uploads.give)}
	return resp, nil
}

// placed is an answer's body whose end gives a place back.
type placed struct {
	io.ReadCloser
	give func()
}

// Close implements io.Closer.
func (p *placed) Close() error {
	defer p.give()
	return p.ReadCloser.Close()
}

// mayStream tells whether there is a place for an answer that streams. One to a body
// that streamed has its own.
func mayStream(resp *http.Response) bool {
	b, ok := resp.Body.(*lent)
	return !ok || b.streams()
}

var errEndless = errors.New("the answer does not say where it ends")

func (s *servers) close() {
	s.CloseIdleConnections()
	s.health.CloseIdleConnections()
	s.lanes.close()
}

type dial func(ctx context.Context, network, addr string) (net.Conn, error)

// dialer opens connections with TLS, on which HTTP/1.1 is spoken. Its errors are dialErrors.
func dialer(conf *tls.Config) dial {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		raw, err := dialer.DialContext(ctx, network, addr)
		if err != nil {
			return nil, &dialError{err}
		}
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, &dialError{err}
		}
		c := conf.Clone()
		c.ServerName, c.NextProtos = host, []string{"http/1.1"}
		conn := tls.Client(raw, c)
		if err := conn.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, &dialError{fmt.Errorf("TLS with %s: %w", addr, err)}
		}
		return conn, nil
	}
}

func transport(dial dial, answerTimeout time.Duration) *http.Transport {
	return &http.Transport{
		DialTLSContext:         dial,
		Proxy:                  nil,
		DisableCompression:     true,
		MaxIdleConns:           2048,
		MaxIdleConnsPerHost:    lanesKept,
		IdleConnTimeout:        laneIdle,
		ResponseHeaderTimeout:  answerTimeout,
		MaxResponseHeaderBytes: headLimit,
		WriteBufferSize:        laneBuffer,
		ReadBufferSize:         laneBuffer,
		TLSNextProto:           map[string]func(string, *tls.Conn) http.RoundTripper{}, // no HTTP/2
	}
}
