package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestABillIsHeldAgainstThePrograms(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	folder := filepath.Dir(self)
	linked, programs, err := modules(folder)
	require.NoError(t, err)
	require.Positive(t, programs, "this test is a program")

	spdx := func(purls ...string) []byte {
		text := `{"packages": [{"externalRefs": [{"referenceLocator": "pkg:golang/github.com/caresphere/caresphere@(devel)"}]}`
		for _, p := range purls {
			text += `, {"name": "x", "externalRefs": [{"referenceType": "purl", "referenceLocator": "` + p + `"}]}`
		}
		return []byte(text + `]}`)
	}
	named, err := packages(spdx("pkg:golang/github.com/jackc/pgx@v5.12.0#v5", "pkg:golang/github.com/BurntSushi/toml@v1.2.3?type=module",
		"pkg:golang/example.org/a%2Fb@v1.0.0%2Bincompatible", "pkg:golang/stdlib@1.26.8", "pkg:npm/left-pad@1.0.0"))
	require.NoError(t, err)
	want := map[string]bool{"github.com/jackc/pgx/v5@v5.12.0": true, "github.com/burntsushi/toml@v1.2.3": true, "example.org/a/b@v1.0.0+incompatible": true}
	require.Equal(t, want, named)
	require.Empty(t, differences(want, named))

	delete(named, "github.com/jackc/pgx/v5@v5.12.0")
	named["example.org/other@v1.0.0"] = true
	require.Equal(t, []string{"github.com/jackc/pgx/v5@v5.12.0 is linked, and missing in it", "example.org/other@v1.0.0 is in it, and in no program"}, differences(want, named))

	_, err = packages([]byte("no bill"))
	require.Error(t, err)
	empty := filepath.Join(t.TempDir(), "sbom.json")
	require.NoError(t, os.WriteFile(empty, spdx(), 0o600))
	if err := run(folder, []string{empty}); len(linked) > 0 {
		require.ErrorContains(t, err, "is linked, and missing in it")
	}
	require.ErrorContains(t, run(t.TempDir(), []string{empty}), "no Go program")
}
