// Package tools builds the servers of the local stack from pinned modules and
// keeps the binaries in a cache outside the repository. Each has a go.mod and
// go.sum of its own here (under other names, since a nested module cannot be
// embedded), so that nothing of theirs enters our module graph. It trusts the
// module checksums that stand in the repository, and no network answer.
package tools

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
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

//go:embed spec
var specs embed.FS

// Tool is a server that can be built.
type Tool string

// The servers.
const (
	Kratos     Tool = "kratos"
	Vault      Tool = "vault"
	StripeMock Tool = "stripe-mock"
	VersityGW  Tool = "versitygw"
	Toxiproxy  Tool = "toxiproxy"
)

// All lists every tool, in the order in which they are best built: the one that
// everybody needs first.
func All() []Tool { return []Tool{Kratos, StripeMock, VersityGW, Toxiproxy, Vault} }

type recipe struct {
	pkg  string
	tags string
	// took is how long a build takes with a cold cache on two cores.
	took time.Duration
}

var recipes = map[Tool]recipe{
	Kratos:     {pkg: "github.com/ory/kratos", tags: "json1", took: 2 * time.Minute},
	Vault:      {pkg: "github.com/hashicorp/vault", tags: "minimal", took: 4 * time.Minute},
	StripeMock: {pkg: "github.com/stripe/stripe-mock", took: 30 * time.Second},
	VersityGW:  {pkg: "github.com/versity/versitygw/cmd/versitygw", took: 90 * time.Second},
	Toxiproxy:  {pkg: "github.com/Shopify/toxiproxy/v2/cmd/server", took: 40 * time.Second},
}

// A build that is neither done nor failed by then hangs.
const buildTimeout = 25 * time.Minute

// Builder builds tools into a cache folder.
type Builder struct {
	// Cache is the folder; DefaultCache says which by default.
	Cache string
	// Progress gets one line a step; nil discards them.
	Progress io.Writer
}

// DefaultCache returns $CARESPHERE_CACHE, else caresphere in the user's cache folder.
func DefaultCache() (string, error) {
	if dir := os.Getenv("CARESPHERE_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding the cache folder: %w; set CARESPHERE_CACHE", err)
	}
	return filepath.Join(dir, "caresphere"), nil
}

// Key names a build: it changes with the module files, the recipe, the Go
// release and the platform, so that a changed pin is built anew.
func Key(t Tool) (string, error) {
	r, ok := recipes[t]
	if !ok {
		return "", fmt.Errorf("there is no tool %q", t)
	}
	mod, sum, err := spec(t)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	for _, part := range [][]byte{mod, sum, []byte(r.pkg), []byte(r.tags), []byte(runtime.Version()), []byte(runtime.GOOS), []byte(runtime.GOARCH)} {
		fmt.Fprintf(h, "%d\n", len(part))
		h.Write(part)
	}
	return hex.EncodeToString(h.Sum(nil)[:8]), nil
}

// Path returns where the tool's binary is once built, and whether it is.
func (b Builder) Path(t Tool) (path string, built bool, err error) {
	key, err := Key(t)
	if err != nil {
		return "", false, err
	}
	path = filepath.Join(b.Cache, "bin", string(t)+"-"+key)
	info, err := os.Stat(path)
	return path, err == nil && info.Mode().IsRegular(), nil
}

// Build returns the paths of the tools' binaries, building those that are
// missing one after the other. Processes that build at the same time wait for
// each other.
func (b Builder) Build(ctx context.Context, wanted ...Tool) (map[Tool]string, error) {
	paths := make(map[Tool]string, len(wanted))
	var missing []Tool
	for _, t := range wanted {
		path, built, err := b.Path(t)
		if err != nil {
			return nil, err
		}
		paths[t] = path
		if !built && !slices.Contains(missing, t) {
			missing = append(missing, t)
		}
	}
	if len(missing) == 0 {
		return paths, nil
	}
	if err := os.MkdirAll(filepath.Join(b.Cache, "bin"), 0o755); err != nil { //nolint:gosec // programs are no secret
		return nil, fmt.Errorf("making the cache folder: %w", err)
	}
	for _, t := range missing {
		if err := b.build(ctx, t, paths[t]); err != nil {
			return nil, err
		}
	}
	return paths, nil
}

func (b Builder) build(ctx context.Context, t Tool, path string) error {
	unlock, err := lockFile(ctx, filepath.Join(b.Cache, "build.lock"))
	if err != nil {
		return fmt.Errorf("waiting for another build: %w", err)
	}
	defer unlock()
	if _, built, err := b.Path(t); err != nil || built { // by whom we waited for
		return err
	}
	r := recipes[t]
	goTool, err := exec.LookPath("go")
	if err != nil {
		return fmt.Errorf("building %s needs Go: %w", t, err)
	}
	mod, sum, err := spec(t)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(b.Cache, "build-"+string(t)+"-")
	if err != nil {
		return fmt.Errorf("making a build folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := errors.Join(
		os.WriteFile(filepath.Join(dir, "go.mod"), mod, 0o600),
		os.WriteFile(filepath.Join(dir, "go.sum"), sum, 0o600),
	); err != nil {
		return fmt.Errorf("writing the module of %s: %w", t, err)
	}
	b.say("building %s once (about %s with an empty cache)", t, r.took)
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, buildTimeout)
	defer cancel()
	out := filepath.Join(dir, "binary")
	args := []string{"build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", out}
	if r.tags != "" {
		args = append(args, "-tags", r.tags)
	}
	cmd := exec.CommandContext(ctx, goTool, append(args, r.pkg)...)
	cmd.Dir = dir
	cmd.Env = buildEnv(os.Environ())
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stderr, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return fmt.Errorf("building %s: %w\n%s", t, err, tail(stderr.String(), 15))
	}
	if err := os.Rename(out, path); err != nil {
		return fmt.Errorf("putting %s in the cache: %w", t, err)
	}
	b.say("built %s in %s", t, time.Since(began).Round(100*time.Millisecond))
	return nil
}

// buildEnv keeps the user's proxy, cache and network settings and drops what
// would change the build. No C compiler is needed.
func buildEnv(env []string) []string {
	kept := slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains([]string{"GOFLAGS", "GOWORK", "CGO_ENABLED", "GO111MODULE", "GOOS", "GOARCH", "GOEXPERIMENT", "GOFIPS140"}, name)
	})
	return append(kept, "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=")
}

func spec(t Tool) (mod, sum []byte, err error) {
	if mod, err = specs.ReadFile("spec/" + string(t) + ".mod"); err != nil {
		return nil, nil, fmt.Errorf("reading the module of %s: %w", t, err)
	}
	if sum, err = specs.ReadFile("spec/" + string(t) + ".sum"); err != nil {
		return nil, nil, fmt.Errorf("reading the module of %s: %w", t, err)
	}
	return mod, sum, nil
}

func (b Builder) say(format string, args ...any) {
	if b.Progress != nil {
		fmt.Fprintf(b.Progress, format+"\n", args...)
	}
}

func tail(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
