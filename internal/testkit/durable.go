package testkit

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caresphere/caresphere/internal/devstack"
)

// Durable is a cluster of one test's own that keeps what it acknowledged, as a
// real one does: the run's shared cluster trades that for speed.
type Durable struct {
	*PG
	cfg     devstack.PostgresConfig
	cluster *devstack.Cluster
}

// DurablePostgres starts a cluster with every guard against loss in place: for
// measuring what durability costs, and for crashing. It ends with the test.
func DurablePostgres(t testing.TB) *Durable {
	t.Helper()
	h := ownHost(t)
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	cfg, err := h.clusterConfig(ctx, "durable-"+strings.ToLower(rand.Text()[:8]))
	if err != nil {
		t.Fatalf("planning a PostgreSQL of its own: %v", err)
	}
	d := &Durable{cfg: cfg}
	d.Restart(t)
	if err := removeAtEnd(d.cluster.Home()); err != nil {
		t.Fatal(err)
	}
	d.PG = &PG{info: h.infoOf(d.cluster)}
	t.Cleanup(func() { _ = d.cluster.Process().Stop(context.Background()) })
	return d
}

// CellDB returns a fresh, migrated cell database in this cluster.
func (d *Durable) CellDB(t testing.TB) *DB { t.Helper(); return d.clone(t, "cell") }

// Crash kills every process of the server: what it had not handed to the operating
// system by then is lost. The first process is halted before the others are
// killed, for it would otherwise have them end in order.
func (d *Durable) Crash(t testing.TB) {
	t.Helper()
	first := d.PID()
	if err := syscall.Kill(first, syscall.SIGSTOP); err != nil {
		t.Fatalf("halting PostgreSQL: %v", err)
	}
	for _, pid := range children(first) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	d.cluster.Process().Kill()
}

// children are the processes that the process started, by /proc.
func children(parent int) (pids []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		raw, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		// pid (name) state ppid ...; a name may hold spaces and brackets.
		rest := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
		if len(rest) > 1 && rest[1] == strconv.Itoa(parent) {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// PID is the server's first process.
func (d *Durable) PID() int { return d.cluster.Process().PID() }

// Restart starts the server after a crash, which recovers it.
func (d *Durable) Restart(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c, err := devstack.StartPostgres(ctx, d.cfg)
	if err != nil {
		t.Fatalf("starting a PostgreSQL of its own: %v", err)
	}
	d.cluster = c
}
