package verify

import (
	"fmt"
	"time"
)

// Kind is the sort of a problem.
type Kind string

// The kinds of problem.
const (
	// Changed: bytes are not those that were written.
	Changed Kind = "changed"
	// Removed: an entry or a line is not there.
	Removed Kind = "removed"
	// Inserted: a line is there that does not belong.
	Inserted Kind = "inserted"
	// Duplicated: a leaf or a block is there twice.
	Duplicated Kind = "duplicated"
	// Reordered: a leaf or a block is not in its place.
	Reordered Kind = "reordered"
	// Truncated: the file ends too early.
	Truncated Kind = "truncated"
	// Malformed: a line cannot be read at all.
	Malformed Kind = "malformed"
	// ForeignKey: a signature is by a key that was not given.
	ForeignKey Kind = "foreign_key"
	// BadSignature: a signature by a known key does not fit.
	BadSignature Kind = "bad_signature"
	// WrongLog: checkpoint, header and footer do not speak of one log, or not of
	// the one that was asked for.
	WrongLog Kind = "wrong_log"
	// OutOfScope: an entry is shown that the stated filter does not choose, or
	// withheld where nothing may be.
	OutOfScope Kind = "out_of_scope"
)

// Problem is one thing that is wrong.
type Problem struct {
	Kind Kind `json:"kind"`
	// Line counts from 1; 0 where it is about the file as a whole.
	Line int64 `json:"line,omitempty"`
	// Leaf is the leaf index, nil where it is about none.
	Leaf *int64 `json:"leaf,omitempty"`
	// Entry is the entry's id, where it is known.
	Entry   string `json:"entry,omitempty"`
	Message string `json:"message"`
}

// String renders the problem on one line.
func (p Problem) String() string {
	s := string(p.Kind)
	if p.Line > 0 {
		s += fmt.Sprintf(", line %d", p.Line)
	}
	if p.Leaf != nil {
		s += fmt.Sprintf(", leaf %d", *p.Leaf)
	}
	if p.Entry != "" {
		s += ", entry " + p.Entry
	}
	return s + ": " + p.Message
}

// maxProblems bounds the report; Report.Problems counts on.
const maxProblems = 100

// Report is what a file says and what is wrong with it.
type Report struct {
	// OK: every byte is what was sealed and signed by the given keys.
	OK     bool   `json:"ok"`
	Format string `json:"format"`
	// Log is the origin, as "caresphere.dev/audit/<tenant id>".
	Log      string `json:"log"`
	Epoch    int    `json:"epoch"`
	Filtered bool   `json:"filtered"`
	TreeSize int64  `json:"tree_size"`
	FromLeaf int64  `json:"from_leaf"`
	ToLeaf   int64  `json:"to_leaf"`
	// Entries are shown in full; Withheld are proven to be there and not shown.
	Entries  int64 `json:"entries"`
	Withheld int64 `json:"withheld"`
	Lines    int64 `json:"lines"`
	// First and Last are the times of the earliest and the latest entry shown.
	First  *time.Time `json:"first,omitempty"`
	Last   *time.Time `json:"last,omitempty"`
	MadeAt string     `json:"made_at"`
	// Found counts all problems; Problems holds the first hundred.
	Found    int       `json:"found"`
	Problems []Problem `json:"problems"`
}

func (v *verifier) problem(k Kind, line int64, leaf int64, entry, format string, args ...any) {
	v.report.Found++
	if len(v.report.Problems) >= maxProblems {
		return
	}
	p := Problem{Kind: k, Line: line, Entry: entry, Message: fmt.Sprintf(format, args...)}
	if leaf >= 0 {
		p.Leaf = &leaf
	}
	v.report.Problems = append(v.report.Problems, p)
}
