package devstack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/caresphere/caresphere/internal/devstack/proc"
)

// serverConf is postgresql.conf. The log keeps no values and no statements of
// tenants: both may be PHI. What it keeps of others, recordConf says.
func (c *Cluster) serverConf() string {
	set := [][2]string{
		{"listen_addresses", "127.0.0.1"},
		{"port", strconv.Itoa(c.cfg.Port)},
		{"unix_socket_directories", c.socket},
		{"max_connections", "400"},
		{"shared_buffers", cmp.Or(c.cfg.SharedBuffers, "128MB")},
		{"ssl", "on"},
		{"ssl_cert_file", "server.crt"},
		{"ssl_key_file", "server.key"},
		{"ssl_ca_file", "tenant-ca.crt"},
		{"ssl_min_protocol_version", "TLSv1.2"},
		{"password_encryption", "scram-sha-256"},
		{"timezone", "UTC"},
		{"log_timezone", "UTC"},
		{"log_line_prefix", "%m [%p] %u@%d "},
		{"log_min_error_statement", "panic"},
		{"log_error_verbosity", "terse"},
		{"idle_in_transaction_session_timeout", "60s"},
	}
	set = append(set, c.recordConf()...)
	if c.cfg.Volatile {
		set = append(set, [][2]string{
			{"fsync", "off"}, {"full_page_writes", "off"}, {"max_wal_size", "2GB"},
		}...)
	}
	var b strings.Builder
	b.WriteString("# Written by caresphere at every start.\n")
	for _, kv := range set {
		fmt.Fprintf(&b, "%s = '%s'\n", kv[0], strings.ReplaceAll(kv[1], "'", "''"))
	}
	return b.String()
}

// hbaConf is pg_hba.conf: passwords for the platform's own roles by name,
// certificates for everybody else in the cell (the tenants), nothing without TLS
// but the superuser's socket.
func (c *Cluster) hbaConf() string {
	db := func(name string) string {
		if c.cfg.AnyDatabase {
			return "all"
		}
		return name
	}
	var b strings.Builder
	b.WriteString("# Written by caresphere at every start.\n")
	fmt.Fprintf(&b, "local all %s peer map=superuser\n", superuser)
	for _, d := range databases {
		fmt.Fprintf(&b, "hostssl %s %s 127.0.0.1/32 scram-sha-256\n", db(d.name), strings.Join(d.roles, ","))
	}
	fmt.Fprintf(&b, "hostssl %s all 127.0.0.1/32 cert map=tenant\n", db(CellDatabase))
	return b.String()
}

// identConf is pg_ident.conf: a tenant's certificate opens the role of its own
// common name and no other.
func (c *Cluster) identConf() string {
	var b strings.Builder
	b.WriteString("# Written by caresphere at every start.\n")
	fmt.Fprintf(&b, "superuser %q %s\n", proc.Current().Name, superuser)
	if c.account != nil {
		fmt.Fprintf(&b, "superuser %q %s\n", c.account.Name, superuser)
	}
	b.WriteString("tenant /^(t_[0-9a-f]{32})$ \\1\n")
	return b.String()
}

// endStale deals with a postmaster.pid from a run that did not end well. A
// server that still runs on this very folder is ours: it is asked to end. A file
// whose process is gone, or whose number now belongs to something else, goes.
func (c *Cluster) endStale(ctx context.Context) error {
	path := filepath.Join(c.data(), "postmaster.pid")
	content, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	first, _, _ := strings.Cut(string(content), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err == nil && c.servesHere(pid) {
		_ = syscall.Kill(pid, syscall.SIGINT)
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		for c.servesHere(pid) {
			select {
			case <-ctx.Done():
				return fmt.Errorf("a PostgreSQL from an earlier run (process %d) still uses %s and does not end", pid, c.data())
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing a stale %s: %w", path, err)
	}
	return nil
}

// servesHere tells whether the process is a server started on our folder.
func (c *Cluster) servesHere(pid int) bool {
	if syscall.Kill(pid, 0) == syscall.ESRCH {
		return false
	}
	cmdline, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	if err != nil {
		// No /proc (not Linux): PostgreSQL's own check of the file decides.
		_, noProc := os.Stat("/proc/self")
		return noProc != nil
	}
	return strings.Contains(string(cmdline), c.data()+"\x00")
}
