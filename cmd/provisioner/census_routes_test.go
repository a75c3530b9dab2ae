package main

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/placement"
	"github.com/caresphere/caresphere/internal/testkit/prove"
	"github.com/caresphere/caresphere/tenants"
)

// TestACensusNamesRoutesThatAreWrong plants faults in what the table is made from, and in
// the table that is handed out.
func TestACensusNamesRoutesThatAreWrong(t *testing.T) {
	y := newYard(t, 2)
	r := y.census()
	require.Empty(t, says(r))
	require.Equal(t, 2, r.Things["route"])
	victim := y.tenants[0]
	slug := y.slug(victim)
	pool := y.open(y.control.DSN("controlplane"))
	handed := func(change func(*tenants.RouteTable)) func() []string {
		return func() []string {
			return says(y.censusOf(func(ctx context.Context) (tenants.RouteTable, error) {
				table, err := placement.Table(ctx, pool)
				change(&table)
				return table, err
			}))
		}
	}
	of := func(change func(*tenants.Route)) func() []string {
		return handed(func(table *tenants.RouteTable) {
			for i, r := range table.Routes {
				if r.TenantID == victim {
					change(&table.Routes[i])
				}
			}
		})
	}
	stored := func(plant, undo string) func() []string {
		return func() []string {
			y.exec(plant, victim)
			defer y.exec(undo, victim)
			return says(y.census())
		}
	}
	var gone tenants.Route
	planted := 0
	faults := []struct {
		wanted string
		look   func() []string
	}{
		{"route nobody: belongs to no organization", handed(func(table *tenants.RouteTable) {
			table.Routes = append(table.Routes, tenants.Route{Slug: "nobody", TenantID: tenants.NewID(), CellID: "main", Mode: tenants.GateOpen, NotAfter: time.Now().Add(time.Hour)})
		})},
		{"route " + slug + " of " + slug + ": leads to another cell than its organization's", of(func(r *tenants.Route) { r.CellID = "other" })},
		{"route stranger of " + slug + ": bears another name than its organization", of(func(r *tenants.Route) { r.Slug = "stranger" })},
		{"route " + slug + " of " + slug + ": is open for another use, or another time, than its organization's gate", of(func(r *tenants.Route) { r.NotAfter = r.NotAfter.Add(time.Hour) })},
		{"route " + slug + " of " + slug + ": is open for another use, or another time, than its organization's gate", of(func(r *tenants.Route) { r.Mode = tenants.GateReadOnly })},
		{"route " + slug + " of " + slug + ": is missing", handed(func(table *tenants.RouteTable) {
			for i, r := range table.Routes {
				if r.TenantID == victim {
					gone, table.Routes = r, append(table.Routes[:i], table.Routes[i+1:]...)
					return
				}
			}
		})},
		{"route " + slug + " of " + slug + ": is missing", stored(`UPDATE organization SET gate_mode = 'closed' WHERE id = $1`, `UPDATE organization SET gate_mode = 'open' WHERE id = $1`)},
		{"route " + slug + " of " + slug + ": leads to an organization whose gate has to be closed",
			stored(`UPDATE organization SET state = 'suspended' WHERE id = $1`, `UPDATE organization SET state = 'live' WHERE id = $1`)},
		{"route " + slug + " of " + slug + ": leads to an organization whose gate has to be closed",
			stored(`UPDATE organization SET key_alive = false WHERE id = $1`, `UPDATE organization SET key_alive = true WHERE id = $1`)},
	}
	for _, f := range faults {
		if assert.Equal(t, []string{f.wanted}, f.look()) {
			planted++
		}
	}
	prove.Plant(t, prove.Census, len(faults), planted)
	require.Equal(t, victim, gone.TenantID)
	require.Empty(t, says(y.census()), "and nothing of it stayed")

	// A change that is on its way to the table is no finding.
	looks := 0
	require.Empty(t, says(y.censusOf(func(ctx context.Context) (tenants.RouteTable, error) {
		table, err := placement.Table(ctx, pool)
		if looks++; looks == 1 {
			table.Routes = nil
		}
		return table, err
	})))
	require.Equal(t, 2, looks)
}
