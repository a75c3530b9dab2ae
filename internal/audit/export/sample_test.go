package export_test

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/audit/audittest"
	"github.com/caresphere/caresphere/internal/audit/tree"
	"github.com/caresphere/caresphere/internal/audit/verify"
)

var sample = flag.Bool("sample", false, "write new sample exports into verify/testdata")

// The samples in verify/testdata stand for every export that was ever handed out:
// they must verify for ever. This writes new ones, for a new version of the format.
func TestSamples(t *testing.T) {
	dir := filepath.Join("..", "verify", "testdata")
	if *sample {
		writeSamples(t, dir)
	}
	text, err := os.ReadFile(filepath.Join(dir, "audit.pub"))
	require.NoError(t, err)
	keys, err := verify.ParseKeys(string(text))
	require.NoError(t, err)
	for _, name := range []string{"audit.jsonl", "audit.csv", "denied.jsonl", "denied.csv"} {
		file, err := os.Open(filepath.Join(dir, name))
		require.NoError(t, err)
		r, err := verify.File(file, keys)
		require.NoError(t, err)
		require.Empty(t, r.Problems, name)
		require.NoError(t, file.Close())
	}
}

func writeSamples(t *testing.T, dir string) {
	f := setup(t)
	private, public := audittest.Key(t, "caresphere-audit")
	exportPrivate, exportPublic := audittest.Key(t, "caresphere-export")
	var err error
	f.sealer.Signer, f.sealer.Verifier, _, err = tree.ParseSigner(private)
	require.NoError(t, err)
	f.signer, err = note.NewSigner(exportPrivate)
	require.NoError(t, err)
	f.write(t, 70)
	require.NoError(t, os.MkdirAll(dir, 0o755))
	files := map[string][]byte{"audit.pub": []byte(public + "\n" + exportPublic + "\n")}
	for _, format := range formats {
		files["audit."+string(format)] = f.export(t, format, audit.Filter{})
		files["denied."+string(format)] = f.export(t, format, audit.Filter{Outcome: audit.OutcomeDenied})
	}
	for name, content := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o644))
	}
}
