package router

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/devstack/pki"
	"github.com/caresphere/caresphere/internal/httpx"
)

// scripted is a server with TLS whose every answer a test writes.
type scripted struct {
	*lanes
	url string
	// opened counts connections, asked requests.
	opened, asked atomic.Int32
}

// script starts a server: answer gets the connection, the request and its number among all.
// The connection ends when answer says so.
func script(t *testing.T, answer func(w io.Writer, req *http.Request, nth int32) (more bool)) *scripted {
	t.Helper()
	ca, err := pki.Open(t.TempDir(), "ca", "Test CA")
	require.NoError(t, err)
	pair, err := ca.Issue("dataplane", "127.0.0.1")
	require.NoError(t, err)
	cert, err := pair.TLS()
	require.NoError(t, err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &scripted{url: "https://" + ln.Addr().String(), lanes: newLanes(dialer(&tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS13}), streamsEach)}
	var under sync.WaitGroup
	serve := func(raw net.Conn) {
		defer func() { _ = raw.Close() }()
		// What an answer writes leaves at once, in records as it was written.
		whole := &oneSegment{Conn: raw}
		conn := tls.Server(whole, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13})
		br := bufio.NewReader(conn)
		for {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				return
			}
			whole.hold()
			more := answer(conn, req, s.asked.Add(1))
			if whole.release() != nil || !more {
				return
			}
		}
	}
	under.Go(func() {
		for {
			raw, err := ln.Accept()
			if err != nil {
				return
			}
			s.opened.Add(1)
			under.Go(func() { serve(raw) })
		}
	})
	t.Cleanup(func() { s.close(); _ = ln.Close(); under.Wait() })
	return s
}

// oneSegment holds writes back and sends them as one.
type oneSegment struct {
	net.Conn
	held *bytes.Buffer
}

func (o *oneSegment) Write(p []byte) (int, error) {
	if o.held != nil {
		return o.held.Write(p)
	}
	return o.Conn.Write(p)
}

func (o *oneSegment) hold() { o.held = &bytes.Buffer{} }

func (o *oneSegment) release() error {
	held := o.held.Bytes()
	o.held = nil
	_, err := o.Conn.Write(held)
	return err
}

func says(w io.Writer, text string) {
	_, _ = fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
}

// ask makes one exchange and reads its answer.
func (s *scripted) ask(ctx context.Context, method, body string, repeat bool) (string, error) {
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, s.url+"/x", r)
	if err != nil {
		return "", err
	}
	resp, err := s.exchange(req, repeat)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return string(text), err
}

// unused returns the lanes at rest.
func (s *scripted) unused() (all []*lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.to {
		all = append(all, d.idle...)
	}
	return all
}

func TestALaneCarriesOneExchangeAfterAnother(t *testing.T) {
	s := script(t, func(w io.Writer, req *http.Request, nth int32) bool {
		says(w, fmt.Sprint(req.Method, nth))
		return true
	})
	for n := range 20 {
		text, err := s.ask(t.Context(), "POST", strings.Repeat("a", n), false)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint("POST", n+1), text)
	}
	require.EqualValues(t, 1, s.opened.Load())
	// At once they have a lane each, and each its own answer.
	var wg sync.WaitGroup
	answers := make([]string, 200)
	for n := range answers {
		wg.Go(func() { answers[n], _ = s.ask(t.Context(), "GET", "", false) })
	}
	wg.Wait()
	seen := map[string]bool{}
	for _, text := range answers {
		require.True(t, strings.HasPrefix(text, "GET") && !seen[text], text)
		seen[text] = true
	}
	// Unused ones are ended when they are old, and the rest with the router.
	left := s.unused()
	require.Len(t, left, int(s.opened.Load()))
	s.mu.Lock()
	for _, d := range s.to {
		for _, n := range d.idle[1:] {
			n.since = time.Now().Add(-laneIdle / 2)
		}
		d.idle[0].since = time.Now().Add(-laneIdle)
	}
	s.mu.Unlock()
	s.old()
	require.Equal(t, left[1:], s.unused())
	require.False(t, httpx.Quiet(left[0].conn))
	s.close()
	require.Empty(t, s.unused())
	_, err := s.ask(t.Context(), "GET", "", false)
	require.NoError(t, err, "what is under way at the end is finished")
	require.Empty(t, s.unused())
}

func TestWhatComesUnaskedIsNobodysAnswer(t *testing.T) {
	const foreign = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nforeign"
	later := make(chan struct{})
	for name, c := range map[string]struct {
		answer func(w io.Writer)
		kept   bool
	}{
		"nothing":                  {func(w io.Writer) { says(w, "own") }, true},
		"in the answer's record":   {func(w io.Writer) { _, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nown"+foreign) }, false},
		"in a record right behind": {func(w io.Writer) { says(w, "own"); _, _ = io.WriteString(w, foreign) }, false},
		"a little later": {func(w io.Writer) {
			says(w, "own")
			go func() { <-later; _, _ = io.WriteString(w, foreign); later <- struct{}{} }()
		}, false},
		"behind the last chunk": {func(w io.Writer) {
			_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nown\r\n0\r\n\r\n"+foreign)
		}, false},
		"behind an answer to close": {func(w io.Writer) {
			_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nown"+foreign)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := script(t, func(w io.Writer, _ *http.Request, nth int32) bool {
				if nth > 1 {
					says(w, "next")
				} else {
					c.answer(w)
				}
				return true
			})
			text, err := s.ask(t.Context(), "GET", "", false)
			require.NoError(t, err)
			require.Equal(t, "own", text)
			if name == "a little later" {
				n := s.unused()[0]
				require.True(t, n.quiet())
				later <- struct{}{}
				<-later
				require.Eventually(t, func() bool { return !httpx.Quiet(n.conn) }, 5*time.Second, time.Millisecond)
			}
			text, err = s.ask(t.Context(), "GET", "", false)
			require.NoError(t, err)
			require.Equal(t, "next", text)
			require.Equal(t, c.kept, s.opened.Load() == 1)
		})
	}
}

