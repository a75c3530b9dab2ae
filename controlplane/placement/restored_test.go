package placement_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/cptest"
	"github.com/caresphere/caresphere/controlplane/placement"
	"github.com/caresphere/caresphere/tenants"
)

const raised = `SELECT count(*) FROM audit_entry WHERE action = 'routes.raise'`

// A reader that is ahead of a restored database gets a table above its own.
func TestAReaderAheadOfTheDatabaseIsOvertaken(t *testing.T) {
	t.Parallel()
	w := cptest.New(t)
	o := w.Organization(t, "haven")
	w.Execute(t, o)
	w.Live(t, o)
	f := placement.NewFeed(w.Pool, unsigned)
	require.NoError(t, f.Refresh(ctx))
	first := version(t, w)

	// The twins: one who is not ahead, and one who read from a faster feed.
	doc, err := f.Next(ctx, first, time.Millisecond)
	require.NoError(t, err)
	assert.Nil(t, doc)
	w.Super(t, "UPDATE route_version SET version = version + 1")
	doc, err = f.Next(ctx, first+1, time.Millisecond)
	require.NoError(t, err)
	assert.Nil(t, doc)
	assert.Equal(t, first+1, version(t, w))
	_, err = f.Next(ctx, 1<<60, time.Millisecond)
	assert.Equal(t, tenants.KindInvalid, tenants.KindOf(err), "a version that cannot be uses none up: %v", err)
	assert.Equal(t, first+1, version(t, w))
	assert.Equal(t, "0", w.Value(t, raised))

	w.BreakAudit(t, "routes.raise")
	_, err = f.Next(ctx, first+40, time.Millisecond)
	require.ErrorContains(t, err, "planted")
	assert.Equal(t, first+1, version(t, w))
	w.RepairAudit(t)

	run, stop := context.WithCancel(ctx)
	defer stop()
	go f.Run(run, func(err error) { t.Error(err) })
	doc, err = f.Next(ctx, first+40, 20*time.Second)
	require.NoError(t, err)
	require.NotNil(t, doc)
	var table tenants.RouteTable
	require.NoError(t, json.Unmarshal(doc, &table))
	assert.Equal(t, first+41, table.Version)
	assert.Equal(t, first+41, version(t, w), "and stays so for the other control planes")
	assert.Len(t, table.Routes, 1)
	assert.Equal(t, "1", w.Value(t, raised))
}

// A database that goes back under a feed has the feed's readers follow all the same.
func TestAFeedOvertakesItselfWhenTheDatabaseGoesBack(t *testing.T) {
	t.Parallel()
	w := cptest.New(t)
	o := w.Organization(t, "haven")
	w.Execute(t, o)
	w.Live(t, o)
	w.Super(t, "UPDATE route_version SET version = 100")
	f := placement.NewFeed(w.Pool, unsigned)
	require.NoError(t, f.Refresh(ctx))
	require.NoError(t, f.Refresh(ctx))
	assert.Equal(t, "0", w.Value(t, raised))
	w.Super(t, "UPDATE route_version SET version = 3")
	w.Super(t, "UPDATE organization SET gate_mode = 'closed' WHERE id = $1", o.ID)
	require.NoError(t, f.Refresh(ctx))
	doc, err := f.Next(ctx, 100, time.Millisecond)
	require.NoError(t, err)
	require.NotNil(t, doc)
	var table tenants.RouteTable
	require.NoError(t, json.Unmarshal(doc, &table))
	assert.Equal(t, int64(101), table.Version)
	assert.Empty(t, table.Routes)
	assert.Equal(t, "1", w.Value(t, raised))
}
