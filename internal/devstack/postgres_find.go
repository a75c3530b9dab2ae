package devstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

// MinPostgres is the oldest major version that the schemas work on.
const MinPostgres = 15

// ErrNoPostgres means that the machine has no PostgreSQL that is new enough.
var ErrNoPostgres = errors.New("no PostgreSQL server of version 15 or later on this machine")

var majorVersion = regexp.MustCompile(`PostgreSQL\) (\d+)`)

// FindPostgres returns the folder with initdb and postgres of the newest usable
// version: on PATH, in Debian's and in common places, then in what
// InstallPostgres put into cache. ErrNoPostgres if there is none.
func FindPostgres(ctx context.Context, cache string) (bin string, major int, err error) {
	var candidates []string
	if path, err := exec.LookPath("postgres"); err == nil {
		if target, err := filepath.EvalSymlinks(path); err == nil {
			path = target
		}
		candidates = append(candidates, filepath.Dir(path))
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin",
		filepath.Join(installDir(cache), "bin"), filepath.Join(installDir(cache), "usr/lib/postgresql/*/bin"),
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return "", 0, fmt.Errorf("looking for PostgreSQL: %w", err)
		}
		candidates = append(candidates, found...)
	}
	for _, dir := range candidates {
		if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
			continue
		}
		v, err := postgresMajor(ctx, dir)
		if err == nil && v >= MinPostgres && v > major {
			bin, major = dir, v
		}
	}
	if bin == "" {
		return "", 0, ErrNoPostgres
	}
	return bin, major, nil
}

func postgresMajor(ctx context.Context, bin string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, filepath.Join(bin, "postgres"), "--version").Output()
	if err != nil {
		return 0, fmt.Errorf("asking %s/postgres for its version: %w", bin, err)
	}
	m := majorVersion.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("%s/postgres does not tell its version: %q", bin, out)
	}
	return strconv.Atoi(string(m[1]))
}

// installDir is where a PostgreSQL of our own goes. As root the server runs
// under another account, which may not reach root's cache.
func installDir(cache string) string {
	if os.Getuid() == 0 {
		cache = "/var/lib/caresphere"
	}
	return filepath.Join(cache, "postgresql")
}
