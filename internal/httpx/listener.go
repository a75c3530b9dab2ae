package httpx

import (
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// fullEvery is how often it is logged that an address has too many connections.
const fullEvery = time.Minute

// trackedListener knows its open connections, so that a drain can end for certain, and
// how many each address has. It stands below TLS: one too many costs no handshake.
type trackedListener struct {
	net.Listener
	most int // of one origin; 0 does not bound

	mu     sync.Mutex
	open   map[*trackedConn]struct{}
	from   map[netip.Prefix]int
	logged time.Time
}

type trackedConn struct {
	net.Conn
	ln   *trackedListener
	from netip.Prefix
	once sync.Once
}

func newTrackedListener(ln net.Listener, most int) *trackedListener {
	return &trackedListener{Listener: ln, most: most, open: map[*trackedConn]struct{}{}, from: map[netip.Prefix]int{}}
}

// Accept implements net.Listener.
func (l *trackedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		t := &trackedConn{Conn: conn, ln: l, from: origin(conn.RemoteAddr())}
		if l.admit(t) {
			return t, nil
		}
		_ = conn.Close()
	}
}

// admit counts the connection, unless its origin has as many as it may.
func (l *trackedListener) admit(c *trackedConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.most > 0 && c.from.IsValid() && l.from[c.from] >= l.most {
		if now := time.Now(); now.Sub(l.logged) >= fullEvery {
			l.logged = now
			slog.Warn("an address has as many connections as it may: more are closed", "address", c.from.String(), "most", l.most)
		}
		return false
	}
	l.open[c] = struct{}{}
	l.from[c.from]++
	return true
}

func (l *trackedListener) leave(c *trackedConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, c)
	if l.from[c.from]--; l.from[c.from] == 0 {
		delete(l.from, c.from)
	}
}

// origin returns whose a connection counts as: an address, or the /64 of an IPv6 one,
// which is what a single subscriber is given at least.
func origin(a net.Addr) netip.Prefix {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := t.AddrPort().Addr().Unmap().WithZone("")
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	prefix, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return prefix
}

func (l *trackedListener) closeAll() {
	l.mu.Lock()
	left := make([]*trackedConn, 0, len(l.open))
	for c := range l.open {
		left = append(left, c)
	}
	l.mu.Unlock()
	for _, c := range left {
		_ = c.Close()
	}
}

// NetConn gives the watch of clients the socket.
func (c *trackedConn) NetConn() net.Conn { return c.Conn }

// Close implements net.Conn.
func (c *trackedConn) Close() error {
	c.once.Do(func() { c.ln.leave(c) })
	return c.Conn.Close()
}
