package testkit

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/caresphere/caresphere/internal/devstack"
)

type stackInfo struct {
	Name     string
	Layout   devstack.Layout
	Operator devstack.Operator
	// Superuser has "postgres" as the database.
	Superuser string
	DSNs      map[string]string
	// Toxiproxy is the API of the proxies between programs and servers, if there are any.
	Toxiproxy string
}

// RunningStack is the whole platform at work: the built programs on a state
// folder and ports of their own.
type RunningStack struct {
	info stackInfo
}

// StackOption changes which stack Stack returns.
type StackOption func(url.Values)

// Full asks for the stack with Vault, S3 and stripe-mock.
func Full() StackOption { return func(v url.Values) { v.Set("full", "true") } }

// Named asks for a stack of its own, for tests that stop its parts for long.
func Named(name string) StackOption { return func(v url.Values) { v.Set("name", name) } }

// SharedBuffers asks for a stack of its own size: so much memory for PostgreSQL's pages,
// as "1GB".
func SharedBuffers(size string) StackOption {
	return func(v url.Values) { v.Set("buffers", size) }
}

// Kept asks for a stack whose state lies in a folder, stays there, and is gone on with if
// it is there. The account of the database server has to get through to it.
func Kept(folder string) StackOption { return func(v url.Values) { v.Set("kept", folder) } }

// Proxied asks for a stack whose programs reach their servers through proxies in
// which a test makes faults.
func Proxied() StackOption { return func(v url.Values) { v.Set("proxied", "true") } }

// Stack returns the run's stack, ready for sign-up. It is shared: tests sign up
// organizations of their own, and start again what they stop.
func Stack(t testing.TB, options ...StackOption) *RunningStack {
	t.Helper()
	params := url.Values{"full": {"false"}, "name": {"shared"}, "proxied": {"false"}, "disks": {"false"}, "buffers": {""}, "kept": {""}}
	for _, o := range options {
		o(params)
	}
	s := &RunningStack{info: ask[stackInfo](t, "stack", params)}
	asked.Store(s.info.Name, nil)
	complaints(t, s.info.Layout)
	return s
}

// asked has the name of each stack that this process asked for.
var asked sync.Map

