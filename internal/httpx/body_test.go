package httpx_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/httpx"
)

func TestBodyLimitIsNamed(t *testing.T) {
	in := serve(t, echoApp(httpx.Config{BodyLimit: 1000}))
	chunked := func(n int) string {
		return fmt.Sprintf("POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", n, strings.Repeat("a", n))
	}
	sized := func(n int) string {
		return fmt.Sprintf("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", n, strings.Repeat("a", n))
	}
	for _, send := range []func(int) string{sized, chunked} {
		resp, body := in.raw(t, send(1000))
		require.Equal(t, 200, resp.StatusCode)
		require.Contains(t, body, `"body":1000`)
		for _, n := range []int{1001, 200_000} {
			resp, body = in.raw(t, send(n))
			require.Equal(t, 413, resp.StatusCode)
			p := problem(t, resp, body)
			require.Equal(t, []httpx.FieldProblem{{Field: "body", Message: "must be at most 1000 bytes"}}, p.Errors)
		}
	}
}

func TestACutBodyNeverReachesAHandlerAsWhole(t *testing.T) {
	var ran atomic.Int32
	app := httpx.New(httpx.Config{Streaming: func(c *fiber.Ctx) bool { return c.Path() == "/stream" }})
	streamed := make(chan error, 4)
	app.Post("/stream", func(c *fiber.Ctx) error {
		_, err := io.Copy(io.Discard, httpx.BodyStream(c))
		streamed <- err
		return err
	})
	app.Post("/whole", func(c *fiber.Ctx) error { ran.Add(1); return c.SendStatus(204) })
	in := serve(t, app)
	// Beyond what the server reads ahead, so that the cut falls into the stream.
	for _, head := range []string{"Content-Length: 20000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n4e20\r\n"} {
		for _, path := range []string{"/whole", "/stream"} {
			conn := in.dial(t, "")
			_, err := io.WriteString(conn, "POST "+path+" HTTP/1.1\r\nHost: localhost\r\n"+head+strings.Repeat("a", 10000))
			require.NoError(t, err)
			require.NoError(t, conn.CloseWrite())
			_, _ = io.Copy(io.Discard, conn)
			if path == "/stream" {
				require.Error(t, <-streamed)
			}
		}
	}
	// Between two chunks nothing but the connection's end shows that there is more.
	for _, text := range []string{"", "5\r\nhello\r\n", "5\r\nhello\r\n3", "5\r\nhello\r\n3\r\n", "5\r\nhello", "2710\r\n" + strings.Repeat("a", 10000) + "\r\n"} {
		for _, path := range []string{"/whole", "/stream"} {
			conn := in.dial(t, "")
			_, err := io.WriteString(conn, "POST "+path+" HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"+text)
			require.NoError(t, err)
			require.NoError(t, conn.CloseWrite())
			_, _ = io.Copy(io.Discard, conn)
			if path == "/stream" {
				require.Error(t, <-streamed, text)
			}
		}
	}
	require.Zero(t, ran.Load())
	resp, _ := do(t, in.client(t, ""), "POST", in.url("/whole"), "", strings.Repeat("a", 20000))
	require.Equal(t, 204, resp.StatusCode)
	resp, _ = do(t, in.client(t, ""), "POST", in.url("/stream"), "", strings.Repeat("a", 20000))
	require.Equal(t, 200, resp.StatusCode)
	require.NoError(t, <-streamed)
}

