package proc

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
)

// Account is a system account that a process can run under.
type Account struct {
	Name string
	UID  int
	GID  int
}

// Current returns the account of this process.
func Current() Account {
	a := Account{UID: os.Getuid(), GID: os.Getgid(), Name: strconv.Itoa(os.Getuid())}
	if u, err := user.Current(); err == nil {
		a.Name = u.Username
	}
	return a
}

// Unprivileged returns the first of the named accounts that exists and is not root.
func Unprivileged(names ...string) (Account, error) {
	for _, name := range names {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err1 == nil && err2 == nil && uid != 0 {
			return Account{Name: name, UID: uid, GID: gid}, nil
		}
	}
	return Account{}, fmt.Errorf("none of the accounts %v exists", names)
}

// CanReach tells whether the account may pass through every existing folder on
// the way to path. Access lists beyond the mode bits are not looked at.
func (a Account) CanReach(path string) bool {
	path, err := filepath.Abs(path)
	if err != nil {
		return false
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err == nil && !a.mayEnter(info) {
			return false
		}
		if err != nil && !os.IsNotExist(err) {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
	}
}
