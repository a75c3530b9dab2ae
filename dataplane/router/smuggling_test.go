package router_test

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/dataplane/router"
)

// ledger is what a worker was asked, in order: "METHOD path body".
type ledger struct {
	mu   sync.Mutex
	seen []string
	head map[string]string // the headers of the last request
}

func (l *ledger) routes(app *fiber.App) {
	app.All("/*", func(c *fiber.Ctx) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.seen = append(l.seen, c.Method()+" "+c.Path()+" "+string(c.Body()))
		l.head = map[string]string{}
		for k, v := range c.Request().Header.All() {
			l.head[string(k)] += string(v) + ";"
		}
		return c.SendString("served")
	})
}

// take returns what came since the last call.
func (l *ledger) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	seen := l.seen
	l.seen = nil
	return seen
}

// converse sends bytes as they are and returns the statuses of all answers until
// the server closes the connection. Each conversation asks for its end itself.
func (c *cluster) converse(text string) (statuses []int) {
	c.t.Helper()
	conn := c.dial()
	require.NoError(c.t, conn.SetDeadline(time.Now().Add(5*time.Second)))
	_, _ = io.WriteString(conn, text) // a refused one may be cut while it is sent
	br := bufio.NewReader(conn)
	for {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			require.False(c.t, errors.Is(err, os.ErrDeadlineExceeded), "the connection was left hanging: %q", text)
			return statuses
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		statuses = append(statuses, resp.StatusCode)
	}
}

// last ends a conversation; smuggled is what must never be served as a request.
const (
	last     = "GET /t/oak/v1/last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	smuggled = "GET /t/elm/v1/smuggled HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
)

func post(head, body string) string {
	return "POST /t/oak/v1/x HTTP/1.1\r\nHost: x\r\n" + head + "\r\n\r\n" + body
}

func chunked(body string) string { return post("Transfer-Encoding: chunked", body) }

