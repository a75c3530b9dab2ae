package census

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/caresphere/caresphere/controlplane/acts"
	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/pause"
	"github.com/caresphere/caresphere/tenants"
)

// Routes returns the route table that routers and workers are handed now.
type Routes func(ctx context.Context) (tenants.RouteTable, error)

// routeSettle is longer than a decision about a gate takes to be in the table: a gate is
// decided anew every two seconds, and a table made within one.
const routeSettle = 5 * time.Second

// What a finding can say of a route.
const (
	shut     = "leads to an organization whose gate has to be closed"
	astray   = "leads to another cell than its organization's"
	misnamed = "bears another name than its organization"
	wrongFor = "is open for another use, or another time, than its organization's gate"
)

// paths compares the table with the gates that follow from each organization's state,
// agreement and key. A change takes a moment to reach the table: what two looks both see is
// a finding.
func (c Config) paths(ctx context.Context, report *Report) error {
	found, err := c.wrongRoutes(ctx, report)
	if err != nil || len(found) == 0 {
		return err
	}
	settle := c.RouteSettle
	if settle <= 0 {
		settle = routeSettle
	}
	if err := pause.For(ctx, settle); err != nil {
		return err
	}
	again, err := c.wrongRoutes(ctx, report)
	if err != nil {
		return err
	}
	for _, f := range again {
		if slices.Contains(found, f) {
			report.Findings = append(report.Findings, f)
		}
	}
	return nil
}

func (c Config) wrongRoutes(ctx context.Context, report *Report) (found []Finding, err error) {
	table, err := c.Routes(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the route table: %w", err)
	}
	now, err := acts.DatabaseClock(ctx, c.Control)
	if err != nil {
		return nil, err
	}
	rows, err := store.New(c.Control).CensusRoutes(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing what routes rest on: %w", err)
	}
	owed := map[tenants.ID]store.CensusRoutesRow{}
	for _, o := range rows {
		owed[o.ID] = o
	}
	routed := map[tenants.ID]bool{}
	report.Things[Route] = 0
	for _, r := range table.Routes {
		routed[r.TenantID] = true
		o, known := owed[r.TenantID]
		if r.CellID == c.CellID {
			report.Things[Route]++
		} else if o.Cell != c.CellID {
			continue
		}
		problem := orphan
		if known {
			problem = wrongRoute(r, o, now)
		}
		if problem != "" {
			found = append(found, Finding{Kind: Route, Name: r.Slug, Slug: o.Slug, Problem: problem})
		}
	}
	for _, o := range rows {
		// One that is being provisioned gets its route with a step of its own.
		if o.Cell == c.CellID && complete(tenants.State(o.State)) && !routed[o.ID] && gate(o, now).Mode != tenants.GateClosed {
			found = append(found, Finding{Kind: Route, Name: o.Slug, Slug: o.Slug, Problem: missing})
		}
	}
	return found, nil
}

// wrongRoute says what is wrong with a route of an organization, nothing if it is right.
func wrongRoute(r tenants.Route, o store.CensusRoutesRow, now time.Time) string {
	decided := gate(o, now)
	switch {
	case decided.Mode == tenants.GateClosed:
		return shut
	case r.CellID != o.Cell:
		return astray
	case r.Slug != o.Slug:
		return misnamed
	case r.Mode != decided.Mode || !r.NotAfter.Equal(agreed(o).ExpiresAt):
		return wrongFor
	}
	return ""
}

func gate(o store.CensusRoutesRow, now time.Time) tenants.Gate {
	return tenants.DecideGate(tenants.State(o.State), agreed(o), o.KeyAlive, now)
}

func agreed(o store.CensusRoutesRow) (b tenants.BAA) {
	if o.BaaID != nil && o.BaaState != nil && o.ExecutedAt != nil && o.ExpiresAt != nil {
		b = tenants.BAA{ID: *o.BaaID, OrganizationID: o.ID, State: tenants.BAAState(*o.BaaState), ExecutedAt: *o.ExecutedAt, ExpiresAt: *o.ExpiresAt}
	}
	return b
}
