// Package prove keeps the figures of the platform's proofs: what was tried, what
// was found, and how much of it was expected. A test that proves something ends by
// stating its figure, and shows by planted faults that it would have turned red.
//
// It owns the catalogue of figures, which is what `make prove` demands: a figure
// that nobody states is as wrong as one with a surprise. It trusts the tests for
// the numbers that they state, and never decides by itself whether something holds.
package prove

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// The environment of a run.
const (
	// DirEnv names the folder that figures are written to; without it they are only
	// checked and logged.
	DirEnv = "CARESPHERE_PROVE_DIR"
	// SizeEnv is "nightly" for the large variant of each proof.
	SizeEnv = "CARESPHERE_PROVE"
)

// Figure is one line of the proof.
type Figure struct {
	// Area groups figures; `make prove` runs an area at a time.
	Area Area
	// Name is unique in its area, in words that stand in a path: "foreign-ids".
	Name string
	// Promises are the requirements that rest on it: "I1 I3".
	Promises string
	// Tried and Found say in a few words what is counted: "requests", "answers with
	// something of another tenant".
	Tried, Found string
	// Expected is how many of Found there must be, for each try if PerTry is set.
	Expected int
	PerTry   bool
	// Least is the fewest tries that count as a proof, and Nightly the fewest of the
	// large variant; 0 there means as Least.
	Least, Nightly int
	// Plants is the fewest planted faults that must have been noticed.
	Plants int
	// By are the tests that state it, as "./cmd/e2e TestName".
	By []string
}

// Key is the figure's name in a run: area and name.
func (f *Figure) Key() string { return string(f.Area) + "/" + f.Name }

// least is the fewest tries at the run's size.
func (f *Figure) least() int {
	if Nightly() && f.Nightly > 0 {
		return f.Nightly
	}
	return f.Least
}

// Nightly tells whether the large variants are asked for.
func Nightly() bool { return os.Getenv(SizeEnv) == "nightly" }

// Size returns usual, or nightly when the large variants are asked for.
func Size(usual, nightly int) int {
	if Nightly() {
		return nightly
	}
	return usual
}

// statement is what one call adds to a figure.
type statement struct {
	Key     string `json:"key"`
	Test    string `json:"test"`
	Tried   int    `json:"tried"`
	Found   int    `json:"found"`
	Planted int    `json:"planted"`
	Noticed int    `json:"noticed"`
	Failed  bool   `json:"failed"`
	Cannot  string `json:"cannot,omitempty"`
}

// State adds to a figure: so many were tried, and so many of what must (or must
// not) be there were found. Found other than expected fails the test. Statements of
// several tests or subtests add up.
func State(t testing.TB, f *Figure, tried, found int) {
	t.Helper()
	want := f.Expected
	if f.PerTry {
		want *= tried
	}
	if found != want {
		t.Errorf("%s: %d %s tried, %d %s found, %d expected", f.Key(), tried, f.Tried, found, f.Found, want)
	}
	write(t, statement{Key: f.Key(), Tried: tried, Found: found})
}

// Plant adds planted faults to a figure and how many of them the check noticed. One
// that was not noticed fails the test: the check could not have failed.
func Plant(t testing.TB, f *Figure, planted, noticed int) {
	t.Helper()
	if planted != noticed {
		t.Errorf("%s: %d faults planted, %d noticed", f.Key(), planted, noticed)
	}
	write(t, statement{Key: f.Key(), Planted: planted, Noticed: noticed})
}

// Cannot says why this machine cannot try what the figure counts: "mounting needs
// root". A usual run prints that in the figure's line; the large variant demands a
// machine that can.
func Cannot(t testing.TB, f *Figure, why string) {
	t.Helper()
	if Nightly() {
		t.Errorf("%s: not tried: %s", f.Key(), why)
	}
	write(t, statement{Key: f.Key(), Cannot: why})
}

func write(t testing.TB, s statement) {
	t.Helper()
	t.Logf("%s: tried %d, found %d, planted %d, noticed %d", s.Key, s.Tried, s.Found, s.Planted, s.Noticed)
	dir := os.Getenv(DirEnv)
	if dir == "" {
		return
	}
	s.Test, s.Failed = t.Name(), t.Failed()
	line, err := json.Marshal(s)
	if err != nil {
		t.Fatalf("prove: %v", err)
	}
	// A file a statement: processes that state at once do not meet in one.
	if err := os.WriteFile(filepath.Join(dir, rand.Text()+".json"), append(line, '\n'), 0o600); err != nil {
		t.Fatalf("prove: keeping %s: %v", s.Key, err)
	}
}

// Sum is a figure with all that was stated of it in a run.
type Sum struct {
	*Figure
	Stated         bool
	TriedN, FoundN int
	Planted        int
	Noticed        int
	// Failed are the tests that had failed when they stated it.
	Failed []string
	// Cannot is why the machine could not try it.
	Cannot string
}

// Want is how many of Found there must be after so many tries.
func (s *Sum) Want() int {
	if s.PerTry {
		return s.Expected * s.TriedN
	}
	return s.Expected
}

// Surprise says what is not as it must be, or nothing.
func (s *Sum) Surprise() string {
	switch {
	case !s.Stated:
		return "nobody stated it"
	case len(s.Failed) > 0:
		return "failed in " + s.Failed[0]
	case s.Cannot != "" && s.TriedN == 0 && !Nightly():
		return ""
	case s.FoundN != s.Want():
		return fmt.Sprintf("%d found where %d are expected", s.FoundN, s.Want())
	case s.TriedN < s.least():
		return fmt.Sprintf("only %d of at least %d tried", s.TriedN, s.least())
	case s.Noticed != s.Planted:
		return fmt.Sprintf("%d of %d planted faults noticed", s.Noticed, s.Planted)
	case s.Planted < s.Plants:
		return fmt.Sprintf("only %d of at least %d faults planted", s.Planted, s.Plants)
	}
	return ""
}

// Read adds up what was stated in dir, in the catalogue's order, for the given
// areas; none means all. A figure that the catalogue does not have is an error.
func Read(dir string, areas ...Area) ([]*Sum, error) {
	sums, byKey := []*Sum{}, map[string]*Sum{}
	for _, f := range Catalogue() {
		s := &Sum{Figure: f}
		byKey[f.Key()] = s
		if wanted(f.Area, areas) {
			sums = append(sums, s)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var one statement
		if err := json.Unmarshal(content, &one); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		s := byKey[one.Key]
		if s == nil {
			return nil, fmt.Errorf("%s states %q, which the catalogue does not have", one.Test, one.Key)
		}
		s.Stated = s.Stated || one.Planted == 0 || one.Tried > 0
		s.TriedN, s.FoundN = s.TriedN+one.Tried, s.FoundN+one.Found
		s.Planted, s.Noticed = s.Planted+one.Planted, s.Noticed+one.Noticed
		if one.Cannot != "" {
			s.Cannot = one.Cannot
		}
		if one.Failed {
			s.Failed = append(s.Failed, one.Test)
		}
	}
	return sums, nil
}

func wanted(a Area, areas []Area) bool {
	for _, one := range areas {
		if a == one {
			return true
		}
	}
	return len(areas) == 0
}
