package httpx_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/httpx"
)

// handshake tries one with the versions and suites given.
func handshake(t *testing.T, in *instance, change func(*tls.Config)) (tls.ConnectionState, error) {
	t.Helper()
	conf := in.clientTLS(t, "")
	conf.ServerName = "localhost"
	change(conf)
	conn, err := tls.Dial("tcp", in.addr, conf)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer func() { _ = conn.Close() }()
	return conn.ConnectionState(), nil
}

func TestOnlyCurrentTLSIsSpoken(t *testing.T) {
	in := serve(t, echoApp(httpx.Config{}))
	for version, ok := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		state, err := handshake(t, in, func(c *tls.Config) { c.MinVersion, c.MaxVersion = version, version })
		require.Equal(t, ok, err == nil, "%s: %v", tls.VersionName(version), err)
		if ok {
			require.Equal(t, version, state.Version)
			require.NoError(t, state.PeerCertificates[0].VerifyHostname("localhost"))
		}
	}
	// Every suite that Go can offer at TLS 1.2, one by one.
	accepted := 0
	for _, suite := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		if suite.SupportedVersions[0] > tls.VersionTLS12 {
			continue
		}
		_, err := handshake(t, in, func(c *tls.Config) { c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{suite.ID} })
		aead := strings.HasPrefix(suite.Name, "TLS_ECDHE_ECDSA_") && (strings.Contains(suite.Name, "_GCM_") || strings.Contains(suite.Name, "_POLY1305_"))
		require.Equal(t, aead, err == nil, "%s: %v", suite.Name, err)
		if err == nil {
			accepted++
		}
	}
	require.Equal(t, 3, accepted)
	// HTTP/2 is neither offered nor spoken.
	state, err := handshake(t, in, func(c *tls.Config) { c.NextProtos = []string{"h2", "http/1.1"} })
	require.NoError(t, err)
	require.Equal(t, "http/1.1", state.NegotiatedProtocol)
	_, err = handshake(t, in, func(c *tls.Config) { c.NextProtos = []string{"h2"} })
	require.Error(t, err)
}

// drip sends a byte at a time until the server closes, and says how long that took.
func drip(t *testing.T, in *instance, head string, every time.Duration) (time.Duration, *http.Response) {
	t.Helper()
	conn := in.dial(t, "")
	_, err := io.WriteString(conn, head)
	require.NoError(t, err)
	began := time.Now()
	tick := time.NewTicker(every)
	defer tick.Stop()
	got := make(chan *http.Response, 1)
	go func() {
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			resp = nil
		}
		got <- resp
	}()
	for {
		select {
		case resp := <-got:
			return time.Since(began), resp
		case <-tick.C:
			_, _ = io.WriteString(conn, "a")
		}
		require.Less(t, time.Since(began), 15*time.Second, "a client that drips keeps its connection")
	}
}

func TestAClientThatDripsIsCutOff(t *testing.T) {
	app := httpx.New(httpx.Config{ReadTimeout: 400 * time.Millisecond, Streaming: func(c *fiber.Ctx) bool { return c.Path() == "/stream" }})
	app.Post("/*", func(c *fiber.Ctx) error {
		n, err := io.Copy(io.Discard, httpx.BodyStream(c))
		if err != nil {
			return err
		}
		return c.JSON(fiber.Map{"size": n})
	})
	in := serve(t, app)
	for name, head := range map[string]string{
		"in the request line":   "GET /",
		"in a header":           "GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
		"in a buffered body":    "POST /whole HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20000\r\n\r\n",
		"in a streamed body":    "POST /stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20000\r\n\r\n" + strings.Repeat("a", 400),
		"in a chunk's size":     "POST /stream HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
		"in a body of one byte": "POST /stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048576\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			// Each byte comes well within the time that a pause may take.
			took, resp := drip(t, in, head, 50*time.Millisecond)
			require.Less(t, took, 10*time.Second)
			if resp != nil {
				require.GreaterOrEqual(t, resp.StatusCode, 400)
			}
		})
	}
	// A body that comes slowly but at a fair rate arrives whole.
	conn := in.dial(t, "")
	_, err := io.WriteString(conn, "POST /stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: 32768\r\n\r\n")
	require.NoError(t, err)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for range 8 {
		<-tick.C
		_, err = io.WriteString(conn, strings.Repeat("a", 4096))
		require.NoError(t, err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, 200, resp.StatusCode, string(body))
	require.JSONEq(t, `{"size":32768}`, string(body))
}
