package devstack

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// StateBusy says that a stack already runs on a state folder.
type StateBusy struct {
	State string
	// PID is the process that runs it, 0 if unknown.
	PID int
}

// Error implements error.
func (e *StateBusy) Error() string {
	who := "another process"
	if e.PID > 0 {
		who = "process " + strconv.Itoa(e.PID)
	}
	return fmt.Sprintf("a stack runs on %s already (%s): stop it, or set CARESPHERE_STATE and CARESPHERE_PORT_BASE for a second one", e.State, who)
}

// Lock makes sure that one stack runs on the state folder: *StateBusy if one
// does. The kernel lets go of the lock when the process ends, however it ends.
func (l Layout) Lock() (unlock func(), err error) {
	if err := l.folders(); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(l.Path("lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the state folder's lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer func() { _ = f.Close() }()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			busy := &StateBusy{State: l.State}
			if content, err := os.ReadFile(l.Path("lock")); err == nil {
				busy.PID, _ = strconv.Atoi(strings.TrimSpace(string(content)))
			}
			return nil, busy
		}
		return nil, fmt.Errorf("locking the state folder: %w", err)
	}
	if err := errors.Join(f.Truncate(0), writePID(f)); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("writing the state folder's lock: %w", err)
	}
	return func() { _ = f.Close() }, nil
}

// running tells whether a stack runs on the state folder, without touching it.
func (l Layout) running() (pid int, running bool) {
	f, err := os.Open(l.Path("lock"))
	if err != nil {
		return 0, false
	}
	defer func() { _ = f.Close() }()
	if !errors.Is(syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB), syscall.EWOULDBLOCK) {
		return 0, false
	}
	content, err := io.ReadAll(io.LimitReader(f, 32))
	if err == nil {
		pid, _ = strconv.Atoi(strings.TrimSpace(string(content)))
	}
	return pid, true
}

func writePID(f *os.File) error {
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}
