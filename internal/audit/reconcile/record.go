package reconcile

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// line is one line of the server's log, as jsonlog writes it.
type line struct {
	Timestamp   string `json:"timestamp"`
	User        string `json:"user"`
	Database    string `json:"dbname"`
	PID         int    `json:"pid"`
	Host        string `json:"remote_host"`
	Session     string `json:"session_id"`
	Number      int64  `json:"line_num"`
	VirtualXID  string `json:"vxid"`
	Message     string `json:"message"`
	Application string `json:"application_name"`
	Backend     string `json:"backend_type"`

	at time.Time
}

// from is where the session came from.
func (l *line) from() string {
	if l.Host == "" || l.Host == "[local]" {
		return "the server's own socket"
	}
	return l.Host
}

// timeFormat is how jsonlog writes a time with log_timezone = UTC.
const timeFormat = "2006-01-02 15:04:05.000 MST"

// maxLine bounds one line of the log in bytes; a longer one is counted as unreadable.
const maxLine = 16 << 20

// ErrNoRecord says that there is no log to compare with.
var ErrNoRecord = errors.New("the server has written no log as JSON lines there")

// recordFiles lists the log's files in the order in which they were written, but
// those that ended before from.
func recordFiles(dir string, from time.Time) ([]string, error) {
	all, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, fmt.Errorf("listing the server's log: %w", err)
	}
	if len(all) == 0 {
		if _, err := os.ReadDir(dir); err != nil {
			return nil, fmt.Errorf("opening the server's log: %w", err)
		}
		return nil, fmt.Errorf("%s: %w", dir, ErrNoRecord)
	}
	// The names end in the time of their making.
	slices.Sort(all)
	var files []string
	for _, name := range all {
		info, err := os.Stat(name)
		if err != nil {
			return nil, fmt.Errorf("looking at the server's log: %w", err)
		}
		// A file's time is coarser than its lines'.
		if !info.ModTime().Before(from.Add(-time.Minute)) {
			files = append(files, name)
		}
	}
	return files, nil
}

// readRecord calls each for every line of the file; unreadable for those that are none.
func readRecord(name string, each func(*line), unreadable func(number int64)) error {
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("opening the server's log: %w", err)
	}
	defer func() { _ = f.Close() }()
	in := bufio.NewReaderSize(f, 1<<20)
	for number := int64(1); ; number++ {
		raw, err := readLine(in)
		if errors.Is(err, io.EOF) {
			// What has no newline yet is being written.
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the server's log: %w", err)
		}
		var l line
		if raw == nil || json.Unmarshal(raw, &l) != nil || l.parseTime() != nil {
			unreadable(number)
			continue
		}
		each(&l)
	}
}

// readLine returns a whole line, or nil for one that is too long; io.EOF when none
// that has ended follows.
func readLine(in *bufio.Reader) ([]byte, error) {
	var whole []byte
	long := false
	for {
		part, err := in.ReadSlice('\n')
		if !long && len(whole)+len(part) > maxLine {
			whole, long = nil, true
		}
		if !long {
			whole = append(whole, part...)
		}
		switch {
		case err == nil && long:
			return nil, nil
		case err == nil:
			return whole, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

func (l *line) parseTime() (err error) {
	if l.at, err = time.Parse(timeFormat, l.Timestamp); err != nil {
		return fmt.Errorf("a time that is not of the server's form: %w", err)
	}
	if !strings.HasSuffix(l.Timestamp, " UTC") && !strings.HasSuffix(l.Timestamp, " GMT") {
		return errors.New("a time in another zone than UTC")
	}
	return nil
}
