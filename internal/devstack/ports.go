package devstack

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// PortTaken says that a port which a part needs is held by something else.
type PortTaken struct {
	// Part is what needs the port; Port its number.
	Part string
	Port int
	// Holder names the process that listens there, empty if it cannot be read.
	Holder string
}

// Error implements error.
func (e *PortTaken) Error() string {
	holder := e.Holder
	if holder == "" {
		holder = "another process"
	}
	return fmt.Sprintf("port %d, which %s needs, is taken by %s: stop it, or set CARESPHERE_PORT_BASE to another number", e.Port, e.Part, holder)
}

// CheckPort tries to listen on the loopback port and lets go of it again. It
// returns a *PortTaken where that fails.
func CheckPort(part string, port int) error {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return &PortTaken{Part: part, Port: port, Holder: portHolder(port)}
	}
	return l.Close()
}

// The leases of ports lie below the range that outgoing connections use, in
// blocks of this size.
const (
	PortBlock   = 32
	firstLeased = 20000
	endOfLeased = 32000
)

// LeasePorts returns the first of PortBlock consecutive free ports and keeps
// every other caller on this machine off them until release is called or the
// process ends: two test runs side by side never meet.
func LeasePorts() (base int, release func(), err error) {
	dir := filepath.Join(os.TempDir(), "caresphere-ports")
	if err := os.Mkdir(dir, 0o700); err == nil {
		// Shared by all accounts of the machine, like the folder it is in.
		if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
			return 0, nil, fmt.Errorf("making the folder of port leases: %w", err)
		}
	} else if !errors.Is(err, os.ErrExist) {
		return 0, nil, fmt.Errorf("making the folder of port leases: %w", err)
	}
	for base := firstLeased; base+PortBlock <= endOfLeased; base += PortBlock {
		lock, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(base)), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil { // another account's
			continue
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil && portsFree(base, PortBlock) {
			return base, func() { _ = lock.Close() }, nil
		}
		_ = lock.Close()
	}
	return 0, nil, fmt.Errorf("no %d free ports in a row between %d and %d", PortBlock, firstLeased, endOfLeased)
}

func portsFree(base, n int) bool {
	for port := base; port < base+n; port++ {
		if CheckPort("", port) != nil {
			return false
		}
	}
	return true
}

// portHolder names the process that listens on a TCP port, as far as /proc shows
// it: "nginx (process 4711)".
func portHolder(port int) string {
	inode := listenInode("/proc/net/tcp", port)
	if inode == "" {
		inode = listenInode("/proc/net/tcp6", port)
	}
	if inode == "" {
		return ""
	}
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return ""
	}
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && target == "socket:["+inode+"]" {
			pid := strings.Split(link, "/")[2]
			name, err := os.ReadFile(filepath.Join("/proc", pid, "comm"))
			if err != nil {
				return "process " + pid
			}
			return fmt.Sprintf("%s (process %s)", strings.TrimSpace(string(name)), pid)
		}
	}
	return ""
}

// listenInode finds the socket that listens on the port in a table of proc(5).
func listenInode(table string, port int) string {
	f, err := os.Open(table)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	const listening = "0A"
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		field := strings.Fields(lines.Text())
		if len(field) < 10 || field[3] != listening {
			continue
		}
		_, hexPort, ok := strings.Cut(field[1], ":")
		b, err := hex.DecodeString(hexPort)
		if ok && err == nil && len(b) == 2 && int(b[0])<<8|int(b[1]) == port {
			return field[9]
		}
	}
	return ""
}
