package testkit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

// Browser returns the path of Chromium, installing Debian's where there is none and
// this account may.
func Browser(t testing.TB) string {
	t.Helper()
	return ask[string](t, "browser", nil)
}

func (h *Host) browser(ctx context.Context) (any, error) {
	if bin, ok := findBrowser(); ok {
		return bin, nil
	}
	var prefix []string
	if os.Getuid() != 0 {
		prefix = []string{"sudo", "-n"}
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	const script = `export DEBIAN_FRONTEND=noninteractive
apt-get update -q && apt-get install -y -q --no-install-recommends chromium fonts-dejavu-core`
	fmt.Fprintln(os.Stderr, "installing Chromium for the browser tests")
	args := slices.Concat(prefix, []string{"sh", "-c", script})
	if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("the browser tests need Chromium and this account cannot install it (Debian, Ubuntu: apt-get install chromium): %w\n%s", err, out)
	}
	if bin, ok := findBrowser(); ok {
		return bin, nil
	}
	return nil, errors.New("the browser was installed and is not on the path")
}

func findBrowser() (string, bool) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if bin, err := exec.LookPath(name); err == nil {
			return bin, true
		}
	}
	return "", false
}
