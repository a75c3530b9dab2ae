package verify

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"github.com/caresphere/caresphere/internal/audit/record"
)

// slot is one leaf of the block that is being read.
type slot struct {
	line int64
	id   string
	hash digest
	ok   bool
}

// blocks is the place in the sequence of blocks.
type blocks struct {
	// next is the first leaf of the block that is being read.
	next  int64
	slots [record.BlockSize]slot
	// highest is the highest slot that has a leaf, plus one.
	highest int64
	// firstLine and lastLine are the lines of the block's leaves.
	firstLine, lastLine int64
	// stray is a leaf of a later block, kept until the next line shows whether it
	// alone was moved or the lines before it are gone.
	stray     slot
	strayLeaf int64
	// strayBlock is the same for a block's line: its first leaf, or 0 for none.
	strayBlock int64
	// orphaned: there is no header to hold lines against.
	orphaned bool
}

// advance forgets the block and goes on to the next.
func (b *blocks) advance() {
	b.slots = [record.BlockSize]slot{}
	b.highest, b.firstLine, b.lastLine = 0, 0, 0
	b.stray, b.strayBlock = slot{}, 0
	b.next += record.BlockSize
}

// leaf judges an entry, a withheld or a missing one, and puts its hash in its place.
func (v *verifier) leaf(l line) {
	stated, wellFormed := parseDigest(l.hash)
	if !wellFormed {
		v.problem(Changed, l.number, l.leaf, "", "the leaf's hash was changed")
	}
	s := slot{line: l.number, hash: stated, ok: true}
	switch l.kind {
	case record.LineEntry:
		v.report.Entries++
		computed := leafHash(l.content)
		if !wellFormed {
			s.hash = computed
		}
		s.id = v.entry(l, wellFormed && computed == stated)
	case record.LineMissing:
		v.problem(Removed, l.number, l.leaf, "", "the entry was taken out of the database, or made unreadable there")
	default:
		v.report.Withheld++
		if v.header != nil && !v.report.Filtered {
			v.problem(OutOfScope, l.number, l.leaf, "", "an entry is withheld from an export of everything")
		}
	}
	if v.header == nil {
		return
	}
	v.place(l, s)
}

// entry judges the content of an entry line and returns the entry's id.
func (v *verifier) entry(l line, sealed bool) string {
	e, err := record.Decode(l.content)
	if err != nil {
		v.problem(Changed, l.number, l.leaf, idOf(l), "the entry was changed: %v", err)
		return idOf(l)
	}
	id := e.ID.String()
	if !sealed {
		v.problem(Changed, l.number, l.leaf, id, "the entry is not the one that was sealed")
	}
	if l.cells != nil && !slices.Equal(l.cells, record.Cells(&e)) {
		v.problem(Changed, l.number, l.leaf, id, "a readable column does not say what the sealed entry says")
	}
	if v.header != nil && !inScope(v.header.Scope, &e) {
		v.problem(OutOfScope, l.number, l.leaf, id, "the stated filter does not choose this entry")
	}
	if at := e.At; v.report.First == nil || at.Before(*v.report.First) {
		v.report.First = &at
	}
	if at := e.At; v.report.Last == nil || at.After(*v.report.Last) {
		v.report.Last = &at
	}
	return id
}

// place puts a leaf where it belongs, or says that it does not belong there.
func (v *verifier) place(l line, s slot) {
	b := &v.blocks
	if l.leaf < b.next {
		v.problem(Duplicated, l.number, l.leaf, s.id, "the leaf stands after its block: it is there twice or was moved")
		return
	}
	if l.leaf >= v.header.ToLeaf {
		v.problem(Inserted, l.number, l.leaf, s.id, "the leaf is outside the stated range")
		return
	}
	if l.leaf >= b.next+record.BlockSize && !v.jump(l, s) {
		return
	}
	i := l.leaf - b.next
	switch {
	case b.slots[i].ok:
		v.problem(Duplicated, l.number, l.leaf, s.id, "the leaf stands on line %d already", b.slots[i].line)
		return
	case i < b.highest:
		v.problem(Reordered, l.number, l.leaf, s.id, "the leaf is out of order")
	}
	b.put(i, s)
}

