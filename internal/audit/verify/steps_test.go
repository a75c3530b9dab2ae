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
		earlier, err := ReadEarlier(bytes.NewReader(file), keys)
		require.NoError(t, err)
		options := []Option{Extends(earlier)}
		all := bytes.SplitAfter(file, []byte("\n"))
		all = all[:len(all)-1]
		at := Begin(keys, options...)
		for i, line := range all {
			other, err := at.Clone()
			require.NoError(t, err)
			damaged := bytes.Clone(file)
			flipped := damaged[len(bytes.Join(all[:i], nil))+len(line)/2:]
			flipped[0] ^= 1
			whole, err := File(bytes.NewReader(damaged), keys, options...)
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
		at.Line(make([]byte, maxLine+1))
		require.Equal(t, Malformed, at.Problems()[0].Kind)
	}
}
