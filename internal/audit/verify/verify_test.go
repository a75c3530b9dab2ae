package verify

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/tlog"
)

func sample(t testing.TB, name string) ([]byte, Keys) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "audit.pub"))
	require.NoError(t, err)
	keys, err := ParseKeys(string(text))
	require.NoError(t, err)
	file, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	return file, keys
}

var samples = []string{"audit.jsonl", "audit.csv", "denied.jsonl", "denied.csv"}

// Our Merkle tree gives what the library's gives, for every size and leaf.
func TestTheTreeAgreesWithRFC6962(t *testing.T) {
	const most = 150
	var leaves []digest
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(at []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(at))
		for i, x := range at {
			out[i] = stored[x]
		}
		return out, nil
	})
	for n := range int64(most) {
		content := []byte{byte(n), byte(n >> 8)}
		leaves = append(leaves, leafHash(content))
		more, err := tlog.StoredHashes(n, content, reader)
		require.NoError(t, err)
		stored = append(stored, more...)
		want, err := tlog.TreeHash(n+1, reader)
		require.NoError(t, err)
		require.Equal(t, digest(want), treeHash(leaves))
		for at := range n + 1 {
			proof, err := tlog.ProveRecord(n+1, at, reader)
			require.NoError(t, err)
			path := make([]digest, len(proof))
			for i := range proof {
				path[i] = digest(proof[i])
			}
			root, ok := rootFrom(leaves[at], at, n+1, path)
			require.True(t, ok)
			require.Equal(t, digest(want), root)
			_, ok = rootFrom(leaves[at], at, n+1, append(path, digest{}))
			require.False(t, ok)
			if len(path) > 0 {
				_, ok = rootFrom(leaves[at], at, n+1, path[:len(path)-1])
				require.False(t, ok)
			}
		}
	}
	_, ok := rootFrom(leaves[0], 5, 5, nil)
	require.False(t, ok)
}

func TestSmallReadsAndBrokenOnes(t *testing.T) {
	for _, name := range samples {
		file, keys := sample(t, name)
		r, err := File(iotest.OneByteReader(bytes.NewReader(file)), keys)
		require.NoError(t, err)
		require.True(t, r.OK, r.Problems)
		broken := errors.New("disk")
		_, err = File(io.MultiReader(bytes.NewReader(file[:len(file)/2]), iotest.ErrReader(broken)), keys)
		require.ErrorIs(t, err, broken)
	}
}

func TestALineWithoutEndDoesNotFillTheMemory(t *testing.T) {
	file, keys := sample(t, "audit.jsonl")
	endless := io.MultiReader(bytes.NewReader(file[:1000]), io.LimitReader(repeat('x'), 64<<20), strings.NewReader("\n"))
	r, err := File(endless, keys)
	require.NoError(t, err)
	require.False(t, r.OK)
	require.Equal(t, Malformed, r.Problems[0].Kind)
	require.EqualValues(t, 2, r.Problems[0].Line)
}

type repeat byte

func (c repeat) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(c)
	}
	return len(b), nil
}

// What is found is bounded, and counted on.
func TestTheReportIsBounded(t *testing.T) {
	_, keys := sample(t, "audit.jsonl")
	r, err := File(strings.NewReader(strings.Repeat("nonsense\n", 100_000)), keys)
	require.NoError(t, err)
	require.Len(t, r.Problems, maxProblems)
	require.Greater(t, r.Found, 99_000)
}

// A signature's base64 has spare bits that a lax decoder ignores.
func TestAnotherSpellingOfASignatureIsRefused(t *testing.T) {
	file, keys := sample(t, "audit.jsonl")
	end := bytes.LastIndex(file, []byte(`=\n"`))
	require.Positive(t, end)
	tries := 0
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") {
		if c == file[end-1] {
			continue
		}
		damaged := bytes.Clone(file)
		damaged[end-1] = c
		r, err := File(bytes.NewReader(damaged), keys)
		require.NoError(t, err)
		require.False(t, r.OK)
		tries++
	}
	require.Equal(t, 63, tries)
}

func FuzzFile(f *testing.F) {
	whole := map[string]bool{}
	var keys Keys
	for _, name := range samples {
		var file []byte
		file, keys = sample(f, name)
		f.Add(file)
		whole[string(file)] = true
		lines := bytes.SplitAfter(file, []byte("\n"))
		rand.New(rand.NewPCG(1, 2)).Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
		f.Add(bytes.Join(lines, nil))
		f.Add(bytes.Join(lines[:3], nil))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		r, err := File(bytes.NewReader(file), keys)
		if err != nil {
			t.Fatal(err)
		}
		if r.OK && !whole[string(file)] {
			t.Fatal("a file that nobody signed verifies")
		}
	})
}

func FuzzParseKeys(f *testing.F) {
	text, err := os.ReadFile(filepath.Join("testdata", "audit.pub"))
	require.NoError(f, err)
	f.Add(string(text))
	f.Add("# x\n\n+")
	f.Fuzz(func(_ *testing.T, text string) { _, _ = ParseKeys(text) })
}

func BenchmarkFile(b *testing.B) {
	for _, name := range []string{"audit.jsonl", "audit.csv"} {
		b.Run(name, func(b *testing.B) {
			file, keys := sample(b, name)
			var entries int64
			b.SetBytes(int64(len(file)))
			for b.Loop() {
				r, err := File(bytes.NewReader(file), keys)
				if err != nil || !r.OK {
					b.Fatal(err, r.Problems)
				}
				entries += r.Entries
			}
			b.ReportMetric(float64(entries)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}
