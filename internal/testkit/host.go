package testkit

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/caresphere/caresphere/internal/devstack"
	"github.com/caresphere/caresphere/internal/devstack/pki"
	"github.com/caresphere/caresphere/internal/devstack/proc"
	"github.com/caresphere/caresphere/internal/devstack/tools"
)

// A server that is not up by then, its build included, does not come up.
const startTimeout = 30 * time.Minute

// Host starts servers on demand and keeps them until Close.
type Host struct {
	dir      string
	ca       *pki.Authority
	tenantCA *pki.Authority
	server   pki.Pair
	builder  tools.Builder

	mu      sync.Mutex
	started map[string]*start
	stacks  map[string]hostedStack
	stops   []func(context.Context) error

	nextPort, endPort int
}

type start struct {
	once  sync.Once
	value any
	err   error
}

// NewHost makes an empty host in a temporary folder. The folder goes when the
// process ends, however it ends.
func NewHost() (*Host, error) {
	dir, err := os.MkdirTemp("", "cs-test-")
	if err != nil {
		return nil, fmt.Errorf("making the servers' folder: %w", err)
	}
	// The database server may run under another account and must get through.
	if err := os.Chmod(dir, 0o711); err != nil { //nolint:gosec // what is in it has modes of its own
		return nil, fmt.Errorf("opening the servers' folder: %w", err)
	}
	if err := removeAtEnd(dir); err != nil {
		return nil, err
	}
	h := &Host{dir: dir, started: map[string]*start{}, stacks: map[string]hostedStack{}}
	if h.builder.Cache, err = tools.DefaultCache(); err != nil {
		return nil, err
	}
	h.builder.Progress = os.Stderr
	if h.ca, err = pki.Open(filepath.Join(dir, "tls"), "ca", "CareSphere test CA"); err != nil {
		return nil, err
	}
	if h.tenantCA, err = pki.Open(filepath.Join(dir, "tls"), "tenant-ca", "CareSphere test tenant CA"); err != nil {
		return nil, err
	}
	if h.server, err = h.ca.Issue("localhost", "localhost", "127.0.0.1"); err != nil {
		return nil, err
	}
	return h, nil
}

// BuildTools builds all servers that are not in the cache yet.
func (h *Host) BuildTools() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	_, err := h.builder.Build(ctx, tools.All()...)
	return err
}

// Get returns a server's location, starting the server if this is the first call.
func (h *Host) Get(what string, params url.Values) (any, error) {
	if verb, ok := strings.CutPrefix(what, "stack-"); ok {
		return h.controlStack(verb, params.Get("name"), params.Get("program"))
	}
	if what == "binaries" {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		return h.binaries(ctx)
	}
	return h.once(what+"?"+params.Encode(), func(ctx context.Context) (any, error) {
		switch what {
		case "authority":
			return authorityInfo{Dir: filepath.Join(h.dir, "tls"), CA: h.ca.CertPath()}, nil
		case "postgres":
			return h.startPostgres(ctx)
		case "kratos":
			return h.startKratos(ctx, params.Get("realm"), params.Get("mail_mfa") == "true")
		case "stack":
			return h.startStack(ctx, params)
		case "browser":
			return h.browser(ctx)
		case "vault":
			return h.startVault(ctx)
		case "s3":
			return h.startS3(ctx)
		case "stripe":
			return h.startStripe(ctx)
		case "toxiproxy":
			return h.startToxiproxy(ctx)
		default:
			return nil, fmt.Errorf("there is no server %q", what)
		}
	})
}

func (h *Host) once(key string, f func(context.Context) (any, error)) (any, error) {
	h.mu.Lock()
	s, ok := h.started[key]
	if !ok {
		s = &start{}
		h.started[key] = s
	}
	h.mu.Unlock()
	s.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		s.value, s.err = f(ctx)
	})
	return s.value, s.err
}

// onClose has f called by Close, last one first.
func (h *Host) onClose(f func(context.Context) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stops = append(h.stops, f)
}

// Close stops all servers, in the reverse order of their start.
func (h *Host) Close(ctx context.Context) {
	h.mu.Lock()
	stops := h.stops
	h.stops = nil
	h.mu.Unlock()
	for i := len(stops) - 1; i >= 0; i-- {
		if err := stops[i](ctx); err != nil {
			fmt.Fprintln(os.Stderr, "testkit:", err)
		}
	}
	_ = os.RemoveAll(h.dir)
}

func (h *Host) log(name string) string { return filepath.Join(h.dir, name+".log") }

// ports hands out the next n ports of the host's lease.
func (h *Host) ports(n int) ([]int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	ports := make([]int, n)
	for i := range ports {
		if h.nextPort == h.endPort {
			base, release, err := devstack.LeasePorts()
			if err != nil {
				return nil, err
			}
			h.stops = append(h.stops, func(context.Context) error { release(); return nil })
			h.nextPort, h.endPort = base, base+devstack.PortBlock
		}
		ports[i] = h.nextPort
		h.nextPort++
	}
	return ports, nil
}

// removeAtEnd has a shell remove the folder once this process is gone: it waits
// for the end of a pipe that only we hold open.
func removeAtEnd(dir string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("making a pipe: %w", err)
	}
	defer func() { _ = r.Close() }()
	const script = `while read -r _; do :; done; n=0; while ! rm -rf "$1" 2>/dev/null && [ $n -lt 100 ]; do n=$((n+1)); sleep 0.1; done`
	cmd := exec.Command("/bin/sh", "-c", script, "testkit-cleaner", dir) // no context: it outlives us on purpose
	cmd.Stdin = r
	cmd.SysProcAttr = proc.Detached()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the cleaner: %w", err)
	}
	cleaners = append(cleaners, w)
	go func() { _ = cmd.Wait() }()
	return nil
}

// The write ends stay open until the process ends.
var cleaners []*os.File