// put fills a slot.
func (b *blocks) put(i int64, s slot) {
	b.slots[i] = s
	b.highest = max(b.highest, i+1)
	if b.firstLine == 0 {
		b.firstLine = s.line
	}
	b.lastLine = s.line
}

// jump decides what a leaf of a later block means: the proof of a full block is
// gone; or, once a second leaf follows on the first, so are all lines between; or
// this line alone stands where it does not belong. It tells whether to place it.
func (v *verifier) jump(l line, s slot) bool {
	b := &v.blocks
	const size = record.BlockSize
	full := v.full() && l.leaf < b.next+2*size
	follows := b.stray.ok && l.leaf == b.strayLeaf+1 && l.leaf%size != 0
	if !full && !follows {
		v.problem(Reordered, l.number, l.leaf, s.id, "the leaf is out of order: it was moved, or lines before it are gone")
		b.stray, b.strayLeaf = s, l.leaf
		return false
	}
	stray, at := b.stray, b.strayLeaf
	v.skipTo(l.number, l.leaf/size*size)
	if follows {
		b.put(at-b.next, stray)
	}
	return true
}

// jumpBlock is jump for the line of a later block.
func (v *verifier) jumpBlock(l line) bool {
	b := &v.blocks
	const size = record.BlockSize
	full := v.full() && l.leaf == b.next+size
	follows := b.strayBlock > 0 && l.leaf == b.strayBlock+size
	if !full && !follows {
		v.problem(Reordered, l.number, l.leaf, "", "the block's proof is out of order: it was moved, or lines before it are gone")
		b.strayBlock = l.leaf
		return false
	}
	if follows {
		v.skipTo(l.number, b.strayBlock)
		b.advance()
	} else {
		v.skipTo(l.number, l.leaf)
	}
	return true
}

// full tells whether every leaf of the block that is being read is there.
func (v *verifier) full() bool {
	for i := range v.count() {
		if !v.blocks.slots[i].ok {
			return false
		}
	}
	return true
}

// skipTo gives up the block that is being read and those after it, up to the one
// that begins at the leaf: their own lines are not there.
func (v *verifier) skipTo(number, leaf int64) {
	b := &v.blocks
	v.gaps(number)
	v.problem(Removed, number, b.next, "", "the proofs of leaves %d to %d are gone from before this line", b.next, leaf-1)
	b.advance()
	b.next = leaf
}

// count is how many leaves the block that is being read has.
func (v *verifier) count() int64 {
	return min(record.BlockSize, v.header.TreeSize-v.blocks.next)
}

// gaps names the leaves that the block lacks, and tells whether it lacks none.
func (v *verifier) gaps(number int64) (whole bool) {
	whole = true
	for i := int64(0); i < v.count(); i++ {
		if v.blocks.slots[i].ok {
			continue
		}
		whole = false
		from := i
		for i+1 < v.count() && !v.blocks.slots[i+1].ok {
			i++
		}
		v.problem(Removed, number, v.blocks.next+from, "", "leaves %d to %d are gone from before this line", v.blocks.next+from, v.blocks.next+i)
	}
	return whole
}