func TestEveryFramingHasOneMeaningOrNone(t *testing.T) {
	c := newCluster(t, nil)
	var l ledger
	worker, _ := c.server("dataplane", l.routes)
	c.publish(worker)
	c.awaitWorkers(1)
	const whole = "0\r\n\r\n"
	for name, text := range map[string]string{
		// CL.TE and TE.CL: what one reader takes for the body the other takes for a request.
		"CL.TE":                     post("Content-Length: 6\r\nTransfer-Encoding: chunked", whole),
		"TE.CL":                     post("Transfer-Encoding: chunked\r\nContent-Length: 4", "3f\r\n"+smuggled+"\r\n"+whole),
		"TE.CL, length in capitals": post("Transfer-Encoding: chunked\r\nCONTENT-LENGTH: 4", whole),
		"CL.0":                      post("Content-Length: 0\r\nTransfer-Encoding: chunked", whole),
		// TE.TE: a coding that only one of two readers knows.
		"TE identity last":      post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", whole),
		"TE identity first":     post("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", whole),
		"TE list":               post("Transfer-Encoding: identity, chunked", whole),
		"TE twice chunked":      post("Transfer-Encoding: chunked, chunked", whole),
		"TE unknown":            post("Transfer-Encoding: xchunked", whole),
		"TE vertical tab":       post("Transfer-Encoding: \x0bchunked", whole),
		"TE quoted":             post("Transfer-Encoding: \"chunked\"", whole),
		"TE with parameter":     post("Transfer-Encoding: chunked;q=1", whole),
		"TE space before colon": post("Transfer-Encoding : chunked", whole),
		"TE folded":             post("Transfer-Encoding:\r\n chunked", whole),
		"TE empty":              post("Transfer-Encoding:", whole),
		// Lengths that two readers count differently.
		"CL twice, different": post("Content-Length: 0\r\nContent-Length: 63", ""),
		"CL list":             post("Content-Length: 0, 63", ""),
		"CL signed":           post("Content-Length: +5", "hello"),
		"CL negative":         post("Content-Length: -1", ""),
		"CL hexadecimal":      post("Content-Length: 0x5", "hello"),
		"CL with a space":     post("Content-Length: 5 5", "hello"),
		"CL overflow":         post("Content-Length: 18446744073709551621", "hello"),
		"CL empty":            post("Content-Length:", ""),
		"CL folded":           post("Content-Length: 5\r\n 6", "hello"),
		"CL underscore":       post("Content-Length: 1_0", "hello"),
		// Chunks.
		"chunk size signed":               chunked("+5\r\nhello\r\n" + whole),
		"chunk size negative":             chunked("-5\r\nhello\r\n" + whole),
		"chunk size prefixed":             chunked("0x5\r\nhello\r\n" + whole),
		"chunk size overflow":             chunked("ffffffffffffffff1\r\nhello\r\n" + whole),
		"chunk size empty":                chunked("\r\nhello\r\n" + whole),
		"chunk longer than said":          chunked("4\r\nhello\r\n" + whole),
		"chunk without its end":           chunked("5\r\nhello" + whole),
		"chunk size ends in LF":           chunked("5\nhello\r\n" + whole),
		"chunk data ends in LF":           chunked("5\r\nhello\n" + whole),
		"who the client is, in a trailer": chunked("5\r\nhello\r\n0\r\nX-Real-Ip: 203.0.113.9\r\n\r\n"),
		"a length in a trailer":           chunked("5\r\nhello\r\n0\r\nContent-Length: 63\r\n\r\n"),
		"LF in a chunk's extension":       chunked("5;\nhello\r\n" + whole),
		"CR in a chunk's extension":       chunked("5;a\rb\r\nhello\r\n" + whole),
		// Line ends and bytes.
		"LF ends a header":        "GET /t/oak/v1/x HTTP/1.1\r\nHost: x\nX-A: 1\r\n\r\n",
		"LF ends the head":        "GET /t/oak/v1/x HTTP/1.1\r\nHost: x\r\n\n",
		"CR alone in a value":     "GET /t/oak/v1/x HTTP/1.1\r\nHost: x\r\nX-A: 1\rX-B: 2\r\n\r\n",
		"NUL in a value":          "GET /t/oak/v1/x HTTP/1.1\r\nHost: x\r\nX-A: 1\x002\r\n\r\n",
		"folded":                  "GET /t/oak/v1/x HTTP/1.1\r\nHost: x\r\nX-A: 1\r\n\t2\r\n\r\n",
		"first header folded":     "GET /t/oak/v1/x HTTP/1.1\r\n Host: x\r\nHost: x\r\n\r\n",
		"no colon":                "GET /t/oak/v1/x HTTP/1.1\r\nHost: x\r\nX-A\r\n\r\n",
		"two Hosts":               "GET /t/oak/v1/x HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
		"tab in the request line": "GET\t/t/oak/v1/x\tHTTP/1.1\r\nHost: x\r\n\r\n",
		"two spaces":              "GET  /t/oak/v1/x HTTP/1.1\r\nHost: x\r\n\r\n",
		"version with more":       "GET /t/oak/v1/x HTTP/1.1x\r\nHost: x\r\n\r\n",
		"version 1.2":             "GET /t/oak/v1/x HTTP/1.2\r\nHost: x\r\n\r\n",
		// Targets.
		"absolute form":           "GET https://x/t/oak/v1/x HTTP/1.1\r\nHost: x\r\n\r\n",
		"absolute form elsewhere": "GET http://evil.example/t/oak/v1/x HTTP/1.1\r\nHost: x\r\n\r\n",
		"authority form":          "GET x:443 HTTP/1.1\r\nHost: x\r\n\r\n",
		"asterisk form":           "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
		"CONNECT":                 "CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n",
		"TRACE":                   "TRACE /t/oak/v1/x HTTP/1.1\r\nHost: x\r\n\r\n",
		"HTTP/2 preface":          "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			l.take()
			statuses := c.converse(text + smuggled)
			require.NotEmpty(t, statuses, "closed without an answer")
			require.Len(t, statuses, 1, "a second answer came on a connection that was not understood")
			require.GreaterOrEqual(t, statuses[0], 400)
			require.Contains(t, []int{400, 405, 505}, statuses[0], "the client's fault is no server's")
			require.Empty(t, l.take(), "a worker was asked, answer %d", statuses[0])
		})
	}
}