// EndStacks ends the stacks that this process asked for, for the end of a package whose
// stacks nobody else asks for: they would use a processor beside the packages to come.
func EndStacks() error {
	var failed []error
	for name := range asked.Range {
		_, err := fetch[int]("stack-end", url.Values{"name": {name.(string)}})
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// Origin is the public origin, OperatorOrigin the operators'.
func (s *RunningStack) Origin() string { return s.info.Layout.URL(devstack.PortPublic) }

// OperatorOrigin is the operators' origin.
func (s *RunningStack) OperatorOrigin() string { return s.info.Layout.URL(devstack.PortOperators) }

// URL is the base URL of a part, to reach it past the router.
func (s *RunningStack) URL(p devstack.Port) string { return s.info.Layout.URL(p) }

// Layout says where the stack's files are.
func (s *RunningStack) Layout() devstack.Layout { return s.info.Layout }

// Operator is how the first operator signs in.
func (s *RunningStack) Operator() devstack.Operator { return s.info.Operator }

// Roots trusts the stack's authority alone.
func (s *RunningStack) Roots(t testing.TB) *x509.CertPool {
	t.Helper()
	pem, err := os.ReadFile(s.info.Layout.CA())
	if err != nil {
		t.Fatalf("reading the stack's authority: %v", err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return pool
}

// DSN returns the DSN of one of the cluster's roles for its own database.
func (s *RunningStack) DSN(role string) string { return s.info.DSNs[role] }

// Superuser returns the bootstrap role's DSN for a database (devstack.ControlDatabase
// and so on): for looking and for planting faults.
func (s *RunningStack) Superuser(database string) string {
	return (&PG{info: postgresInfo{SuperuserDSN: s.info.Superuser}}).SuperuserDSN(database)
}

// Database is one of the stack's databases, for those who count and plant in it.
func (s *RunningStack) Database(name string) *DB {
	return &DB{Name: name, pg: &PG{info: postgresInfo{SuperuserDSN: s.info.Superuser}}}
}

// Log returns what a program has logged so far.
func (s *RunningStack) Log(t testing.TB, program string) string {
	t.Helper()
	content, err := os.ReadFile(s.info.Layout.Log(program))
	if err != nil {
		t.Fatalf("reading the log of %s: %v", program, err)
	}
	return string(content)
}

// Spans returns what a program has traced so far, JSON lines.
func (s *RunningStack) Spans(t testing.TB, program string) string {
	t.Helper()
	content, err := os.ReadFile(s.info.Layout.Traces(program))
	if err != nil {
		t.Fatalf("reading the spans of %s: %v", program, err)
	}
	return string(content)
}

// Proxy is the proxy in front of one of the servers of a stack that is Proxied. The
// test's end heals it.
func (s *RunningStack) Proxy(t testing.TB, server devstack.Port) *Proxy {
	t.Helper()
	p := &Proxy{name: proxyName(s.info.Name, server), api: s.info.Toxiproxy, t: t}
	t.Cleanup(p.Heal)
	return p
}

// PID is the process number of a program's current life.
func (s *RunningStack) PID(t testing.TB, program string) int {
	t.Helper()
	return s.control(t, "pid", program)
}

// Kill ends a program with SIGKILL. The supervisor starts it again by itself.
func (s *RunningStack) Kill(t testing.TB, program string) { t.Helper(); s.control(t, "kill", program) }

// StopProgram ends a program in order and leaves it ended; the test's end starts it again.
func (s *RunningStack) StopProgram(t testing.TB, program string) {
	t.Helper()
	t.Cleanup(func() { s.control(t, "start", program) })
	s.control(t, "stop", program)
}

// StartProgram starts a stopped program and waits until it is alive.
func (s *RunningStack) StartProgram(t testing.TB, program string) {
	t.Helper()
	s.control(t, "start", program)
}

func (s *RunningStack) control(t testing.TB, verb, program string) int {
	t.Helper()
	return ask[int](t, "stack-"+verb, url.Values{"name": {s.info.Name}, "program": {program}})
}

func (h *Host) startStack(ctx context.Context, params url.Values) (any, error) {
	yes := func(what string) bool { return params.Get(what) == "true" }
	name, full := params.Get("name"), yes("full")
	binaries, err := h.binaries(ctx)
	if err != nil {
		return nil, err
	}
	base, release, err := devstack.LeasePorts()
	if err != nil {
		return nil, err
	}
	h.onClose(func(context.Context) error { release(); return nil })
	layout := devstack.Layout{State: filepath.Join(h.dir, "stack-"+name+"-"+strconv.FormatBool(full)), Base: base}
	if kept := params.Get("kept"); kept != "" {
		layout.State = kept
	}
	cfg := devstack.Config{Layout: layout, Binaries: binaries, Cache: h.builder.Cache, Full: full, Volatile: true, Traces: true, SharedBuffers: params.Get("buffers"),
		Progress: appended(layout.Log("stack")), Building: h.builder.Progress}
	api := ""
	if yes("proxied") {
		if api, cfg.Via, err = h.proxies(layout, full); err != nil {
			return nil, err
		}
	}
	if yes("disks") {
		if err := h.mountDisks(ctx, layout, full); err != nil {
			return nil, err
		}
	}
	stack, err := devstack.Start(ctx, cfg)
	if err != nil {
		return nil, err
	}
	end := once(stack.Stop)
	h.onClose(end)
	operator, err := devstack.ReadOperator(layout)
	if err != nil {
		return nil, err
	}
	info := stackInfo{Name: filepath.Base(layout.State), Layout: layout, Operator: operator, Superuser: stack.Superuser("postgres"), DSNs: map[string]string{}, Toxiproxy: api}
	for _, role := range devstack.ClusterRoles() {
		info.DSNs[role] = stack.DSN(devstack.DatabaseOf(role), role)
	}
	h.mu.Lock()
	h.stacks[info.Name] = hostedStack{Stack: stack, end: end, startedBy: "stack?" + params.Encode()}
	h.mu.Unlock()
	return info, nil
}

// appended is a file that lines are added to. Tests kill programs by the hundred: what a
// stack says of it stands beside the programs' logs, for tests that fail.
type appended string

// Write implements io.Writer.
func (path appended) Write(b []byte) (int, error) {
	f, err := os.OpenFile(string(path), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, fmt.Errorf("opening a stack's log: %w", err)
	}
	defer func() { _ = f.Close() }()
	return f.Write(b)
}

// hostedStack is a stack with how it ends and what it was started by.
type hostedStack struct {
	*devstack.Stack
	end       func(context.Context) error
	startedBy string
}

// once lets a stack be ended before the host is, and by both.
func once(end func(context.Context) error) func(context.Context) error {
	var first sync.Once
	return func(ctx context.Context) (err error) {
		first.Do(func() { err = end(ctx) })
		return err
	}
}

// controlStack does what a test asks of a stack's program.
func (h *Host) controlStack(verb, name, program string) (int, error) {
	h.mu.Lock()
	stack, ok := h.stacks[name]
	h.mu.Unlock()
	if !ok {
		return 0, fmt.Errorf("there is no stack %q", name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	switch verb {
	case "end":
		h.mu.Lock()
		delete(h.stacks, name)
		delete(h.started, stack.startedBy)
		h.mu.Unlock()
		return 0, stack.end(ctx)
	case "pid":
		return stack.PID(program), nil
	case "kill":
		return 0, stack.Kill(program)
	case "stop":
		return 0, stack.StopProgram(ctx, program)
	case "start":
		return 0, stack.StartProgram(ctx, program)
	case "start-database":
		return stack.StartDatabase(ctx)
	case "fill":
		return 0, fill(Disk(program).path(stack.Layout(), stack.Full()))
	case "free":
		return 0, free(Disk(program).path(stack.Layout(), stack.Full()))
	default:
		return 0, fmt.Errorf("a stack cannot %q", verb)
	}
}

// binaries builds the platform's programs once.
func (h *Host) binaries(ctx context.Context) (string, error) {
	v, err := h.once("binaries", func(context.Context) (any, error) {
		root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
		if err != nil {
			return nil, fmt.Errorf("finding the module: %w", err)
		}
		dir := filepath.Join(h.dir, "bin")
		cmd := exec.CommandContext(ctx, "go", "build", "-o", dir+string(filepath.Separator), "./cmd/...")
		cmd.Dir = string(root[:max(0, len(root)-1)])
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, errors.Join(fmt.Errorf("building the programs: %w", err), errors.New(string(out)))
		}
		return dir, nil
	})
	if err != nil {
		return "", err
	}
	return v.(string), nil
}

// Binary returns the path of one of the platform's programs, built once a run:
// controlplane, provisioner, dataplane, router, caresphere.
func Binary(t testing.TB, name string) string {
	t.Helper()
	return filepath.Join(ask[string](t, "binaries", nil), name)
}