func TestAHugeBodyStreamsInLittleMemory(t *testing.T) {
	const size = 256 << 20
	app := httpx.New(httpx.Config{Streaming: func(*fiber.Ctx) bool { return true }, StreamLimit: size})
	var peak uint64
	app.Post("/", func(c *fiber.Ctx) error {
		buf := make([]byte, 64<<10)
		var total, next int64
		for {
			n, err := httpx.BodyStream(c).Read(buf)
			if total += int64(n); total >= next {
				next += 32 << 20
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				peak = max(peak, m.HeapAlloc)
			}
			if errors.Is(err, io.EOF) {
				return c.SendString(fmt.Sprint(total))
			}
			if err != nil {
				return err
			}
		}
	})
	in := serve(t, app)
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	send := func(n int64) (*http.Response, error) {
		req, err := http.NewRequest("POST", in.url("/"), io.LimitReader(zeros{}, n))
		require.NoError(t, err)
		return in.client(t, "").Do(req) // chunked: no length is declared
	}
	resp, err := send(size)
	require.NoError(t, err)
	body, _ := io.ReadAll(resp.Body)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, fmt.Sprint(size), string(body))
	require.Less(t, int64(peak)-int64(before.HeapAlloc), int64(32<<20))

	// One byte more than the limit is refused; the client may see the answer or the cut.
	if resp, err = send(size + 1); err == nil {
		require.Equal(t, 413, resp.StatusCode)
		require.NoError(t, resp.Body.Close())
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestAPauseInABodyTimesOut(t *testing.T) {
	in := serve(t, echoApp(httpx.Config{ReadTimeout: 200 * time.Millisecond}))
	resp, body := in.raw(t, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20000\r\n\r\n"+strings.Repeat("a", 9000))
	require.NotNil(t, resp)
	require.Equal(t, 408, resp.StatusCode, body)
}

func TestPanicsBecomeProblemsAndBrokenStreams(t *testing.T) {
	const secret = "Maria Musterfrau, born 1931"
	app := httpx.New(httpx.Config{})
	app.Get("/panic", func(*fiber.Ctx) error { panic(secret) })
	app.Get("/nil", func(*fiber.Ctx) error { return []error{}[len(os.Getenv("UNSET"))] })
	app.Get("/error", func(*fiber.Ctx) error { return errors.New("reading the row: it broke") })
	app.Get("/half", func(c *fiber.Ctx) error {
		httpx.Stream(c, func(_ context.Context, w *bufio.Writer) error {
			_, _ = io.WriteString(w, "half")
			_ = w.Flush()
			panic(secret)
		})
		return nil
	})
	app.Get("/failed", func(c *fiber.Ctx) error {
		httpx.Stream(c, func(_ context.Context, w *bufio.Writer) error {
			_, _ = io.WriteString(w, "half")
			return io.EOF // even this is no end
		})
		return nil
	})
	app.Get("/whole", func(c *fiber.Ctx) error {
		httpx.Stream(c, func(_ context.Context, w *bufio.Writer) error {
			_, err := io.WriteString(w, "whole")
			return err
		})
		return nil
	})
	in := serve(t, app)
	c := in.client(t, "")
	for _, path := range []string{"/panic", "/nil", "/error"} {
		resp, body := do(t, c, "GET", in.url(path), "", "")
		require.Equal(t, 500, resp.StatusCode)
		p := problem(t, resp, body)
		require.NotEmpty(t, p.RequestID)
		require.Equal(t, p.RequestID, resp.Header.Get("X-Request-Id"))
		require.NotContains(t, body, "it broke")
		require.Contains(t, logged.String(), p.RequestID)
	}
	require.Contains(t, logged.String(), "reading the row: it broke")
	require.NotContains(t, logged.String(), secret)
	for path, ok := range map[string]bool{"/half": false, "/failed": false, "/whole": true} {
		resp, err := c.Get(in.url(path))
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
		}
		require.Equal(t, ok, err == nil, "%s: %v", path, err)
	}
	require.NotContains(t, logged.String(), secret)
}

func TestAGoneClientEndsTheContext(t *testing.T) {
	app := httpx.New(httpx.Config{})
	began, ended := make(chan struct{}, 1), make(chan error, 1)
	wait := func(ctx context.Context) {
		began <- struct{}{}
		<-ctx.Done()
		ended <- context.Cause(ctx)
	}
	app.Get("/wait", func(c *fiber.Ctx) error { wait(httpx.Context(c)); return nil })
	app.Get("/stream", func(c *fiber.Ctx) error {
		httpx.Stream(c, func(ctx context.Context, w *bufio.Writer) error {
			_, _ = io.WriteString(w, "begin")
			_ = w.Flush()
			wait(ctx)
			return ctx.Err()
		})
		return nil
	})
	in := serve(t, app)
	for _, path := range []string{"/wait", "/stream"} {
		conn := in.dial(t, "")
		_, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
		require.NoError(t, err)
		<-began
		require.NoError(t, conn.Close())
		select {
		case cause := <-ended:
			require.ErrorIs(t, cause, httpx.ErrClientGone)
		case <-time.After(2 * time.Second):
			t.Fatal(path + ": the handler never learned that its client has gone")
		}
	}
	// A client that waits keeps its context.
	conn := in.dial(t, "")
	_, err := io.WriteString(conn, "GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n")
	require.NoError(t, err)
	<-began
	select {
	case cause := <-ended:
		t.Fatalf("ended for a waiting client: %v", cause)
	case <-time.After(500 * time.Millisecond):
	}
	require.NoError(t, conn.Close())
	<-ended
}
