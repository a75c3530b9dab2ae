package httpx

import (
	"net"

	"golang.org/x/sys/unix"
)

// Quiet tells whether an unused connection is still open and nothing waits to be read
// from its socket, below TLS and other wrappers. It neither waits nor takes anything.
// False for a connection that cannot be looked at.
func Quiet(conn net.Conn) bool {
	sc := rawConn(conn)
	if sc == nil {
		return false
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	err = rc.Control(func(fd uintptr) {
		// An end counts as something to read.
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, perr := unix.Poll(p, 0)
		quiet = perr == nil && n == 0
	})
	return err == nil && quiet
}
