package e2e_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/demo"
	"github.com/caresphere/caresphere/internal/isolation"
	"github.com/caresphere/caresphere/internal/testkit"
)

// caresphere runs the command line against the stack, as its user would.
func (w *world) caresphere(t *testing.T, args ...string) (stdout, stderr string, exit int) {
	t.Helper()
	cmd := exec.CommandContext(within(t, 2*time.Minute), testkit.Binary(t, "caresphere"), args...)
	cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH"),
		"CARESPHERE_STATE=" + w.Layout().State, "CARESPHERE_PORT_BASE=" + strconv.Itoa(w.Layout().Base)}
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err := cmd.Run()
	var coded *exec.ExitError
	if err != nil && !errors.As(err, &coded) {
		t.Fatalf("running caresphere %v: %v", args, err)
	}
	return out.String(), complaint.String(), cmd.ProcessState.ExitCode()
}

// report checks the form that machines read, and returns it.
func report(t *testing.T, out string) demo.Report {
	t.Helper()
	var loose struct {
		OK    *bool
		Ms    *float64
		Steps []map[string]any
	}
	require.NoError(t, json.Unmarshal([]byte(out), &loose), "%s", out)
	require.NotNil(t, loose.OK)
	require.NotNil(t, loose.Ms)
	require.NotEmpty(t, loose.Steps)
	for _, s := range loose.Steps {
		require.Len(t, s, 4, "%v", s)
		for name, kind := range map[string]any{"name": "", "ok": true, "ms": 0.0, "detail": ""} {
			require.IsType(t, kind, s[name], "%s of %v", name, s)
		}
	}
	var r demo.Report
	require.NoError(t, json.Unmarshal([]byte(out), &r))
	return r
}

// Alone, for it promises to take less than a minute.
func TestTheDemonstrationHoldsAndItsProofsVerifyOffline(t *testing.T) {
	w, dir := here(t), filepath.Join(t.TempDir(), "proof")
	begun := time.Now()
	out, complaint, exit := w.caresphere(t, "demo", "--json", "--keep", dir)
	require.Zero(t, exit, "%s%s", out, complaint)
	r := report(t, out)
	require.True(t, r.OK)
	require.GreaterOrEqual(t, len(r.Steps), 19)
	for _, s := range r.Steps {
		assert.True(t, s.OK, "%s: %s", s.Name, s.Detail)
	}
	t.Logf("%d steps in %s", len(r.Steps), time.Since(begun).Round(time.Millisecond))
	require.Less(t, r.Ms, time.Minute.Milliseconds())

	// What was kept needs no stack: it is checked in a folder of its own.
	pub := filepath.Join(dir, "audit.pub")
	w.requireProofKept(t, dir)
	for name, verify := range map[string][]string{
		"audit.jsonl": {"audit", "verify", "--key", pub}, "audit.csv": {"audit", "verify", "--key", pub}, "baa.bundle": {"baa", "verify"},
	} {
		whole, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		out, complaint, exit := w.caresphere(t, append(verify, filepath.Join(dir, name))...)
		require.Zero(t, exit, "%s: %s%s", name, out, complaint)
		require.Contains(t, out, "VERIFIED")
		for _, at := range []int{len(whole) / 3, len(whole) / 2, len(whole) - 100} {
			touched := filepath.Join(t.TempDir(), name)
			changed := bytes.Clone(whole)
			changed[at] ^= 1
			require.NoError(t, os.WriteFile(touched, changed, 0o600))
			out, complaint, exit := w.caresphere(t, append(verify, "--json", touched)...)
			require.Equal(t, 1, exit, "%s with byte %d changed: %s%s", name, at, out, complaint)
			var found struct {
				OK       bool             `json:"ok"`
				Problems []map[string]any `json:"problems"`
			}
			require.NoError(t, json.Unmarshal([]byte(out), &found))
			require.False(t, found.OK)
			require.NotEmpty(t, found.Problems)
			place := found.Problems[0]["line"]
			if name == "baa.bundle" {
				place = found.Problems[0]["part"]
			}
			require.NotEmpty(t, place, "%s with byte %d changed: the place is named: %v", name, at, found.Problems)
		}
	}
}

// requireProofKept checks the proof of isolation that the demonstration left, as an
// auditor would, and that no changed byte of it passes.
func (w *world) requireProofKept(t *testing.T, dir string) {
	t.Helper()
	file, key := filepath.Join(dir, "isolation.json"), filepath.Join(dir, "isolation.pub")
	out, complaint, exit := w.caresphere(t, "isolation", "verify", file, "--key", key)
	require.Zero(t, exit, "%s%s", out, complaint)
	require.Contains(t, out, "VERIFIED: ")
	out, complaint, exit = w.caresphere(t, "isolation", "verify", "--json", file, "--key", key)
	require.Zero(t, exit, "%s%s", out, complaint)
	var r isolation.Report
	require.NoError(t, json.Unmarshal([]byte(out), &r))
	require.True(t, r.OK)
	require.NotEmpty(t, r.Tenants)

	whole, err := os.ReadFile(file)
	require.NoError(t, err)
	touched := filepath.Join(t.TempDir(), "isolation.json")
	for _, at := range []int{len(whole) / 3, len(whole) / 2, len(whole) - 20} {
		changed := bytes.Clone(whole)
		changed[at] ^= 1
		require.NoError(t, os.WriteFile(touched, changed, 0o600))
		out, complaint, exit := w.caresphere(t, "isolation", "verify", touched, "--key", key)
		require.Equal(t, 1, exit, "byte %d changed: %s%s", at, out, complaint)
		require.Contains(t, out, "NOT VERIFIED")
		out, complaint, exit = w.caresphere(t, "isolation", "verify", "--json", touched, "--key", key)
		require.Equal(t, 1, exit, "byte %d changed: %s%s", at, out, complaint)
		var refused struct {
			Verified *bool  `json:"verified"`
			Reason   string `json:"reason"`
		}
		require.NoError(t, json.Unmarshal([]byte(out), &refused), out)
		require.NotNil(t, refused.Verified)
		require.False(t, *refused.Verified)
		require.NotEmpty(t, refused.Reason)
	}
}

func TestTheDemonstrationSaysWhatIsNotAsPromised(t *testing.T) {
	t.Parallel()
	w := here(t)
	o := w.RunningStack.Operator()
	o.Password = "not-" + o.Password
	file := filepath.Join(t.TempDir(), "operator.json")
	b, err := json.Marshal(o)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, b, 0o600))

	out, complaint, exit := w.caresphere(t, "demo", "--json", "--operator", file)
	require.Equal(t, 1, exit, "%s%s", out, complaint)
	r := report(t, out)
	require.False(t, r.OK)
	for i, s := range r.Steps {
		require.Equal(t, i < len(r.Steps)-1, s.OK, "only the last step failed: %+v", r.Steps)
	}
	last := r.Steps[len(r.Steps)-1]
	require.Equal(t, "an operator countersigns both", last.Name)
	require.NotEmpty(t, last.Detail)
	require.NotContains(t, out, o.Password)

	for name, args := range map[string][]string{
		"no such flag": {"demo", "--nope"}, "an argument": {"demo", "now"}, "no such operator": {"demo", "--operator", file + "x"},
		"no such authority": {"demo", "--ca", file + "x"}, "not a time": {"demo", "--timeout", "soon"}, "no such command": {"demos"},
	} {
		out, complaint, exit := w.caresphere(t, args...)
		require.Equal(t, 2, exit, "%s: %s%s", name, out, complaint)
		require.NotEmpty(t, complaint, name)
	}
}
