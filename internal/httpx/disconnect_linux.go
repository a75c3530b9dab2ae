package httpx

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// gone asks the kernel whether the peer has closed. Unlike a peek at the data it
// sees the end behind bytes not yet read, such as TLS's close_notify.
func gone(conn syscall.Conn) bool {
	rc, err := conn.SyscallConn()
	if err != nil {
		return true
	}
	closed := false
	err = rc.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, perr := unix.Poll(p, 0)
		closed = perr == nil && n > 0 && p[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
	})
	return err != nil || closed
}
