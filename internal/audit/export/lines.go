package export

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"

	"github.com/caresphere/caresphere/internal/audit/record"
	"github.com/caresphere/caresphere/tenants"
)

// line is one line of an export in either format.
type line struct {
	kind string
	// leaf is -1 where the line is about none.
	leaf    int64
	hash    string
	content []byte
	// cells are the readable columns of a CSV entry.
	cells []string
}

// lineWriter writes lines, each with a running hash over itself and the line
// before, so that a change is found at its own line.
type lineWriter struct {
	w      *bufio.Writer
	whole  hash.Hash
	format Format
	chain  [sha256.Size]byte
	count  int64
	buf    []byte
}

func newLineWriter(w io.Writer, f Format) (*lineWriter, error) {
	if f != JSONLines && f != CSV {
		return nil, tenants.Invalid("query.format", "must be jsonl or csv")
	}
	lw := &lineWriter{w: bufio.NewWriterSize(w, 64<<10), whole: sha256.New(), format: f,
		chain: sha256.Sum256([]byte(record.ExportFormat + "\n" + string(f) + "\n"))}
	if f == CSV {
		for i, title := range record.Columns() {
			if i > 0 {
				lw.buf = append(lw.buf, ',')
			}
			lw.buf = appendCell(lw.buf, title)
		}
		lw.buf = append(lw.buf, '\n')
		return lw, lw.flush()
	}
	return lw, nil
}

func (lw *lineWriter) write(l line) error {
	lw.encode(l)
	running := sha256.New()
	running.Write(lw.chain[:])
	running.Write(lw.buf)
	running.Sum(lw.chain[:0])
	chain := hex.EncodeToString(lw.chain[:])
	if lw.format == CSV {
		lw.buf = append(appendCell(append(lw.buf, ','), chain), '\n')
	} else {
		lw.buf = append(append(append(lw.buf, `,"chain":"`...), chain...), "\"}\n"...)
	}
	lw.count++
	return lw.flush()
}

// encode puts the line without its running hash and end into buf.
func (lw *lineWriter) encode(l line) {
	if lw.format == CSV {
		leaf := ""
		if l.leaf >= 0 {
			leaf = strconv.FormatInt(l.leaf, 10)
		}
		lw.buf = appendCell(lw.buf[:0], l.kind)
		lw.buf = appendCell(append(lw.buf, ','), leaf)
		lw.buf = appendCell(append(lw.buf, ','), l.hash)
		for i := range len(record.Columns()) - 5 {
			cell := ""
			if l.cells != nil {
				cell = l.cells[i]
			}
			lw.buf = appendCell(append(lw.buf, ','), cell)
		}
		lw.buf = appendCell(append(lw.buf, ','), string(l.content))
		return
	}
	lw.buf = append(append(append(lw.buf[:0], `{"kind":"`...), l.kind...), '"')
	if l.leaf >= 0 {
		lw.buf = strconv.AppendInt(append(lw.buf, `,"leaf":`...), l.leaf, 10)
	}
	if l.hash != "" {
		lw.buf = append(append(append(lw.buf, `,"hash":"`...), l.hash...), '"')
	}
	if l.content != nil {
		lw.buf = append(append(lw.buf, `,"content":`...), l.content...)
	}
}

// sum is the SHA-256 of every byte so far.
func (lw *lineWriter) sum() string { return hex.EncodeToString(lw.whole.Sum(nil)) }

// end writes the footer, which has a signature in place of the running hash.
func (lw *lineWriter) end(content []byte) error {
	lw.encode(line{kind: record.LineFooter, leaf: -1, content: content})
	if lw.format == CSV {
		lw.buf = append(appendCell(append(lw.buf, ','), ""), '\n')
	} else {
		lw.buf = append(lw.buf, "}\n"...)
	}
	if err := lw.flush(); err != nil {
		return err
	}
	if err := lw.w.Flush(); err != nil {
		return fmt.Errorf("writing the export: %w", err)
	}
	return nil
}

func (lw *lineWriter) flush() error {
	lw.whole.Write(lw.buf)
	_, err := lw.w.Write(lw.buf)
	lw.buf = lw.buf[:0]
	if err != nil {
		return fmt.Errorf("writing the export: %w", err)
	}
	return nil
}

// appendCell writes a CSV cell (RFC 4180), always in quotes.
func appendCell(b []byte, s string) []byte {
	b = append(b, '"')
	b = append(b, strings.ReplaceAll(s, `"`, `""`)...)
	return append(b, '"')
}
