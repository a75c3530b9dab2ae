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

// transport speaks HTTP/1.1 over TLS. net/http's shows a cut answer as an error,
// which fasthttp's client does not.
func transport(conf *tls.Config, answerTimeout time.Duration) *http.Transport {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}
	return &http.Transport{
		DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
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
		},
		Proxy:                  nil,
		DisableCompression:     true,
		MaxIdleConns:           2048,
		MaxIdleConnsPerHost:    256,
		MaxConnsPerHost:        1024,
		IdleConnTimeout:        60 * time.Second, // below the servers' own 75
		ResponseHeaderTimeout:  answerTimeout,
		MaxResponseHeaderBytes: 64 << 10,
		WriteBufferSize:        16 << 10,
		ReadBufferSize:         16 << 10,
		TLSNextProto:           map[string]func(string, *tls.Conn) http.RoundTripper{}, // no HTTP/2
	}
}
