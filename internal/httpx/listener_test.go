package httpx_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/httpx"
)

func TestTheConnectionsOfAnAddressAreBounded(t *testing.T) {
	in := serve(t, echoApp(httpx.Config{MaxConnsPerIP: 2}))
	unbounded := serve(t, echoApp(httpx.Config{}))
	// from opens a connection from the address; nil when it is closed before the handshake.
	from := func(in *instance, address string) *tls.Conn {
		conf := in.clientTLS(t, "")
		conf.ServerName = "localhost"
		d := tls.Dialer{Config: conf, NetDialer: &net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}}
		conn, err := d.DialContext(t.Context(), "tcp", in.addr)
		if err != nil {
			return nil
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn.(*tls.Conn)
	}
	first := from(in, "127.0.0.1")
	require.NotNil(t, first)
	require.NotNil(t, from(in, "127.0.0.1"))
	require.Nil(t, from(in, "127.0.0.1"), "one more than it may have")
	require.Nil(t, from(in, "127.0.0.1"), "what was refused is not counted, and neither forgotten")
	require.NotNil(t, from(in, "127.0.0.2"), "another address")
	require.NoError(t, first.Close())
	require.Eventually(t, func() bool { return from(in, "127.0.0.1") != nil }, 10*time.Second, 10*time.Millisecond)
	require.Contains(t, logged.String(), "an address has as many connections as it may")
	for range 5 {
		require.NotNil(t, from(unbounded, "127.0.0.1"))
	}
}

// narrow makes what lies between a server and its clients small.
type narrow struct{ net.Listener }

func (n narrow) Accept() (net.Conn, error) {
	conn, err := n.Listener.Accept()
	if err == nil {
		err = conn.(*net.TCPConn).SetWriteBuffer(16 << 10)
	}
	return conn, err
}

// TestAClientThatTakesLittleIsCutOff reads some 300 KiB a second, with no pause as long
// as one may be.
func TestAClientThatTakesLittleIsCutOff(t *testing.T) {
	const size = 2 << 20
	for name, c := range map[string]struct {
		rate  int
		whole bool
	}{"less than it must": {4 << 20, false}, "enough": {32 << 10, true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := httpx.New(httpx.Config{WriteTimeout: time.Second, AnswerRate: c.rate})
			app.Get("/", func(f *fiber.Ctx) error {
				httpx.StreamReader(f, io.NopCloser(io.LimitReader(zeros{}, size)), size)
				return nil
			})
			a := ca(t)
			pair := issue(t, a, "server")
			conf, err := httpx.ServerTLS(pair.Cert, pair.Key)
			require.NoError(t, err)
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			ctx, stop := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- httpx.Serve(ctx, app, narrow{ln}, conf) }()
			t.Cleanup(func() { stop(); <-done })

			clientConf, err := httpx.ClientTLS(a.CertPath(), "", "")
			require.NoError(t, err)
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: clientConf, DisableKeepAlives: true,
				DialContext: (&net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
					return raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 16<<10) })
				}}).DialContext}}
			resp, err := client.Get("https://" + ln.Addr().String() + "/")
			require.NoError(t, err)
			defer func() { _ = resp.Body.Close() }()
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			var n int64
			for err == nil {
				<-tick.C
				var took int64
				took, err = io.CopyN(io.Discard, resp.Body, 32<<10)
				n += took
			}
			require.Equal(t, c.whole, n == size, "%d bytes: %v", n, err)
		})
	}
}
