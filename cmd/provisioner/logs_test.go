package main

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/audit/sealer"
	"github.com/caresphere/caresphere/internal/blob"
)

func TestObjectAnchorKeepsTheLargestHeadAndFindsAFork(t *testing.T) {
	ctx := context.Background()
	objects, err := blob.Open(blob.Config{URL: "file:" + t.TempDir()})
	require.NoError(t, err)
	a := objectAnchor{objects}
	last, err := a.Last(ctx, "log")
	require.NoError(t, err)
	require.Nil(t, last)

	head := func(size int64, root byte) sealer.Anchored {
		return sealer.Anchored{Origin: "log", Size: size, Root: [32]byte{root}, Note: "signed"}
	}
	require.NoError(t, a.Put(ctx, head(2, 2)))
	require.NoError(t, a.Put(ctx, head(9, 9)))
	require.NoError(t, a.Put(ctx, head(9, 9)), "the same head again is no error")
	require.NoError(t, a.Put(ctx, head(5, 5)), "a late smaller one is kept, and is not the last")
	last, err = a.Last(ctx, "log")
	require.NoError(t, err)
	require.Equal(t, head(9, 9), *last)
	require.ErrorIs(t, a.Put(ctx, head(9, 8)), sealer.ErrFork)
	require.ErrorIs(t, a.Put(ctx, head(2, 3)), sealer.ErrFork)
	last, err = a.Last(ctx, "another log")
	require.NoError(t, err)
	require.Nil(t, last)
}
