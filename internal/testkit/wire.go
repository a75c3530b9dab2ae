package testkit

import (
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Break says how much of a message a broken connection had carried.
type Break string

// A message is lost before the server sees it, or it is carried out and its answer lost.
const (
	Lost       Break = "lost"
	Unanswered Break = "unanswered"
)

// Wire carries connections to a database, counts the messages of all its clients, and
// breaks the connection of one. It sees no more of them than the network does: whatever
// is sent counts, handshakes and logins, rows, and commands for which no trigger fires.
type Wire struct {
	t        testing.TB
	upstream string
	ln       net.Listener
	mu       sync.Mutex
	seen, at int
	how      Break
	open     map[net.Conn]bool
	carried  sync.WaitGroup
}

// answerTime is how long a message whose answer will be lost may take.
const answerTime = 20 * time.Second

// Wired returns a wire to a database's server. It ends with the test.
func Wired(t testing.TB, db *DB) *Wire {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listening: %v", err)
	}
	w := &Wire{t: t, ln: ln, upstream: "127.0.0.1:" + strconv.Itoa(db.PG().Port()), open: map[net.Conn]bool{}}
	w.carried.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			w.carried.Go(func() { w.carry(c) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		w.mu.Lock()
		for c := range w.open {
			_ = c.Close()
		}
		w.mu.Unlock()
		w.carried.Wait()
	})
	return w
}

// DSN leads a database's DSN through the wire.
func (w *Wire) DSN(dsn string) string {
	w.t.Helper()
	through := strings.Replace(dsn, w.upstream, w.ln.Addr().String(), 1)
	if through == dsn {
		w.t.Fatal("a DSN of another server")
	}
	return through
}

// Break counts from zero and breaks the connection of the n-th message; 0 breaks none.
func (w *Wire) Break(how Break, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.how, w.at, w.seen = how, n, 0
}

// Seen is how many messages there were since.
func (w *Wire) Seen() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen
}

// count tells what happens to the next message; nothing is "".
func (w *Wire) count() Break {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen++
	if w.seen == w.at {
		return w.how
	}
	return ""
}

func (w *Wire) keep(c net.Conn, open bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if open {
		w.open[c] = true
	} else {
		delete(w.open, c)
	}
}

func (w *Wire) carry(client net.Conn) {
	w.keep(client, true)
	defer func() { w.keep(client, false); _ = client.Close() }()
	server, err := net.Dial("tcp", w.upstream)
	if err != nil {
		return
	}
	w.keep(server, true)
	defer func() { w.keep(server, false); _ = server.Close() }()
	var (
		answers sync.Mutex // held while an answer is passed on
		muted   bool
	)
	w.carried.Go(func() {
		defer func() { _ = client.Close() }()
		buf := make([]byte, 32<<10)
		for {
			n, err := server.Read(buf)
			if n > 0 {
				answers.Lock()
				if muted {
					answers.Unlock()
					return
				}
				_, werr := client.Write(buf[:n])
				answers.Unlock()
				if werr != nil {
					return
				}
			}
			if err != nil {
				return
			}
		}
	})
	buf := make([]byte, 32<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		how := w.count()
		if how == Lost {
			return
		}
		if how == Unanswered {
			answers.Lock()
			muted = true
			answers.Unlock()
		}
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
		if how == Unanswered {
			// A large message has more parts, which follow: the answer ends both connections.
			late := time.AfterFunc(answerTime, func() {
				w.t.Errorf("no answer came to a message within %s", answerTime)
				_ = client.Close()
			})
			defer late.Stop()
		}
	}
}
