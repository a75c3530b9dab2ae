package verify

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"github.com/caresphere/caresphere/internal/audit/record"
)

// maxLine bounds a line in bytes: an entry of the largest size, its quotes doubled
// for CSV, with its readable columns.
const maxLine = 3*record.MaxSize + 16<<10

// Option adds a demand.
type Option func(*verifier)

// ForLog demands that the file is of this log: a tenant's id, "control", or an origin.
func ForLog(name string) Option { return func(v *verifier) { v.wantLog = name } }

// File checks an export, in either format, to its end. The error is the reader's;
// everything that is wrong with the file is in the report.
func File(r io.Reader, keys Keys, options ...Option) (Report, error) {
	v := &Begin(keys).v
	for _, o := range options {
		o(v)
	}
	in := bufio.NewReaderSize(r, maxLine)
	for {
		raw, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			v.tooLong()
			if err = skipLine(in); err == nil {
				continue
			}
		}
		if len(raw) > 0 && !errors.Is(err, bufio.ErrBufferFull) {
			v.raw(raw)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return v.report, fmt.Errorf("reading the export: %w", err)
		}
	}
	v.end()
	v.report.OK = v.report.Found == 0
	return v.report, nil
}

func skipLine(in *bufio.Reader) error {
	for {
		if _, err := in.ReadSlice('\n'); !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}

// verifier is the state between two lines.
type verifier struct {
	keys    Keys
	wantLog string
	report  Report
	number  int64
	csv     bool
	// whole hashes all bytes before the current line.
	whole      hash.Hash
	chain      chain
	header     *record.Header
	headerLine int64
	root       digest
	rooted     bool
	blocks     blocks
	footer     bool
	earlier    *growth
	// counted are lines with a running hash, as the footer counts them.
	counted int64
}

// raw takes one line with its newline.
func (v *verifier) raw(b []byte) {
	v.number++
	if v.number == 1 {
		v.begin(b)
		if v.csv {
			v.whole.Write(b)
			return
		}
	}
	if v.footer {
		v.problem(Inserted, v.number, -1, "", "the line stands after the footer")
		return
	}
	text, ended := bytes.CutSuffix(b, []byte("\n"))
	parse := parseJSON
	if v.csv {
		parse = parseCSV
	}
	l, err := parse(text)
	l.number = v.number
	if err == nil && !ended {
		err = errEnd
	}
	if err != nil {
		v.problem(Malformed, v.number, l.leaf, "", "the line was changed: %v", err)
		v.lost()
	}
	if err == nil || errors.Is(err, errEnd) {
		v.line(l)
	}
	v.whole.Write(b)
}

// begin tells the formats apart by the first line.
func (v *verifier) begin(b []byte) {
	v.csv = bytes.HasPrefix(b, []byte(`"`)) || !bytes.HasPrefix(b, []byte(`{`)) && bytes.Contains(b, []byte(`"leaf","hash"`))
	v.report.Format = "jsonl"
	if v.csv {
		v.report.Format = "csv"
		if !bytes.Equal(b, append(titleRow(), '\n')) {
			v.problem(Changed, 1, -1, "", "the row of titles was changed")
		}
	}
	v.chain.begin(v.report.Format)
}

// tooLong takes a line that is longer than any can be.
func (v *verifier) tooLong() {
	v.number++
	v.problem(Malformed, v.number, -1, "", "the line is longer than any entry")
	v.lost()
}

// lost is called for a line that cannot be read: what follows it cannot be held
// against it.
func (v *verifier) lost() {
	v.chain.unknown = true
	v.counted++
}

// line judges one parsed line.
func (v *verifier) line(l line) {
	if l.kind == record.LineFooter {
		v.foot(l)
		return
	}
	v.counted++
	if !v.chain.follows(l) {
		v.problem(Changed, l.number, l.leaf, idOf(l), "this line or the end of the one before it was changed, or lines were removed, inserted or moved here")
	}
	if l.kind == record.LineHeader {
		v.head(l)
		return
	}
	if v.header == nil && !v.blocks.orphaned {
		v.blocks.orphaned = true
		v.problem(Removed, l.number, -1, "", "there is no header before this line")
	}
	if l.kind == record.LineBlock {
		v.block(l)
		return
	}
	v.leaf(l)
}

// head reads the header and verifies the checkpoint in it.
func (v *verifier) head(l line) {
	if v.header != nil || v.blocks.orphaned {
		v.problem(Inserted, l.number, -1, "", "a header stands in the middle of the file")
		return
	}
	var h record.Header
	if !strictJSON(l.content, &h) || h.Format != record.ExportFormat {
		v.problem(Changed, l.number, -1, "", "the header was changed, or is of a format that this program does not know")
		return
	}
	v.header, v.headerLine = &h, l.number
	r := &v.report
	r.Log, r.Epoch, r.TreeSize, r.FromLeaf, r.ToLeaf, r.MadeAt = h.Log, h.Epoch, h.TreeSize, h.FromLeaf, h.ToLeaf, h.MadeAt
	r.Filtered = h.Scope != record.Scope{}
	if w := v.wantLog; w != "" && h.Log != w && strings.TrimPrefix(h.Log, "caresphere.dev/audit/") != w &&
		!strings.HasPrefix(h.Log, "caresphere.dev/audit/"+w+"/epoch/") {
		v.problem(WrongLog, l.number, -1, "", "the file is of the log %q", h.Log)
	}
	const b = record.BlockSize
	if h.TreeSize < 0 || h.TreeSize > maxLeaf || h.FromLeaf < 0 || h.FromLeaf%b != 0 || h.ToLeaf < h.FromLeaf || h.ToLeaf > h.TreeSize ||
		h.ToLeaf%b != 0 && h.ToLeaf != h.TreeSize {
		v.problem(Changed, l.number, -1, "", "the header states a range that cannot be")
		v.header = nil
		v.blocks.orphaned = true
		return
	}
	if !r.Filtered && (h.FromLeaf != 0 || h.ToLeaf != h.TreeSize) {
		v.problem(OutOfScope, l.number, -1, "", "the export of everything does not span the whole log")
	}
	v.blocks.next = h.FromLeaf
	v.checkpoint(l.number, h)
	v.begins(l.number, h)
}

// checkpoint verifies the signed tree head.
func (v *verifier) checkpoint(number int64, h record.Header) {
	if h.TreeSize == 0 && h.Checkpoint == "" {
		return
	}
	text, wrong, message := openNote(h.Checkpoint, v.keys.audit)
	if wrong != "" {
		v.problem(wrong, number, -1, "", "the checkpoint %s", message)
		return
	}
	c, ok := parseCheckpoint(text)
	if !ok {
		v.problem(Malformed, number, -1, "", "the checkpoint cannot be read")
		return
	}
	if c.origin != h.Log {
		v.problem(WrongLog, number, -1, "", "the checkpoint is of the log %q, the file of %q", c.origin, h.Log)
		return
	}
	if c.size != h.TreeSize {
		v.problem(Changed, number, -1, "", "the checkpoint is of %d entries, the header says %d", c.size, h.TreeSize)
		return
	}
	v.root, v.rooted = c.root, true
}

// foot verifies the footer: the counts, the digest of all bytes before it, and
// the export key's signature over both.
func (v *verifier) foot(l line) {
	v.footer = true
	var f record.Footer
	if !strictJSON(l.content, &f) {
		v.problem(Changed, l.number, -1, "", "the footer was changed")
		return
	}
	text, wrong, message := openNote(f.Note, v.keys.export)
	if wrong != "" {
		v.problem(wrong, l.number, -1, "", "the footer's note %s", message)
	} else if text != record.FooterText(v.report.Log, v.report.TreeSize, f.Entries, f.Lines, f.SHA256) {
		kind := Changed
		if parts := strings.Split(text, "\n"); len(parts) > 1 && parts[1] != v.report.Log {
			kind = WrongLog
		}
		v.problem(kind, l.number, -1, "", "the footer's signature is over another log, tree, count or digest")
	}
	if f.Entries != v.report.Entries {
		v.problem(Changed, l.number, -1, "", "the footer counts %d entries, the file has %d", f.Entries, v.report.Entries)
	}
	if f.Lines != v.counted {
		v.problem(Changed, l.number, -1, "", "the footer counts %d lines, the file has %d", f.Lines, v.counted)
	}
	if sum := hex.EncodeToString(v.whole.Sum(nil)); f.SHA256 != sum {
		v.problem(Changed, l.number, -1, "", "bytes before the footer were changed: their digest is %s, signed is %s", sum, f.SHA256)
	}
}

// end is called at the end of the file.
func (v *verifier) end() {
	v.report.Lines = v.number
	if v.header == nil && !v.blocks.orphaned {
		v.problem(Removed, 0, -1, "", "there is no header")
	}
	v.closeBlocks()
	v.compares()
	if !v.footer {
		v.problem(Truncated, v.number, -1, "", "the file ends after this line without its footer")
	}
}

// strictJSON reads a JSON object in exactly the spelling that its type has.
func strictJSON(b []byte, to any) bool {
	if json.Unmarshal(b, to) != nil {
		return false
	}
	again, err := json.Marshal(to)
	return err == nil && bytes.Equal(again, b)
}
