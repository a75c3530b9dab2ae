package tools

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestEveryToolHasAPinnedModule(t *testing.T) {
	keys := map[string]Tool{}
	for _, tool := range All() {
		key, err := Key(tool)
		require.NoError(t, err)
		require.Empty(t, keys[key], "two tools with one key")
		keys[key] = tool
		mod, sum, err := spec(tool)
		require.NoError(t, err)
		require.Contains(t, string(mod), "require ")
		require.NotEmpty(t, sum)
		require.Contains(t, recipes, tool)
	}
	require.Len(t, recipes, len(All()))
	_, err := Key("no-such-tool")
	require.Error(t, err)
}

func TestTheKeyFollowsTheRecipe(t *testing.T) {
	before, err := Key(Toxiproxy)
	require.NoError(t, err)
	again, err := Key(Toxiproxy)
	require.NoError(t, err)
	require.Equal(t, before, again)
	kept := recipes[Toxiproxy]
	defer func() { recipes[Toxiproxy] = kept }()
	changed := kept
	changed.tags = "other"
	recipes[Toxiproxy] = changed
	after, err := Key(Toxiproxy)
	require.NoError(t, err)
	require.NotEqual(t, before, after)
}

func TestTheEnvironmentCannotChangeABuild(t *testing.T) {
	env := buildEnv([]string{"HOME=/h", "GOFLAGS=-tags=evil", "CGO_ENABLED=1", "GOOS=plan9", "GOPROXY=p", "GOWORK=/w"})
	require.Equal(t, []string{"HOME=/h", "GOPROXY=p", "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS="}, env)
}

func TestBuildsOnceAndRuns(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	var said strings.Builder
	builder := Builder{Cache: t.TempDir(), Progress: &said}
	_, built, err := builder.Path(Toxiproxy)
	require.NoError(t, err)
	require.False(t, built)

	var wait sync.WaitGroup
	var paths [2]string
	for i := range paths {
		wait.Go(func() {
			b := builder
			if i > 0 {
				b.Progress = nil
			}
			got, err := b.Build(ctx, Toxiproxy)
			if err == nil {
				paths[i] = got[Toxiproxy]
			}
		})
	}
	wait.Wait()
	require.NotEmpty(t, paths[0])
	require.Equal(t, paths[0], paths[1])
	require.NoError(t, exec.CommandContext(ctx, paths[0], "-version").Run())
	left, err := filepath.Glob(filepath.Join(builder.Cache, "build-*"))
	require.NoError(t, err)
	require.Empty(t, left, "no build folder is left")

	said.Reset()
	_, err = builder.Build(ctx, Toxiproxy)
	require.NoError(t, err)
	require.Empty(t, said.String(), "the second build does nothing")
}

func TestAFailedBuildSaysWhyAndLeavesNothing(t *testing.T) {
	kept := recipes[Toxiproxy]
	defer func() { recipes[Toxiproxy] = kept }()
	broken := kept
	broken.pkg = "github.com/Shopify/toxiproxy/v2/no/such/package"
	recipes[Toxiproxy] = broken
	builder := Builder{Cache: t.TempDir()}
	_, err := builder.Build(t.Context(), Toxiproxy)
	require.ErrorContains(t, err, "no/such/package")
	entries, err := os.ReadDir(filepath.Join(builder.Cache, "bin"))
	require.NoError(t, err)
	require.Empty(t, entries)
}

func TestALockIsWaitedForAndLetGo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lockFile(t.Context(), path)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer cancel()
	_, err = lockFile(ctx, path)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	unlock()
	unlock, err = lockFile(t.Context(), path)
	require.NoError(t, err)
	unlock()
}
