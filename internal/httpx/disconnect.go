package httpx

import (
	"context"
	"net"
	"sync"
	"syscall"
	"time"
)

// sweepEvery bounds how long a request outlives its client. Requests shorter
// than this never cost a system call.
const sweepEvery = 100 * time.Millisecond

// clients watches the connections of the requests in flight: fasthttp does not
// notice that a client has gone before it writes.
var clients = &sweeper{active: map[*watch]struct{}{}}

type watch struct {
	conn   syscall.Conn
	cancel context.CancelCauseFunc
	age    int
}

type sweeper struct {
	mu      sync.Mutex
	active  map[*watch]struct{}
	running bool
}

// add starts watching; nil for a connection that cannot be looked at.
func (s *sweeper) add(conn net.Conn, cancel context.CancelCauseFunc) *watch {
	sc := rawConn(conn)
	if sc == nil {
		return nil
	}
	w := &watch{conn: sc, cancel: cancel}
	s.mu.Lock()
	s.active[w] = struct{}{}
	if !s.running {
		s.running = true
		go s.run()
	}
	s.mu.Unlock()
	return w
}

func (s *sweeper) remove(w *watch) {
	s.mu.Lock()
	delete(s.active, w)
	s.mu.Unlock()
}

// run looks at every connection that has been busy for a whole turn, and ends
// when there is none left.
func (s *sweeper) run() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	var old []*watch
	for range tick.C {
		old = old[:0]
		s.mu.Lock()
		if len(s.active) == 0 {
			s.running = false
			s.mu.Unlock()
			return
		}
		for w := range s.active {
			if w.age++; w.age > 1 {
				old = append(old, w)
			}
		}
		s.mu.Unlock()
		for _, w := range old {
			if gone(w.conn) {
				w.cancel(ErrClientGone)
				s.remove(w)
			}
		}
		clear(old)
	}
}

// rawConn finds the socket below TLS and other wrappers.
func rawConn(conn net.Conn) syscall.Conn {
	for conn != nil {
		if sc, ok := conn.(syscall.Conn); ok {
			return sc
		}
		inner, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		conn = inner.NetConn()
	}
	return nil
}
