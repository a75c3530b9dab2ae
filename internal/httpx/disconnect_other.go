//go:build !linux

package httpx

import (
	"syscall"
)

// gone peeks at the connection. Where the kernel has no POLLRDHUP, an end that
// stands behind unread bytes is seen only when the answer is written.
func gone(conn syscall.Conn) bool {
	rc, err := conn.SyscallConn()
	if err != nil {
		return true
	}
	closed := false
	err = rc.Control(func(fd uintptr) {
		var b [1]byte
		n, _, rerr := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|0x40 /* MSG_DONTWAIT */)
		closed = n == 0 && rerr == nil
	})
	return err != nil || closed
}
