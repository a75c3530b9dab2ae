package proc_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/devstack/proc"
)

// The test binary plays the parent that is killed; see TestChildrenDieWithAKilledParent.
func TestMain(m *testing.M) {
	if log := os.Getenv("PROC_TEST_PARENT"); log != "" {
		p, err := proc.Start(proc.Spec{Name: "child", Path: "/bin/sh", Args: []string{"-c", "exec sleep 600"}, Log: log})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(p.PID())
		select {}
	}
	os.Exit(m.Run())
}

func start(t *testing.T, script string, change func(*proc.Spec)) *proc.Process {
	t.Helper()
	spec := proc.Spec{Name: "script", Path: "/bin/sh", Args: []string{"-c", script}, Log: filepath.Join(t.TempDir(), "log"), Env: []string{"PATH=/usr/bin:/bin"}}
	if change != nil {
		change(&spec)
	}
	p, err := proc.Start(spec)
	require.NoError(t, err)
	t.Cleanup(p.Kill)
	return p
}

func says(p *proc.Process, text string) func(context.Context) error {
	return func(context.Context) error {
		if strings.Contains(p.Tail(10), text) {
			return nil
		}
		return errors.New("not yet")
	}
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func TestStopAsksFirst(t *testing.T) {
	p := start(t, `trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done`, nil)
	require.NoError(t, p.Ready(t.Context(), says(p, "up")))
	require.NoError(t, p.Stop(t.Context()))
	require.Contains(t, p.Tail(3), "bye")
	require.NoError(t, p.Stop(t.Context()), "a second stop is no error")
}

func TestStopKillsTheGroupAfterItsGrace(t *testing.T) {
	p := start(t, `trap '' TERM; sleep 600 & echo "child $!"; echo up; while :; do sleep 0.05; done`, func(s *proc.Spec) { s.Grace = 50 * time.Millisecond })
	require.NoError(t, p.Ready(t.Context(), says(p, "up")))
	var child int
	_, err := fmt.Sscanf(p.Tail(3), "child %d", &child)
	require.NoError(t, err)
	require.ErrorContains(t, p.Stop(t.Context()), "was killed")
	require.Eventually(t, func() bool { return !alive(child) || zombie(child) }, 5*time.Second, 10*time.Millisecond)
}

func TestACancelledStopKillsAtOnce(t *testing.T) {
	p := start(t, `trap '' TERM; echo up; while :; do sleep 0.05; done`, nil)
	require.NoError(t, p.Ready(t.Context(), says(p, "up")))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, p.Stop(ctx), context.Canceled)
}

func TestReadyTellsWhyItEnded(t *testing.T) {
	p := start(t, `echo "cannot bind"; exit 3`, nil)
	err := p.Ready(t.Context(), func(context.Context) error { return errors.New("refused") })
	require.ErrorContains(t, err, "cannot bind")
	require.ErrorContains(t, err, "exit status 3")
}

func TestReadyEndsWithItsContext(t *testing.T) {
	p := start(t, `echo waiting; sleep 600`, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.ErrorContains(t, p.Ready(ctx, func(context.Context) error { return errors.New("refused") }), "refused")
}

func TestTailIsOfThisRunOnly(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	require.NoError(t, os.WriteFile(log, []byte("an earlier run\n"), 0o600))
	p := start(t, `echo this run`, func(s *proc.Spec) { s.Log = log })
	<-p.Done()
	require.Equal(t, "this run", p.Tail(10))
}

func TestChildrenDieWithAKilledParent(t *testing.T) {
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), "PROC_TEST_PARENT="+filepath.Join(t.TempDir(), "log"))
	out, err := parent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, parent.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	child, err := strconv.Atoi(strings.TrimSpace(line))
	require.NoError(t, err, line)
	require.True(t, alive(child))
	require.NoError(t, parent.Process.Kill())
	_ = parent.Wait()
	require.Eventually(t, func() bool { return !alive(child) || zombie(child) }, 5*time.Second, 10*time.Millisecond)
}

// zombie tells whether the process has ended and only waits to be reaped.
func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(rest, "Z")
}

func TestRunsUnderAnotherAccount(t *testing.T) {
	us := proc.Current()
	account := us
	if us.UID == 0 {
		var err error
		account, err = proc.Unprivileged("postgres", "nobody")
		require.NoError(t, err)
	}
	p := start(t, `id -u; id -G`, func(s *proc.Spec) {
		if us.UID == 0 {
			s.As = &account
		}
		s.Dir = "/"
	})
	<-p.Done()
	require.NoError(t, p.Err())
	uid, groups, _ := strings.Cut(p.Tail(3), "\n")
	require.Equal(t, strconv.Itoa(account.UID), uid)
	if us.UID == 0 {
		require.NotContains(t, strings.Fields(groups), "0", "no group of root is left")
	}
}

func TestReachLooksAtEveryFolder(t *testing.T) {
	root := t.TempDir()
	open, closed := filepath.Join(root, "open"), filepath.Join(root, "closed")
	require.NoError(t, os.MkdirAll(filepath.Join(open, "in"), 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(closed, "in"), 0o755))
	require.NoError(t, os.Chmod(closed, 0o700))
	us := proc.Current()
	require.True(t, us.CanReach(filepath.Join(closed, "in", "x")))
	// Another account: judged by the bits for others, below a root that is open.
	for dir := root; dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			break
		}
	}
	stranger := proc.Account{UID: us.UID + 54321, GID: us.GID + 54321}
	require.True(t, stranger.CanReach(filepath.Join(open, "in", "x")))
	require.False(t, stranger.CanReach(filepath.Join(closed, "in", "x")))
	_, err := proc.Unprivileged("no-such-account-here", "root")
	require.Error(t, err)
}
