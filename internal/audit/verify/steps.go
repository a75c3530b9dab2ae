package verify

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"slices"
)

// Steps checks an export line by line, for whoever asks what is wrong so far, or tries
// several continuations of one beginning. Only File sees that a file ends too early.
type Steps struct{ v verifier }

// Begin returns the state before the first line.
func Begin(keys Keys) *Steps {
	return &Steps{verifier{keys: keys, whole: sha256.New(), report: Report{Problems: []Problem{}}}}
}

// Line takes the next line, with the newline that ends it.
func (s *Steps) Line(b []byte) {
	if len(b) > maxLine {
		s.v.tooLong()
		return
	}
	s.v.raw(b)
}

// Problems are what is wrong so far, the first hundred of it. Lines that follow take
// none of it back.
func (s *Steps) Problems() []Problem { return s.v.report.Problems }

// Clone returns a copy that goes its own way. The error is that of a hash without a copy.
func (s *Steps) Clone() (*Steps, error) {
	c := *s
	whole, ok := s.v.whole.(hash.Cloner)
	if !ok {
		return nil, fmt.Errorf("copying the digest: %T cannot be copied", s.v.whole)
	}
	copied, err := whole.Clone()
	if err != nil {
		return nil, fmt.Errorf("copying the digest: %w", err)
	}
	c.v.whole = copied
	c.v.report.Problems = slices.Clone(s.v.report.Problems)
	return &c, nil
}
