package httpx_test

import (
	"bufio"
	"context"
	"io"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/httpx"
)

func TestARequestEndsInTimeUnlessItStreamsOrWaits(t *testing.T) {
	const limit = 100 * time.Millisecond
	app := httpx.New(httpx.Config{RequestTime: limit})
	// outlive waits for the end of the request, or for far longer than its limit.
	outlive := func(ctx context.Context) error {
		late := time.NewTimer(5 * limit)
		defer late.Stop()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-late.C:
			return nil
		}
	}
	why := make(chan error, 1)
	app.Get("/stuck", func(c *fiber.Ctx) error {
		ctx := httpx.Context(c)
		<-ctx.Done()
		why <- context.Cause(ctx)
		return ctx.Err()
	})
	app.Get("/waits", func(c *fiber.Ctx) error {
		httpx.Unbounded(httpx.Context(c))
		if err := outlive(httpx.Context(c)); err != nil {
			return err
		}
		return c.SendString("waited")
	})
	app.Get("/streams", func(c *fiber.Ctx) error {
		httpx.Stream(c, func(ctx context.Context, w *bufio.Writer) error {
			if err := outlive(ctx); err != nil {
				return err
			}
			_, err := io.WriteString(w, "streamed")
			return err
		})
		return nil
	})
	in := serve(t, app)
	c := in.client(t, "")

	resp, body := do(t, c, "GET", in.url("/stuck"), "", "")
	require.Equal(t, 503, resp.StatusCode)
	require.Contains(t, body, "took too long")
	require.ErrorIs(t, <-why, httpx.ErrTooLong)

	resp, body = do(t, c, "GET", in.url("/waits"), "", "")
	require.Equal(t, 200, resp.StatusCode, body)
	require.Equal(t, "waited", body)
	resp, body = do(t, c, "GET", in.url("/streams"), "", "")
	require.Equal(t, 200, resp.StatusCode, body)
	require.Equal(t, "streamed", body)
}
