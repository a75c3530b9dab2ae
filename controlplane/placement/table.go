package placement

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/caresphere/caresphere/controlplane/acts"
	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/tenants"
)

// Table reads the whole route table of one moment: version, routes and workers
// come from one snapshot, so that two control planes make the same table of the
// same version. Only a gate that is not closed, in a place that exists, has a route.
func Table(ctx context.Context, pool *pgxpool.Pool) (tenants.RouteTable, error) {
	t := tenants.RouteTable{Routes: []tenants.Route{}, Workers: []tenants.Worker{}}
	err := pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		q := store.New(tx)
		var err error
		if t.Version, err = q.RouteVersion(ctx); err != nil {
			return fmt.Errorf("reading the version: %w", err)
		}
		if t.IssuedAt, err = acts.DatabaseClock(ctx, tx); err != nil {
			return err
		}
		routes, err := q.PlacementRoutes(ctx)
		if err != nil {
			return fmt.Errorf("reading routes: %w", err)
		}
		for _, r := range routes {
			t.Routes = append(t.Routes, tenants.Route{Slug: r.Slug, TenantID: r.ID, CellID: *r.CellID,
				Epoch: r.PlacementEpoch, Mode: tenants.GateMode(r.GateMode), NotAfter: r.GateUntil.UTC()})
		}
		workers, err := q.PlacementWorkers(ctx)
		if err != nil {
			return fmt.Errorf("reading workers: %w", err)
		}
		for _, w := range workers {
			t.Workers = append(t.Workers, tenants.Worker{ID: w.ID, CellID: w.CellID, URL: w.Url})
		}
		return nil
	})
	if err != nil {
		return tenants.RouteTable{}, fmt.Errorf("building the route table: %w", err)
	}
	return t, nil
}
