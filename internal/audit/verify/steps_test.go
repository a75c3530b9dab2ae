package verify

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

// A beginning that is taken further in two ways is judged in each as a file is, and
// neither way is seen from the other.
func TestStepsSayWhatFileSays(t *testing.T) {
	for _, name := range samples {
		file, keys := sample(t, name)
		all := bytes.SplitAfter(file, []byte("\n"))
		all = all[:len(all)-1]
		at := Begin(keys)
		for i, line := range all {
			other, err := at.Clone()
			require.NoError(t, err)
			damaged := bytes.Clone(file)
			flipped := damaged[len(bytes.Join(all[:i], nil))+len(line)/2:]
			flipped[0] ^= 1
			whole, err := File(bytes.NewReader(damaged), keys)
			require.NoError(t, err)
			require.False(t, whole.OK)
			for _, l := range bytes.SplitAfter(damaged, []byte("\n"))[i:] {
				if len(l) > 0 {
					other.Line(l)
				}
			}
			require.NotEmpty(t, other.Problems(), "%s line %d", name, i+1)
			require.Equal(t, whole.Problems[:len(other.Problems())], other.Problems(), "%s line %d", name, i+1)
			at.Line(line)
			require.Empty(t, at.Problems(), "%s line %d", name, i+1)
		}
	}
}

// What one copy finds after several problems is not what the other finds.
func TestCopiesKeepTheirOwnProblems(t *testing.T) {
	_, keys := sample(t, samples[0])
	at := Begin(keys)
	for range 5 {
		at.Line([]byte("nonsense\n"))
	}
	before := len(at.Problems())
	one, err := at.Clone()
	require.NoError(t, err)
	other, err := at.Clone()
	require.NoError(t, err)
	one.Line(make([]byte, maxLine+1))
	other.Line([]byte("nonsense\n"))
	at.Line([]byte("nonsense\n"))
	require.Contains(t, one.Problems()[before].Message, "longer than any entry")
	require.Contains(t, other.Problems()[before].Message, "the line was changed")
	require.Len(t, one.Problems(), before+1)
}
