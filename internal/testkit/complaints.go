package testkit

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caresphere/caresphere/internal/devstack"
)

// complaintsShown bounds the lines of one log that a failed test shows.
const complaintsShown = 20

// complaints has a test that fails show what the stack's programs complained of from
// here on: where a failure is seen once, on a machine that is gone by then, its cause is
// in their logs only.
func complaints(t testing.TB, layout devstack.Layout) {
	t.Helper()
	begun := map[string]int64{}
	for _, log := range logs(layout) {
		if info, err := os.Stat(log); err == nil {
			begun[log] = info.Size()
		}
	}
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		for _, log := range logs(layout) {
			content, err := readFrom(log, begun[log])
			if err != nil {
				t.Logf("%s: %v", log, err)
				continue
			}
			if lines := complained(content); len(lines) > 0 {
				t.Logf("%s complained %d times meanwhile, at last:\n%s", filepath.Base(log), len(lines),
					strings.Join(lines[max(0, len(lines)-complaintsShown):], "\n"))
			}
		}
	})
}

func logs(layout devstack.Layout) []string {
	found, _ := filepath.Glob(layout.Log("*")) // the pattern is ours
	return found
}

func readFrom(path string, offset int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, err
	}
	return io.ReadAll(f)
}

// complained keeps the lines of a log that say warning or worse, of ours and of Kratos,
// and those with which a program ended.
func complained(content []byte) (lines []string) {
	for line := range bytes.Lines(content) {
		var entry struct {
			Level string `json:"level"`
		}
		switch line = bytes.TrimSpace(line); {
		case json.Unmarshal(line, &entry) == nil:
			switch strings.ToLower(entry.Level) {
			case "warn", "warning", "error", "fatal", "panic":
				lines = append(lines, string(line))
			}
		case bytes.HasPrefix(line, []byte("panic:")), bytes.HasPrefix(line, []byte("fatal error:")), bytes.Contains(line, []byte(" ended by itself (")):
			lines = append(lines, string(line))
		}
	}
	return lines
}