// block judges a block line: the leaves before it, and that they are in the tree.
func (v *verifier) block(l line) {
	if v.header == nil {
		return
	}
	b := &v.blocks
	var content record.Block
	stated, path, ok := digest{}, []digest(nil), strictJSON(l.content, &content)
	if ok {
		stated, path, ok = blockHashes(content)
	}
	switch {
	case l.leaf%record.BlockSize != 0 || l.leaf >= v.header.ToLeaf:
		v.problem(Inserted, l.number, l.leaf, "", "the file has no such block")
		return
	case l.leaf < b.next:
		v.problem(Duplicated, l.number, l.leaf, "", "the block's proof is there twice or was moved")
		return
	}
	if l.leaf > b.next && !v.jumpBlock(l) {
		return
	}
	defer b.advance()
	if !ok || int64(content.Count) != v.count() {
		v.problem(Changed, l.number, l.leaf, "", "the block's proof was changed")
		return
	}
	if b.highest == 0 {
		// Nothing of the block is shown.
		v.report.Withheld += v.count()
		if !v.report.Filtered {
			v.problem(Removed, l.number, l.leaf, "", "the entries of %d leaves are gone from before this line", v.count())
		}
		v.inTree(l, stated, path, "the block is not part of the signed tree")
		v.growsBlock(l.number, v.count(), stated)
		return
	}
	if !v.gaps(l.number) {
		v.inTree(l, stated, path, "the block is not part of the signed tree")
		return
	}
	hashes := make([]digest, v.count())
	for i := range hashes {
		hashes[i] = b.slots[i].hash
	}
	v.grows(l.number, hashes)
	if treeHash(hashes) == stated {
		v.inTree(l, stated, path, "the block's entries, lines %d to %d, are not part of the signed tree", b.firstLine, b.lastLine)
		return
	}
	if root, ok := rootFrom(stated, l.leaf/record.BlockSize, v.blockCount(), path); ok && v.rooted && root == v.root {
		v.problem(Changed, b.firstLine, b.next, b.slots[0].id, "among the leaves of lines %d to %d one was changed: they do not give their block's sealed hash", b.firstLine, b.lastLine)
		return
	}
	v.problem(Changed, l.number, l.leaf, "", "the block's hash is not that of lines %d to %d", b.firstLine, b.lastLine)
}

// inTree says that the block's hash does not lead to the signed root, if so.
func (v *verifier) inTree(l line, node digest, path []digest, format string, args ...any) {
	if !v.rooted {
		return // the checkpoint's own problem is in the report
	}
	root, ok := rootFrom(node, l.leaf/record.BlockSize, v.blockCount(), path)
	if !ok || root != v.root {
		v.problem(Changed, l.number, l.leaf, "", format, args...)
	}
}

func (v *verifier) blockCount() int64 {
	return (v.header.TreeSize + record.BlockSize - 1) / record.BlockSize
}

// closeBlocks names what the file should still have had.
func (v *verifier) closeBlocks() {
	if v.header == nil || v.blocks.next >= v.header.ToLeaf {
		return
	}
	v.problem(Truncated, v.number, v.blocks.next, "", "leaves %d to %d are not proven: the file ends, or their lines were removed", v.blocks.next, v.header.ToLeaf-1)
}

func blockHashes(b record.Block) (root digest, path []digest, ok bool) {
	if root, ok = parseDigest(b.Root); !ok || b.Path == nil {
		return root, nil, false
	}
	for _, s := range b.Path {
		d, ok := parseDigest(s)
		if !ok {
			return root, nil, false
		}
		path = append(path, d)
	}
	return root, path, true
}

// inScope tells whether the stated filter chooses the entry.
func inScope(s record.Scope, e *record.Entry) bool {
	equal := func(want, have string) bool { return want == "" || want == have }
	return equal(s.Actor, e.ActorID.String()) && equal(s.RecordType, e.RecordType) && equal(s.RecordID, e.RecordID) &&
		equal(s.Action, e.Action) && equal(s.Outcome, string(e.Outcome)) && equal(s.Facility, e.FacilityID.String()) &&
		equal(s.Organization, e.OrganizationID.String()) &&
		bound(s.From, func(t time.Time) bool { return !e.At.Before(t) }) &&
		bound(s.To, func(t time.Time) bool { return e.At.Before(t) })
}

func bound(stated string, holds func(time.Time) bool) bool {
	if stated == "" {
		return true
	}
	t, err := record.ParseTime(stated)
	return err == nil && holds(t)
}

// idOf finds an entry's id in a line's content, also in a damaged one.
func idOf(l line) string {
	if l.kind != record.LineEntry {
		return ""
	}
	_, after, ok := bytes.Cut(l.content, []byte(`"id":"`))
	if !ok || len(after) < 36 || strings.ContainsAny(string(after[:36]), "\"\\\n") {
		return ""
	}
	return strings.ToValidUTF8(string(after[:36]), "?")
}