func TestAllowedFramingsArriveOnceAndWhole(t *testing.T) {
	c := newCluster(t, nil)
	var l ledger
	worker, _ := c.server("dataplane", l.routes)
	c.publish(worker)
	c.awaitWorkers(1)
	const end, x = "GET /t/oak/v1/last ", "POST /t/oak/v1/x "
	for name, tc := range map[string]struct {
		text string
		seen []string
	}{
		"no body":                  {last, []string{end}},
		"length":                   {post("Content-Length: 5", "hello") + last, []string{x + "hello", end}},
		"length zero":              {post("Content-Length: 0", "") + last, []string{x, end}},
		"chunks":                   {chunked("2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n") + last, []string{x + "hello", end}},
		"chunked in capitals":      {post("Transfer-Encoding: Chunked", "5\r\nhello\r\n0\r\n\r\n") + last, []string{x + "hello", end}},
		"two requests in one go":   {post("Content-Length: 1", "a") + post("Content-Length: 1", "b") + last, []string{x + "a", x + "b", end}},
		"a request inside a body":  {post("Content-Length: 63", smuggled) + last, []string{x + smuggled, end}},
		"a request inside a chunk": {chunked("3f\r\n"+smuggled+"\r\n0\r\n\r\n") + last, []string{x + smuggled, end}},
		"trailers are dropped":     {chunked("5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n") + last, []string{x + "hello", end}},
		// RFC 9112, 2.2 allows it, and the server library keeps no first line to look at. It has one meaning.
		"LF ends the request line": {"GET /t/oak/v1/x HTTP/1.1\nHost: x\r\n\r\n" + last, []string{"GET /t/oak/v1/x ", end}},
		"upgrade to h2c is ignored": {"GET /t/oak/v1/x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n" +
			"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n" + last, []string{"GET /t/oak/v1/x ", end}},
		"upgrade to a socket is ignored": {"GET /t/oak/v1/x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
			"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n" + last, []string{"GET /t/oak/v1/x ", end}},
	} {
		t.Run(name, func(t *testing.T) {
			l.take()
			for _, status := range c.converse(tc.text) {
				require.Equal(t, 200, status)
			}
			require.Equal(t, tc.seen, l.take())
			for _, never := range []string{"Upgrade", "Http2-Settings", "X-T", "Trailer", "Transfer-Encoding"} {
				require.NotContains(t, l.head, never)
			}
			require.Equal(t, "127.0.0.1;", l.head["X-Real-Ip"])
		})
	}
	require.Equal(t, 63, len(smuggled))
}

func TestAWorkerThatLeavesABodyUnreadHarmsNobody(t *testing.T) {
	c := newCluster(t, func(cfg *router.Config) { cfg.StreamLimit = 1 << 20 })
	var l ledger
	worker, _ := c.server("dataplane", func(app *fiber.App) {
		// The worker streams this one, and answers without a look at it.
		app.Post("/t/oak/v1/upload", func(f *fiber.Ctx) error { return f.Status(403).SendString("no") })
		l.routes(app)
	})
	c.publish(worker)
	c.awaitWorkers(1)
	body := strings.Repeat(smuggled, 3000) // beyond every buffer on the way
	for range 10 {
		for _, text := range []string{
			"POST /t/oak/v1/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 189000\r\n\r\n" + body + last,
			"POST /t/oak/v1/upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2e248\r\n" + body + "\r\n0\r\n\r\n" + last,
		} {
			statuses := c.converse(text)
			if len(statuses) > 0 { // or the connection was cut while the body was still being sent
				require.Equal(t, 403, statuses[0])
			}
			for _, seen := range l.take() {
				require.Equal(t, "GET /t/oak/v1/last ", seen)
			}
		}
		// Whoever comes next, on whichever connection to the worker, gets an answer of their own.
		require.Equal(t, []int{200}, c.converse(last))
		require.Equal(t, []string{"GET /t/oak/v1/last "}, l.take())
	}
	require.Equal(t, 189000, len(body))
}

func TestAnExpectationIsMetOrRefused(t *testing.T) {
	c := newCluster(t, nil)
	var l ledger
	worker, _ := c.server("dataplane", l.routes)
	c.publish(worker)
	c.awaitWorkers(1)
	conn := c.dial()
	_, err := io.WriteString(conn, post("Content-Length: 5\r\nExpect: 100-continue\r\nConnection: close", ""))
	require.NoError(t, err)
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, nil)
	require.NoError(t, err)
	require.Equal(t, 100, resp.StatusCode)
	_, err = io.WriteString(conn, "hello")
	require.NoError(t, err)
	resp, err = http.ReadResponse(br, nil)
	require.NoError(t, err)
	require.Equal(t, 200, resp.StatusCode)
	require.Equal(t, []string{"POST /t/oak/v1/x hello"}, l.take())
	require.NotContains(t, l.head, "Expect")
}
