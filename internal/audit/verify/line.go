package verify

import (
	"bytes"
	"errors"
	"strconv"

	"github.com/caresphere/caresphere/internal/audit/record"
)

// line is one parsed line.
type line struct {
	number int64
	kind   string
	// leaf is -1 where the line has none.
	leaf    int64
	hash    string
	content []byte
	// cells are a CSV line's readable columns.
	cells []string
	// covered is what the running hash covers; chain is its stated value, "" in a footer.
	covered []byte
	chain   string
}

var (
	errLine  = errors.New("it does not have the form of a line")
	errEnd   = errors.New("it does not end in a newline")
	errField = errors.New("it has not the fields of its kind")
)

// checkFields holds the line against the fields that its kind has.
func (l *line) checkFields() error {
	leaf, hash, content, chain := l.leaf >= 0, l.hash != "", l.content != nil, l.chain != ""
	ok := false
	switch l.kind {
	case record.LineHeader:
		ok = !leaf && !hash && content && chain
	case record.LineEntry:
		ok = leaf && hash && content && chain
	case record.LineWithheld, record.LineMissing:
		ok = leaf && hash && !content && chain
	case record.LineBlock:
		ok = leaf && !hash && content && chain
	case record.LineFooter:
		ok = !leaf && !hash && content && !chain
	}
	if !ok {
		return errField
	}
	return nil
}

// parseJSON reads {"kind":…[,"leaf":…][,"hash":…][,"content":…][,"chain":…]} with
// the newline already taken off.
func parseJSON(b []byte) (line, error) {
	l := line{leaf: -1}
	rest, ok := bytes.CutPrefix(b, []byte(`{"kind":"`))
	if !ok {
		return l, errLine
	}
	kind, rest, ok := bytes.Cut(rest, []byte(`"`))
	if !ok {
		return l, errLine
	}
	l.kind = string(kind)
	const chainPrefix, chainSize = `,"chain":"`, 64
	tail := len(chainPrefix) + chainSize + len(`"}`)
	switch {
	case l.kind == record.LineFooter:
		if rest, ok = bytes.CutSuffix(rest, []byte("}")); !ok {
			return l, errLine
		}
	case len(rest) < tail || !bytes.HasPrefix(rest[len(rest)-tail:], []byte(chainPrefix)) || !bytes.HasSuffix(rest, []byte(`"}`)):
		return l, errLine
	default:
		l.covered = b[:len(b)-tail]
		l.chain = string(rest[len(rest)-chainSize-2 : len(rest)-2])
		rest = rest[:len(rest)-tail]
	}
	if after, found := bytes.CutPrefix(rest, []byte(`,"leaf":`)); found {
		n := 0
		for n < len(after) && after[n] >= '0' && after[n] <= '9' {
			n++
		}
		if l.leaf, ok = parseLeaf(string(after[:n])); !ok {
			return l, errLine
		}
		rest = after[n:]
	}
	if after, found := bytes.CutPrefix(rest, []byte(`,"hash":"`)); found {
		hash, after, ok := bytes.Cut(after, []byte(`"`))
		if !ok || len(hash) == 0 {
			return l, errLine
		}
		l.hash, rest = string(hash), after
	}
	if after, found := bytes.CutPrefix(rest, []byte(`,"content":`)); found {
		l.content, rest = after, nil
	}
	if len(rest) > 0 {
		return l, errLine
	}
	return l, l.checkFields()
}

// parseCSV reads a row whose cells are all quoted, with the newline already taken off.
func parseCSV(b []byte) (line, error) {
	l := line{leaf: -1}
	// The cells stand one after the other in one buffer, without their quotes.
	text := make([]byte, 0, len(b))
	ends := make([]int, 0, len(titles))
	for rest := b; ; {
		if len(rest) == 0 || rest[0] != '"' {
			return l, errLine
		}
		start := len(b) - len(rest)
		rest = rest[1:]
		for {
			i := bytes.IndexByte(rest, '"')
			if i < 0 {
				return l, errLine
			}
			text = append(text, rest[:i]...)
			rest = rest[i+1:]
			if len(rest) == 0 || rest[0] != '"' {
				break
			}
			text = append(text, '"')
			rest = rest[1:]
		}
		ends = append(ends, len(text))
		if len(ends) == len(titles) {
			if len(rest) > 0 {
				return l, errLine
			}
			// The running hash covers the row up to the comma before its own cell.
			l.covered = b[:start-1]
			break
		}
		if len(rest) == 0 || rest[0] != ',' {
			return l, errLine
		}
		rest = rest[1:]
	}
	cells, all, from := make([]string, len(titles)), string(text), 0
	for i, to := range ends {
		cells[i], from = all[from:to], to
	}
	l.kind, l.hash, l.chain = cells[0], cells[2], cells[len(cells)-1]
	if cells[1] != "" {
		var ok bool
		if l.leaf, ok = parseLeaf(cells[1]); !ok {
			return l, errLine
		}
	}
	if content := text[ends[len(ends)-3]:ends[len(ends)-2]]; len(content) > 0 {
		l.content = content
	}
	l.cells = cells[3 : len(cells)-2]
	if l.kind != record.LineEntry {
		for _, c := range l.cells {
			if c != "" {
				return l, errField
			}
		}
	}
	return l, l.checkFields()
}

var titles = record.Columns()

// titleRow is the first line of a CSV export.
func titleRow() []byte {
	var b []byte
	for i, t := range titles {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), t...), '"')
	}
	return b
}

func parseLeaf(s string) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && n >= 0 && n <= maxLeaf && strconv.FormatInt(n, 10) == s
}

// maxLeaf keeps arithmetic on leaf indexes far from overflow.
const maxLeaf = 1 << 50