func TestALaneThatWasGivenUpIsLeft(t *testing.T) {
	// The server closes after its answer: seen before anything is sent on it.
	s := script(t, func(w io.Writer, _ *http.Request, nth int32) bool { says(w, fmt.Sprint(nth)); return false })
	for n := range 3 {
		text, err := s.ask(t.Context(), "POST", "body", false)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(n+1), text)
		require.Eventually(t, func() bool { return !httpx.Quiet(s.unused()[0].conn) }, 5*time.Second, time.Millisecond)
	}
	require.EqualValues(t, 3, s.opened.Load())

	// It closes when it has the request: whether that did anything nobody knows.
	for name, c := range map[string]struct {
		repeat bool
		said   string
		ok     bool
		asked  int32
	}{
		"may be repeated":           {true, "", true, 3},
		"may not":                   {false, "", false, 2},
		"an answer had begun":       {true, "HTTP/1.1 2", false, 2},
		"an answer's body had":      {true, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", false, 2},
		"an answer's chunk had":     {true, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf", false, 2},
		"an answer without its end": {true, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", false, 2},
	} {
		t.Run(name, func(t *testing.T) {
			s := script(t, func(w io.Writer, _ *http.Request, nth int32) bool {
				if nth == 2 {
					_, _ = io.WriteString(w, c.said)
					return false
				}
				says(w, "whole")
				return true
			})
			_, err := s.ask(t.Context(), "POST", "body", c.repeat)
			require.NoError(t, err)
			text, err := s.ask(t.Context(), "POST", "body", c.repeat)
			require.Equal(t, c.ok, err == nil, "%v", err)
			require.Equal(t, c.ok, text == "whole")
			require.Equal(t, c.asked, s.asked.Load())
		})
	}

	// On a new lane it is a failure, not a lane that had been unused.
	s = script(t, func(io.Writer, *http.Request, int32) bool { return false })
	_, err := s.ask(t.Context(), "GET", "", true)
	require.Error(t, err)
	require.NotErrorIs(t, err, errStale)
	require.EqualValues(t, 1, s.asked.Load())
}

func TestTheEndOfARequestEndsItsLane(t *testing.T) {
	cause := errors.New("the client has gone")
	asked, goOn := make(chan struct{}), make(chan struct{})
	s := script(t, func(w io.Writer, _ *http.Request, nth int32) bool {
		switch nth {
		case 2:
			asked <- struct{}{}
			<-goOn
		case 3:
			_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
			return true
		}
		says(w, fmt.Sprint(nth))
		return true
	})
	// The end of one that is over changes nothing.
	ctx, end := context.WithCancelCause(t.Context())
	_, err := s.ask(ctx, "GET", "", true)
	require.NoError(t, err)
	end(cause)
	require.True(t, s.unused()[0].quiet())

	// While the server thinks.
	ctx, end = context.WithCancelCause(t.Context())
	go func() { <-asked; end(cause) }()
	_, err = s.ask(ctx, "GET", "", true)
	require.ErrorIs(t, err, cause)
	require.Empty(t, s.unused())
	require.EqualValues(t, 1, s.opened.Load())
	close(goOn)

	// Within the answer.
	ctx, end = context.WithCancelCause(t.Context())
	req, err := http.NewRequestWithContext(ctx, "GET", s.url, nil)
	require.NoError(t, err)
	resp, err := s.exchange(req, true)
	require.NoError(t, err)
	half := make([]byte, 4)
	_, err = io.ReadFull(resp.Body, half)
	require.NoError(t, err)
	end(cause)
	_, err = io.ReadAll(resp.Body)
	require.ErrorIs(t, err, cause)
	require.Empty(t, s.unused())

	// Before it began.
	_, err = s.ask(ctx, "GET", "", true)
	require.ErrorIs(t, err, cause)
	require.EqualValues(t, 3, s.asked.Load())
	text, err := s.ask(t.Context(), "GET", "", true)
	require.NoError(t, err)
	require.Equal(t, "4", text)
}

func TestAnAnswerThatIsNoneIsRefused(t *testing.T) {
	const interim = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
	for name, c := range map[string]struct {
		text string
		ok   bool
	}{
		"plain":                  {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true},
		"a long head":            {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", headLimit*3/4) + "\r\nContent-Length: 2\r\n\r\nok", true},
		"too long a head":        {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", headLimit) + "\r\nContent-Length: 2\r\n\r\nok", false},
		"behind interim answers": {strings.Repeat(interim, interimLimit-1) + "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true},
		"too many of them":       {strings.Repeat(interim, interimLimit) + "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false},
		"another protocol":       {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nok", false},
		"two lengths":            {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", false},
		"no HTTP":                {"SSH-2.0-OpenSSH\r\n\r\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := script(t, func(w io.Writer, _ *http.Request, _ int32) bool {
				_, _ = io.WriteString(w, c.text)
				return c.ok
			})
			text, err := s.ask(t.Context(), "GET", "", false)
			require.Equal(t, c.ok, err == nil, "%v", err)
			require.Equal(t, c.ok, len(s.unused()) == 1)
			if c.ok {
				require.Equal(t, "ok", text)
			}
		})
	}
}
