package prove

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// recorder is a test that may fail without failing this one.
type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Helper()                         {}
func (r *recorder) Errorf(string, ...any)           { r.failed = true }
func (r *recorder) Failed() bool                    { return r.failed }
func (r *recorder) Logf(format string, args ...any) {}

// with replaces the catalogue for a test.
func with(t *testing.T, all ...*Figure) string {
	t.Helper()
	kept := figures
	figures = all
	t.Cleanup(func() { figures = kept })
	dir := t.TempDir()
	t.Setenv(DirEnv, dir)
	t.Setenv(SizeEnv, "")
	return dir
}

func sum(t *testing.T, dir string) *Sum {
	t.Helper()
	sums, err := Read(dir)
	require.NoError(t, err)
	require.Len(t, sums, 1)
	return sums[0]
}

func TestAFigureAsItMustBeIsNoSurprise(t *testing.T) {
	f := &Figure{Area: Attacks, Name: "a", Tried: "requests", Found: "leaks", Least: 10, Nightly: 1000, Plants: 2}
	dir := with(t, f)
	State(t, f, 4, 0)
	State(t, f, 6, 0)
	Plant(t, f, 2, 2)
	s := sum(t, dir)
	require.Empty(t, s.Surprise())
	var b strings.Builder
	require.Zero(t, Print(&b, []*Sum{s}))
	require.Equal(t, "ok    attacks/a                          10 requests, 0 leaks, 0 expected; 2 of 2 planted faults noticed\n", b.String())
	// What is enough in a usual run is not at night.
	t.Setenv(SizeEnv, "nightly")
	require.Equal(t, "only 10 of at least 1000 tried", s.Surprise())
	require.Equal(t, 1000, Size(10, 1000))
}

func TestEachSurpriseIsSaid(t *testing.T) {
	for want, state := range map[string]func(testing.TB, *Figure){
		"nobody stated it":                        func(testing.TB, *Figure) {},
		"failed in TestEachSurpriseIsSaid":        func(t testing.TB, f *Figure) { State(t, f, 10, 1) },
		"only 9 of at least 10 tried":             func(t testing.TB, f *Figure) { State(t, f, 9, 0) },
		"only 1 of at least 2 faults planted":     func(t testing.TB, f *Figure) { State(t, f, 10, 0); Plant(t, f, 1, 1) },
		"failed in TestEachSurpriseIsSaid, plant": func(t testing.TB, f *Figure) { State(t, f, 10, 0); Plant(t, f, 2, 1) },
	} {
		f := &Figure{Area: Audit, Name: "b", Least: 10, Plants: 2}
		dir := with(t, f)
		state(&recorder{TB: t}, f)
		s := sum(t, dir)
		assert.Equal(t, strings.TrimSuffix(want, ", plant"), s.Surprise())
		var b strings.Builder
		assert.Equal(t, 1, Print(&b, []*Sum{s}))
		assert.Contains(t, b.String(), "FAIL  audit/b")
	}
	// The sum itself is looked at, whatever the tests said of themselves.
	s := &Sum{Figure: &Figure{Least: 1, PerTry: true, Expected: 2}, Stated: true, TriedN: 3, FoundN: 5}
	assert.Equal(t, "5 found where 6 are expected", s.Surprise())
	s.FoundN, s.Planted, s.Noticed = 6, 3, 2
	assert.Equal(t, "2 of 3 planted faults noticed", s.Surprise())
}

// A machine that cannot try something says so in its line; the large variant wants
// a machine that can.
func TestWhatAMachineCannotTryIsSaid(t *testing.T) {
	f := &Figure{Area: Outages, Name: "c", Tried: "disks", Found: "losses", Least: 1, Plants: 1}
	dir := with(t, f)
	r := &recorder{TB: t}
	Cannot(r, f, "mounting needs root")
	require.False(t, r.failed)
	s := sum(t, dir)
	require.Empty(t, s.Surprise())
	var b strings.Builder
	require.Zero(t, Print(&b, []*Sum{s}))
	require.Contains(t, b.String(), "none  outages/c")
	require.Contains(t, b.String(), "not tried here: mounting needs root")
	// Something that was tried is judged, whatever else could not be.
	require.Equal(t, "only 0 of at least 1 faults planted", (&Sum{Figure: f, Stated: true, Cannot: "no", TriedN: 1}).Surprise())
	t.Setenv(SizeEnv, "nightly")
	require.Equal(t, "only 0 of at least 1 tried", s.Surprise())
	Cannot(r, f, "mounting needs root")
	require.True(t, r.failed)
}

func TestAnUnknownFigureIsRefused(t *testing.T) {
	dir := with(t)
	State(t, &Figure{Area: Audit, Name: "made-up"}, 1, 0)
	_, err := Read(dir)
	require.ErrorContains(t, err, `states "audit/made-up"`)
}

// Every figure names its tests, and they are there: otherwise the proof would run
// nothing.
func TestEveryFigureIsWholeAndItsTestsExist(t *testing.T) {
	root, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}").Output()
	require.NoError(t, err)
	word := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	promise := regexp.MustCompile(`^[LIAUPCO][0-9]+( [LIAUPCO][0-9]+)*$`)
	require.NotEmpty(t, Catalogue())
	for _, f := range Catalogue() {
		assert.Contains(t, Areas(), f.Area, f.Key())
		assert.Regexp(t, word, f.Name)
		assert.Regexp(t, promise, f.Promises, f.Key())
		assert.Positive(t, f.Least, f.Key())
		assert.Positive(t, f.Plants, "%s has a planted fault", f.Key())
		assert.NotEmpty(t, f.Tried)
		assert.NotEmpty(t, f.Found)
		assert.NotEmpty(t, f.By, f.Key())
		for _, by := range f.By {
			pkg, test, _ := strings.Cut(by, " ")
			files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(root)), pkg, "*_test.go"))
			require.NoError(t, err)
			found := false
			for _, file := range files {
				content, err := os.ReadFile(file)
				require.NoError(t, err)
				found = found || strings.Contains(string(content), "func "+test+"(t *testing.T)")
			}
			assert.True(t, found, "%s: there is no %s", f.Key(), by)
		}
	}
}
