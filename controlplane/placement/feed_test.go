package placement_test

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/cptest"
	"github.com/caresphere/caresphere/controlplane/placement"
	"github.com/caresphere/caresphere/tenants"
)

// TestManyChangesMakeFewLargeTables signs slowly, as a table of many tenants is: between
// two tables there is a rest in proportion, and the last change arrives all the same.
func TestManyChangesMakeFewLargeTables(t *testing.T) {
	t.Parallel()
	w := cptest.New(t)
	o := w.Organization(t, "haven")
	w.Execute(t, o)
	w.Live(t, o)
	type made struct{ begun, done time.Time }
	var mu sync.Mutex
	var tables []made
	f := placement.NewFeed(w.Pool, func(table tenants.RouteTable) ([]byte, error) {
		begun := time.Now()
		<-time.After(20 * time.Millisecond) // the work
		mu.Lock()
		defer mu.Unlock()
		tables = append(tables, made{begun, time.Now()})
		return json.Marshal(table)
	})
	run, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); f.Run(run, func(err error) { t.Error(err) }) }()
	require.Eventually(t, func() bool {
		doc, err := f.Next(ctx, 0, time.Second)
		return err == nil && doc != nil
	}, 20*time.Second, time.Millisecond)
	for range 10 {
		require.NoError(t, w.Fleet.Suspend(ctx, cptest.Operator().Actor, o.ID, "for the test"))
		require.NoError(t, w.Fleet.Resume(ctx, cptest.Operator().Actor, o.ID, "for the test"))
	}
	require.NoError(t, w.Fleet.Suspend(ctx, cptest.Operator().Actor, o.ID, "for the test"))
	last := version(t, w)
	require.Eventually(t, func() bool {
		doc, err := f.Next(ctx, last-1, time.Second)
		return err == nil && doc != nil
	}, 20*time.Second, time.Millisecond)
	doc, err := f.Next(ctx, 0, time.Second)
	require.NoError(t, err)
	var table tenants.RouteTable
	require.NoError(t, json.Unmarshal(doc, &table))
	require.Empty(t, table.Routes)
	stop()
	<-ended
	require.Greater(t, len(tables), 1)
	for k := 1; k < len(tables); k++ {
		before := tables[k-1]
		require.Greater(t, tables[k].begun.Sub(before.done), 4*before.done.Sub(before.begun))
	}
}
