package router

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
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
// transport for what streams. Both show a cut answer as an error, which fasthttp's client does not.
type servers struct {
	*http.Transport
	lanes *lanes
}

func newServers(conf *tls.Config, answerTimeout time.Duration) *servers {
	dial := dialer(conf)
	return &servers{Transport: transport(dial, answerTimeout), lanes: newLanes(dial)}
}

// send makes one exchange. An answer that ends with its connection is refused: crypto/tls
// takes a connection that was cut between two records for one that was closed.
func (s *servers) send(req *http.Request, o *outgoing) (resp *http.Response, err error) {
	if o.stream != nil {
		resp, err = s.RoundTrip(req)
	} else {
		resp, err = s.lanes.exchange(req, o.idempotent)
	}
	if err == nil && resp.ContentLength < 0 && len(resp.TransferEncoding) == 0 && req.Method != http.MethodHead {
		_ = resp.Body.Close()
		return nil, errEndless
	}
	return resp, err
}

var errEndless = errors.New("the answer does not say where it ends")

func (s *servers) close() {
	s.CloseIdleConnections()
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
		MaxConnsPerHost:        lanesEach,
		IdleConnTimeout:        laneIdle,
		ResponseHeaderTimeout:  answerTimeout,
		MaxResponseHeaderBytes: headLimit,
		WriteBufferSize:        laneBuffer,
		ReadBufferSize:         laneBuffer,
		TLSNextProto:           map[string]func(string, *tls.Conn) http.RoundTripper{}, // no HTTP/2
	}
}
