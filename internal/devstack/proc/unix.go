//go:build unix

package proc

import (
	"os"
	"syscall"
)

// mayEnter reads the execute bit that applies to the account.
func (a Account) mayEnter(info os.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	mode := info.Mode().Perm()
	switch {
	case a.UID == 0:
		return true
	case int(st.Uid) == a.UID:
		return mode&0o100 != 0
	case int(st.Gid) == a.GID:
		return mode&0o010 != 0
	default:
		return mode&0o001 != 0
	}
}

// Detached puts a helper into a session of its own, so that it outlives the
// parent and the terminal.
func Detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
