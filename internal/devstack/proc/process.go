package proc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Spec says what to start.
type Spec struct {
	// Name is what messages call it: "postgres", "kratos".
	Name string
	// Path is the program; Args what follows it.
	Path string
	Args []string
	// Env is the whole environment: nothing is inherited.
	Env []string
	// Dir is the working directory; empty keeps the parent's.
	Dir string
	// Log is the file that stdout and stderr are appended to.
	Log string
	// As is the account to run under; nil keeps the parent's.
	As *Account
	// Stop is the signal that asks it to end; SIGTERM by default.
	Stop syscall.Signal
	// Grace is how long it may take to end before it is killed; 10 s by default.
	Grace time.Duration
}

// Process is a started child.
type Process struct {
	spec  Spec
	cmd   *exec.Cmd
	start int64
	done  chan struct{}
	err   error
}

// Start starts the program and returns at once. The child gets the stop signal
// when the parent dies, where the system offers that (Linux).
func Start(spec Spec) (*Process, error) {
	if spec.Stop == 0 {
		spec.Stop = syscall.SIGTERM
	}
	if spec.Grace == 0 {
		spec.Grace = 10 * time.Second
	}
	log, err := os.OpenFile(spec.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the log of %s: %w", spec.Name, err)
	}
	defer func() { _ = log.Close() }()
	size, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("opening the log of %s: %w", spec.Name, err)
	}

	// No CommandContext: its kill reaches the child alone, not its group, and
	// gives it no time to end in order.
	cmd := exec.Command(spec.Path, spec.Args...)
	cmd.Env = spec.Env
	cmd.Dir = spec.Dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = attributes(spec)
	p := &Process{spec: spec, cmd: cmd, start: size, done: make(chan struct{})}
	if err := fork(cmd); err != nil {
		return nil, fmt.Errorf("starting %s: %w", spec.Name, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Name is the name from the Spec.
func (p *Process) Name() string { return p.spec.Name }

// PID is the process's number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed once the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is how the process ended: nil after exit code 0. It is valid once Done is closed.
func (p *Process) Err() error { return p.err }

// Stop asks the process to end, waits for its grace, then kills its whole group.
// Stopping one that has ended is no error. A cancelled context kills at once.
func (p *Process) Stop(ctx context.Context) error {
	if p.ended() {
		return nil
	}
	_ = p.cmd.Process.Signal(p.spec.Stop)
	grace := time.NewTimer(p.spec.Grace)
	defer grace.Stop()
	var why error
	select {
	case <-p.done:
		return nil
	case <-grace.C:
		why = fmt.Errorf("%s did not end within %s and was killed", p.spec.Name, p.spec.Grace)
	case <-ctx.Done():
		why = fmt.Errorf("%s was killed: %w", p.spec.Name, ctx.Err())
	}
	p.Kill()
	return why
}

// Kill ends the process and everything in its group at once and waits for it.
func (p *Process) Kill() {
	if p.ended() {
		return
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done
}

func (p *Process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Tail returns up to n of the last lines that this run wrote to its log.
func (p *Process) Tail(n int) string {
	f, err := os.Open(p.spec.Log)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return ""
	}
	from := max(p.start, end-16<<10)
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return ""
	}
	b, err := io.ReadAll(io.LimitReader(f, 16<<10))
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// LastWords returns up to n lines that tell why the process ended: from the start
// of a Go panic if there is one, else the last ones.
func (p *Process) LastWords(n int) string {
	lines := strings.Split(p.Tail(1<<10), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
			return strings.Join(lines[i:min(i+n, len(lines))], "\n")
		}
	}
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// Ready polls check until it returns nil. It returns early, with the last lines
// of the log, when the process ends first; and with check's last error when ctx
// is done. Each call of check gets at most 2 s.
func (p *Process) Ready(ctx context.Context, check func(context.Context) error) error {
	pause := 10 * time.Millisecond
	for {
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := check(try)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended while it started (%w); the end of %s:\n%s", p.spec.Name, exitReason(p.err), p.spec.Log, p.LastWords(12))
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w; the end of %s:\n%s", p.spec.Name, err, p.spec.Log, p.Tail(12))
		case <-time.After(pause):
		}
		pause = min(pause*2, 200*time.Millisecond)
	}
}

func exitReason(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}
