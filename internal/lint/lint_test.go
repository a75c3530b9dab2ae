package lint

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const root = "../.."

// listed asks go list about patterns of this module.
func listed(t *testing.T, args ...string) []Package {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Imports,TestImports,XTestImports,Standard"}, args...)...)
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	var packages []Package
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath                         string
			Imports, TestImports, XTestImports []string
			Standard                           bool
		}
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		require.NoError(t, err)
		std := map[string]bool{}
		all := slices.Concat(p.Imports, p.TestImports, p.XTestImports)
		for i, imp := range all {
			first, _, _ := strings.Cut(imp, "/")
			all[i] = strings.TrimPrefix(imp, Module+"/")
			std[imp] = !strings.Contains(first, ".")
		}
		packages = append(packages, Package{Path: strings.TrimPrefix(p.ImportPath, Module+"/"),
			Imports: all[:len(p.Imports)], TestImports: all[len(p.Imports):], Standard: std})
	}
}

func TestImportsFollowTheLayers(t *testing.T) {
	packages := listed(t, "./...")
	require.Greater(t, len(packages), 20)
	for _, p := range packages {
		for _, wrong := range slices.Concat(Direction(p), Siblings(p)) {
			t.Error(wrong)
		}
	}
}

func TestBinariesLinkOnlyWhatTheyMay(t *testing.T) {
	for binary := range forbidden {
		var deps []string
		for _, p := range listed(t, "-deps", "./cmd/"+binary) {
			deps = append(deps, p.Path)
		}
		require.Greater(t, len(deps), 100, binary)
		for i, d := range deps {
			if _, ours := rank[layer(d)]; ours && d != "internal" {
				deps[i] = Module + "/" + d
			}
		}
		for _, wrong := range Linked(binary, deps) {
			t.Error(wrong)
		}
	}
}

func TestFilesAreShortAndFinished(t *testing.T) {
	seen := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != root || d.Name() == "node_modules" || d.Name() == "bin") {
			return fs.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		size := info.Size()
		if d.IsDir() {
			size = 0
		}
		if inside := filepath.ToSlash(strings.TrimPrefix(path, root+string(filepath.Separator))); path != root {
			for _, wrong := range Stray(inside, size) {
				t.Error(wrong)
			}
		}
		if d.IsDir() || filepath.Ext(path) != ".go" {
			return nil
		}
		seen++
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, wrong := range slices.Concat(Length(path, content), Unfinished(path, content)) {
			t.Error(wrong)
		}
		return nil
	})
	require.NoError(t, err)
	require.Greater(t, seen, 100)
}

// TestEveryRuleCanFail plants what each rule is there to find, beside what it must let pass.
func TestEveryRuleCanFail(t *testing.T) {
	std := map[string]bool{"time": true}
	direction := func(path string, imports ...string) []string {
		return Direction(Package{Path: path, Imports: imports, Standard: std})
	}
	require.Empty(t, direction("tenants", "time"))
	require.NotEmpty(t, direction("tenants", "github.com/google/uuid"))
	require.NotEmpty(t, direction("tenants", "internal/pg"))
	require.Empty(t, direction("internal/pg", "tenants", "github.com/jackc/pgx/v5", "internal/obs", "migrations"))
	require.NotEmpty(t, direction("internal/pg", "dataplane/access"))
	require.NotEmpty(t, direction("internal/pg", "cmd/router"))
	require.Empty(t, direction("dataplane/api", "dataplane/access", "internal/phi", "tenants"))
	require.NotEmpty(t, direction("dataplane/api", "controlplane/store"))
	require.NotEmpty(t, direction("controlplane/web", "dataplane/store"))
	require.NotEmpty(t, direction("dataplane/api", "cmd/dataplane"))
	require.Empty(t, direction("cmd/caresphere", "controlplane/store", "dataplane/store"))
	require.NotEmpty(t, direction("elsewhere", "time"))
	require.NotEmpty(t, Direction(Package{Path: "internal/pg", TestImports: []string{"dataplane/access"}}))
	require.Empty(t, Direction(Package{Path: "tenants", TestImports: []string{"github.com/stretchr/testify/require"}}))

	siblings := func(path string, imports ...string) []string { return Siblings(Package{Path: path, Imports: imports}) }
	require.Empty(t, siblings("controlplane/baa", "controlplane/store", "controlplane/jobs", "internal/pg"))
	require.NotEmpty(t, siblings("controlplane/baa", "controlplane/signup"))
	require.NotEmpty(t, siblings("controlplane/provisioning", "controlplane/baa"))
	require.Empty(t, siblings("controlplane/web", "controlplane/baa"))
	require.NotEmpty(t, siblings("controlplane/store", "controlplane/baa"))
	require.Empty(t, siblings("dataplane/records/notes", "dataplane/records", "dataplane/access"))
	require.NotEmpty(t, siblings("dataplane/records/notes", "dataplane/records/clients"))
	require.NotEmpty(t, siblings("dataplane/router", "dataplane/api"))

	require.Empty(t, Stray("cmd/provisioner", 0))
	require.Empty(t, Stray("docs/openapi/dataplane.json", 200<<10))
	require.Empty(t, Stray(".gitignore", 100))
	require.NotEmpty(t, Stray("provisioner", 48<<20))
	require.NotEmpty(t, Stray("scratch", 0))
	require.NotEmpty(t, Stray("cmd/provisioner/provisioner", 48<<20))

	require.Empty(t, Linked("router", []string{"database/sql/driver", "net/http"}))
	require.NotEmpty(t, Linked("router", []string{"database/sql"}))
	require.NotEmpty(t, Linked("router", []string{"github.com/jackc/pgx/v5/pgconn"}))
	require.Empty(t, Linked("dataplane", []string{"github.com/jackc/pgx/v5", "github.com/hashicorp/vault/api"}))
	require.NotEmpty(t, Linked("dataplane", []string{"github.com/riverqueue/river"}))
	require.NotEmpty(t, Linked("dataplane", []string{"github.com/stripe/stripe-go/v76"}))
	require.NotEmpty(t, Linked("dataplane", []string{Module + "/controlplane/jobs"}))
	require.Empty(t, Linked("controlplane", []string{"github.com/riverqueue/river", "github.com/stripe/stripe-go/v76"}))
	require.NotEmpty(t, Linked("controlplane", []string{"github.com/hashicorp/vault/api"}))
	require.NotEmpty(t, Linked("controlplane", []string{"github.com/hashicorp/terraform-exec/tfexec"}))
	require.NotEmpty(t, Linked("provisioner", []string{Module + "/dataplane/access"}))

	long := []byte(strings.Repeat("x\n", MaxLines+1))
	require.NotEmpty(t, Length("a.go", long))
	require.Empty(t, Length("a_test.go", long))
	require.NotEmpty(t, Length("a_test.go", bytes.Repeat(long, 2)))
	require.Empty(t, Length("a.go", append([]byte("// Code generated by sqlc. DO NOT EDIT.\n"), long...)))
	require.Empty(t, Length("a.go", long[2:]))
	require.NotEmpty(t, Unfinished("a.go", []byte("ok\n// TO"+"DO later\n")))
	require.NotEmpty(t, Unfinished("a_test.go", []byte("\tt.Sk"+"ip()\n")))
	require.Empty(t, Unfinished("a.go", []byte("// all is done\n")))
}
