package lint

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheEvidenceOfTheSecurityPageExists(t *testing.T) {
	declared := regexp.MustCompile(`(?m)^func (Test[A-Z]\w+)\(`)
	var tests []string
	for _, dir := range []string{"cmd", "controlplane", "dataplane", "internal", "migrations", "tenants"} {
		require.NoError(t, filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			content, err := os.ReadFile(path)
			for _, m := range declared.FindAllSubmatch(content, -1) {
				tests = append(tests, string(m[1]))
			}
			return err
		}))
	}
	exists := func(path string) bool {
		_, err := os.Stat(filepath.Join(root, path))
		return err == nil
	}
	page, err := os.ReadFile(filepath.Join(root, "docs/security.md"))
	require.NoError(t, err)
	require.Greater(t, len(namedTest.FindAll(page, -1)), 50)
	for _, wrong := range Evidence(string(page), tests, exists) {
		t.Error(wrong)
	}
	require.Equal(t, []string{"there is no test TestNobodyWroteThis", "there is no internal/nowhere/x.go"},
		Evidence("TestNobodyWroteThis, `internal/nowhere/x.go`, TestTheEvidenceOfTheSecurityPageExists, `internal/lint/evidence.go`", tests, exists))
}
