package devstack

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/migrations"
)

// recordKept is how long the server's log files are kept.
const recordKept = 90 * 24 * time.Hour

// recordDir is where the server writes its log as JSON lines: what `caresphere
// audit reconcile` compares with the audit trail.
func (c *Cluster) recordDir() string { return filepath.Join(c.home, "log") }

// PostgresRecord returns the folder of the server's own log for a stack: files of
// JSON lines that only the server's account and root can read.
func (l Layout) PostgresRecord() (string, error) {
	home, _, err := PostgresHome(l.Path("postgres"))
	return filepath.Join(home, "log"), err
}

// recordConf makes the server keep its record: connections, the DDL of everybody,
// each statement of those whom migrations/cell/recording.sql names, and the marks
// of the tenants' roles. Parameters are never written.
func (c *Cluster) recordConf() [][2]string {
	return [][2]string{
		{"logging_collector", "on"},
		{"log_destination", "jsonlog"},
		{"log_directory", c.recordDir()},
		{"log_filename", "postgresql-%Y-%m-%d_%H%M%S.log"}, // jsonlog's end in .json
		{"log_file_mode", "0600"},
		{"log_rotation_age", "1d"},
		{"log_rotation_size", "64MB"},
		{"log_connections", "on"},
		{"log_disconnections", "on"},
		{"log_statement", "ddl"},
		{"log_parameter_max_length", "0"},
		{"log_parameter_max_length_on_error", "0"},
	}
}

// makeRecordDir makes the folder and removes files that are past their time.
func (c *Cluster) makeRecordDir() error {
	if err := c.ownDir(c.recordDir()); err != nil {
		return err
	}
	files, err := os.ReadDir(c.recordDir())
	if err != nil {
		return fmt.Errorf("listing the server's log: %w", err)
	}
	for _, f := range files {
		if info, err := f.Info(); err == nil && time.Since(info.ModTime()) > recordKept {
			if err := os.Remove(filepath.Join(c.recordDir(), f.Name())); err != nil {
				return fmt.Errorf("removing an old log: %w", err)
			}
		}
	}
	return nil
}

// lastWords are the last lines of the record in which the server speaks of itself and
// not for a client: why it ended, when it does not start.
func (c *Cluster) lastWords() string {
	files, err := filepath.Glob(filepath.Join(c.recordDir(), "*.json"))
	if err != nil || len(files) == 0 {
		return ""
	}
	// The time is in the name.
	content, err := os.ReadFile(slices.Max(files))
	if err != nil {
		return ""
	}
	var words []string
	for line := range bytes.Lines(content) {
		var one struct {
			User     string `json:"user"`
			Severity string `json:"error_severity"`
			Message  string `json:"message"`
			Detail   string `json:"detail"`
		}
		if json.Unmarshal(line, &one) == nil && one.User == "" && !strings.HasPrefix(one.Message, "connection received") {
			words = append(words, strings.TrimSpace(one.Severity+": "+one.Message+" "+one.Detail))
		}
	}
	return strings.Join(words[max(0, len(words)-8):], "\n")
}

// startRecord has the statements of the powerful roles recorded.
func (c *Cluster) startRecord(ctx context.Context, conn *pgx.Conn) error {
	sql, err := migrations.Cell.ReadFile("cell/recording.sql")
	if err != nil {
		return fmt.Errorf("reading what is recorded: %w", err)
	}
	if _, err := conn.Exec(ctx, string(sql)); err != nil {
		return fmt.Errorf("having statements recorded: %w", err)
	}
	return nil
}

// connectUnrecorded connects as the superuser without a record of statements: for
// the one that sets passwords, which would stand in it.
func (c *Cluster) connectUnrecorded(ctx context.Context) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(c.Superuser("postgres"))
	if err != nil {
		return nil, fmt.Errorf("reading the superuser's DSN: %w", err)
	}
	cfg.RuntimeParams["log_statement"] = "none"
	return pgx.ConnectConfig(ctx, cfg)
}
