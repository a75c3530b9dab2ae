package blob_test

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/blob"
)

func TestNothingOutsideThePrefixIsReached(t *testing.T) {
	ctx := context.Background()
	whole, err := blob.Open(blob.Config{URL: "file:" + t.TempDir()})
	require.NoError(t, err)
	a, err := blob.Under(whole, "t/a/")
	require.NoError(t, err)
	b, err := blob.Under(whole, "t/b/")
	require.NoError(t, err)
	require.NoError(t, a.Put(ctx, "x/one", strings.NewReader("a"), 1))
	require.NoError(t, b.EnsurePrefix(ctx, "x/"))

	r, err := whole.Get(ctx, "t/a/x/one")
	require.NoError(t, err)
	body, err := io.ReadAll(r)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	require.Equal(t, "a", string(body))
	r, err = a.Get(ctx, "x/one")
	require.NoError(t, err)
	require.NoError(t, r.Close())

	for _, key := range []string{"x/one", "t/a/x/one", "../a/x/one", "/t/a/x/one", "x/../../a/x/one", "..", "", "./x"} {
		_, err := b.Get(ctx, key)
		require.Error(t, err, key)
		if _, err := a.Get(ctx, key); key != "x/one" {
			require.Error(t, err, key)
		}
	}
	for _, key := range []string{"../a/y", "/t/a/y"} {
		require.ErrorIs(t, b.Put(ctx, key, strings.NewReader("b"), 1), blob.ErrKey)
		require.ErrorIs(t, b.Replace(ctx, key, strings.NewReader("b"), 1), blob.ErrKey)
		require.ErrorIs(t, b.Delete(ctx, key), blob.ErrKey)
	}
	require.ErrorIs(t, b.EnsurePrefix(ctx, "../a/"), blob.ErrKey)
	for _, err := range b.List(ctx, "../a/") {
		require.ErrorIs(t, err, blob.ErrKey)
	}
	require.NoError(t, b.Delete(ctx, "x/one"), "its own, which is not there")
	var seen []string
	for o, err := range a.List(ctx, "") {
		require.NoError(t, err)
		seen = append(seen, o.Key)
	}
	require.Equal(t, []string{"x/one"}, seen)
	_, err = blob.Under(whole, "../")
	require.ErrorIs(t, err, blob.ErrKey)
	require.NoError(t, a.Replace(ctx, "x/one", strings.NewReader("c"), 1))
	require.NoError(t, a.Delete(ctx, "x/one"))
}
