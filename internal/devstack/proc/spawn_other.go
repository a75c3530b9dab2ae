//go:build unix && !linux

package proc

import (
	"os/exec"
	"syscall"
)

// attributes puts the child in a group of its own. Other systems than Linux
// offer no death signal: there a parent that is killed leaves its children.
func attributes(spec Spec) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if spec.As != nil {
		attr.Credential = &syscall.Credential{Uid: uint32(spec.As.UID), Gid: uint32(spec.As.GID)}
	}
	return attr
}

func fork(cmd *exec.Cmd) error { return cmd.Start() }
