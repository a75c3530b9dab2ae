package router_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestACutAnswerIsNeverWhole(t *testing.T) {
	answers := map[string]struct {
		text string
		ok   bool
	}{
		"short":          {"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this", false},
		"long and short": {"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("a", 70000), false},
		"chunk cut":      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", false},
		"inside a chunk": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhello", false},
		"head cut":       {"HTTP/1.1 200 OK\r\nContent-Le", false},
		"nothing":        {"", false},
		"endless":        {"HTTP/1.1 200 OK\r\n\r\nhello", false},
		"garbage":        {"SSH-2.0-OpenSSH\r\n", false},
		"whole chunks":   {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", true},
		"whole":          {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", true},
		"no body":        {"HTTP/1.1 204 No Content\r\n\r\n", true},
	}
	for name, a := range answers {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, nil)
			c.publish(c.raw("dataplane", func(conn net.Conn, req *http.Request) {
				_, _ = io.Copy(io.Discard, req.Body)
				_, _ = io.WriteString(conn, a.text)
			}))
			c.awaitWorkers(1)
			// Both ways to a worker: a body that is held, and one that streams.
			for _, body := range []string{"", strings.Repeat("a", 80_000)} {
				resp, err := c.client().Post(c.url+"/t/oak/v1/x", "", strings.NewReader(body))
				if err == nil {
					_, err = io.ReadAll(resp.Body)
					_ = resp.Body.Close()
					if err == nil && resp.StatusCode == 503 {
						require.Equal(t, "1", resp.Header.Get("Retry-After"))
						err = errors.New("refused as a whole")
					}
				}
				require.Equal(t, a.ok, err == nil, "%v", err)
			}
		})
	}
}
