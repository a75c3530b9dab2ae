package proc

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// attributes puts the child in a group of its own and ties its life to ours.
func attributes(spec Spec) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: spec.Stop}
	if spec.As != nil {
		attr.Credential = &syscall.Credential{Uid: uint32(spec.As.UID), Gid: uint32(spec.As.GID)}
	}
	return attr
}

// The kernel sends the death signal when the thread that forked ends, not the
// process: all forks come from one thread that lives as long as we do.
var forks = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

func fork(cmd *exec.Cmd) error {
	result := make(chan error)
	forks() <- func() { result <- cmd.Start() }
	return <-result
}
