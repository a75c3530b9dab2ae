package verify

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/caresphere/caresphere/internal/audit/record"
)

// Forked says that the log is not the one of an earlier checkpoint, continued: entries from
// before it were changed, and the whole was signed again.
const Forked Kind = "forked"

// Earlier is a checkpoint that was kept from before: by an auditor, a witness, or
// in an older export.
type Earlier struct {
	origin string
	size   int64
	root   digest
}

// Size is how many entries the log had.
func (e Earlier) Size() int64 { return e.size }

// ReadEarlier reads a checkpoint (a signed note), or an export in either format,
// whose header holds one. It must be signed by one of the keys.
func ReadEarlier(r io.Reader, keys Keys) (Earlier, error) {
	in := bufio.NewReaderSize(r, maxLine)
	first, err := in.Peek(1)
	if err != nil {
		return Earlier{}, fmt.Errorf("reading the earlier checkpoint: %w", err)
	}
	var signed string
	if first[0] == '{' || first[0] == '"' {
		if signed, err = headerCheckpoint(in); err != nil {
			return Earlier{}, err
		}
	} else {
		whole, err := io.ReadAll(io.LimitReader(in, maxLine))
		if err != nil {
			return Earlier{}, fmt.Errorf("reading the earlier checkpoint: %w", err)
		}
		signed = string(whole)
	}
	text, wrong, message := openNote(signed, keys.audit)
	if wrong != "" {
		return Earlier{}, fmt.Errorf("the earlier checkpoint %s", message)
	}
	c, ok := parseCheckpoint(text)
	if !ok {
		return Earlier{}, errors.New("the earlier checkpoint cannot be read")
	}
	return Earlier(c), nil
}

// headerCheckpoint finds the checkpoint in an export's header.
func headerCheckpoint(in *bufio.Reader) (string, error) {
	for range 2 { // a CSV export begins with its titles
		raw, err := in.ReadString('\n')
		if err != nil {
			return "", fmt.Errorf("reading the earlier export: %w", err)
		}
		text := []byte(strings.TrimSuffix(raw, "\n"))
		l, err := parseJSON(text)
		if err != nil {
			l, err = parseCSV(text)
		}
		var h record.Header
		if err == nil && l.kind == record.LineHeader && strictJSON(l.content, &h) && h.Checkpoint != "" {
			return h.Checkpoint, nil
		}
	}
	return "", errors.New("the earlier export has no header with a checkpoint")
}

// Extends demands that the file's log continues the one of an earlier checkpoint:
// this finds a log that was rewritten, or cut back, and signed again with the
// right key. It needs an export of everything, or one that shows the block in
// which the earlier checkpoint ends.
func Extends(e Earlier) Option {
	return func(v *verifier) { v.earlier = &growth{Earlier: e} }
}

// growth recomputes the tree from its beginning, up to the earlier size.
type growth struct {
	Earlier
	// peaks are the complete subtrees so far, the largest first.
	peaks []peak
	have  int64
	// broken: hashes are missing; compared: it was decided.
	broken, compared bool
}

type peak struct {
	size int64
	root digest
}

// add appends a complete subtree.
func (g *growth) add(p peak) {
	g.have += p.size
	g.peaks = append(g.peaks, p)
	for n := len(g.peaks); n > 1 && g.peaks[n-1].size == g.peaks[n-2].size; n-- {
		g.peaks[n-2] = peak{2 * g.peaks[n-1].size, nodeHash(g.peaks[n-2].root, g.peaks[n-1].root)}
		g.peaks = g.peaks[:n-1]
	}
}

// rootNow is the root of what was added.
func (g *growth) rootNow() digest {
	root := g.peaks[len(g.peaks)-1].root
	for i := len(g.peaks) - 2; i >= 0; i-- {
		root = nodeHash(g.peaks[i].root, root)
	}
	return root
}

// begins compares what the header alone shows.
func (v *verifier) begins(number int64, h record.Header) {
	g := v.earlier
	if g == nil {
		return
	}
	g.broken = h.FromLeaf != 0
	switch {
	case g.origin != h.Log:
		g.compared = true
		v.problem(WrongLog, number, -1, "", "the earlier checkpoint is of the log %q, the file of %q", g.origin, h.Log)
	case g.size > h.TreeSize:
		g.compared = true
		v.problem(Truncated, number, -1, "", "the log was cut: it had %d entries when the earlier checkpoint was signed, and has %d here", g.size, h.TreeSize)
	case g.size == h.TreeSize && v.rooted:
		g.compared = true
		if g.root != v.root {
			v.problem(Forked, number, -1, "", "the log was forked: another tree of %d entries was signed earlier", g.size)
		}
	}
}

// grows adds the leaves of a block to the tree that is compared with the earlier one.
func (v *verifier) grows(number int64, leaves []digest) {
	for _, leaf := range leaves {
		if v.earlier == nil || v.earlier.compared || v.earlier.broken {
			return
		}
		v.earlier.add(peak{1, leaf})
		v.reached(number)
	}
}

// growsBlock is grows for a block of which only the hash is shown.
func (v *verifier) growsBlock(number, count int64, root digest) {
	g := v.earlier
	if g == nil || g.compared || g.broken {
		return
	}
	if count != record.BlockSize || g.have+count > g.size {
		g.broken = true
		return
	}
	g.add(peak{count, root})
	v.reached(number)
}

// reached compares once the earlier size is reached.
func (v *verifier) reached(number int64) {
	g := v.earlier
	if g.have != g.size {
		return
	}
	g.compared = true
	// In a file that is damaged as it stands, the damage is what there is to say.
	if g.rootNow() != g.root && v.report.Found == 0 {
		v.problem(Forked, number, -1, "", "the log was forked: its first %d entries are not those that were signed earlier", g.size)
	}
}

// compares says so when the earlier checkpoint could not be compared.
func (v *verifier) compares() {
	if g := v.earlier; g != nil && !g.compared && g.size > 0 {
		v.problem(OutOfScope, 0, -1, "", "the file does not show enough to compare it with the earlier checkpoint of %d entries: export everything", g.size)
	}
}
