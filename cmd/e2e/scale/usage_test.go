package scale_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/devstack"
)

// usage is what the processes of a stack hold and have used.
type usage struct {
	memory map[string]int64 // bytes, shared pages divided among their users
	cpu    map[string]time.Duration
	// backends is how many server processes of PostgreSQL there are.
	backends int
}

// tick is the kernel's unit of CPU time in /proc/PID/stat (proc(5): USER_HZ).
const tick = 10 * time.Millisecond

// usage looks at every program, and at PostgreSQL with all of its processes.
func (s *stack) usage(t testing.TB) usage {
	t.Helper()
	u := usage{memory: map[string]int64{}, cpu: map[string]time.Duration{}}
	for _, program := range devstack.Programs() {
		pid := s.PID(t, program)
		u.memory[program], u.cpu[program] = held(pid), used(pid, false)
	}
	content, err := os.ReadFile(s.Layout().Path("postgres", "data", "postmaster.pid"))
	require.NoError(t, err)
	line, _, _ := strings.Cut(string(content), "\n")
	postmaster, err := strconv.Atoi(strings.TrimSpace(line))
	require.NoError(t, err)
	u.memory[postgres], u.cpu[postgres] = held(postmaster), used(postmaster, true)
	for _, pid := range children(postmaster) {
		u.memory[postgres] += held(pid)
		u.cpu[postgres] += used(pid, false)
		u.backends++
	}
	return u
}

const postgres = "postgres"

// held is a process' share of memory: Pss, or 0 when it is gone.
func held(pid int) int64 {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	lines := bufio.NewScanner(bytes.NewReader(content))
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "Pss:"); ok {
			kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kib << 10
		}
	}
	return 0
}

// used is the CPU time of a process, with that of the children it has waited for.
func used(pid int, waited bool) time.Duration {
	fields, ok := stat(pid)
	if !ok {
		return 0
	}
	last := 13
	if waited {
		last = 15
	}
	sum := int64(0)
	for i := 11; i < last; i++ {
		n, _ := strconv.ParseInt(fields[i], 10, 64)
		sum += n
	}
	return time.Duration(sum) * tick
}

// stat is /proc/PID/stat from its third field on.
func stat(pid int) ([]string, bool) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, false
	}
	_, rest, ok := strings.Cut(string(content), ") ")
	return strings.Fields(rest), ok
}

func children(parent int) (pids []int) {
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range all {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		if fields, ok := stat(pid); ok && len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// onDisk is what is below a folder, in bytes.
func onDisk(dir string) (bytes int64) {
	_ = filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			bytes += info.Size()
		}
		return nil
	})
	return bytes
}
