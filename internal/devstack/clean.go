package devstack

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Clean removes a stack's state and returns the folders that it removed. It
// refuses while the stack runs (*StateBusy), and a folder that is none of ours.
func Clean(l Layout) (removed []string, err error) {
	if _, err := os.Stat(l.State); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if _, err := os.Stat(l.Path("lock")); err != nil {
		return nil, fmt.Errorf("%s does not look like a stack's state folder: it has no lock file; remove it by hand", l.State)
	}
	unlock, err := l.Lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	home, _, err := PostgresHome(l.Path("postgres"))
	if err != nil {
		return nil, err
	}
	dirs := []string{l.State}
	if home != l.Path("postgres") {
		dirs = append(dirs, home)
	}
	for _, dir := range dirs {
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return removed, fmt.Errorf("removing %s: %w", dir, err)
		}
		removed = append(removed, dir)
	}
	return removed, nil
}
