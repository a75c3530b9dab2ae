package provisioning

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/migrations"
	"github.com/caresphere/caresphere/tenants"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"
)

const (
	// migrationLockTimeout keeps a migration behind a long reader from queueing the
	// tenant's other requests behind itself.
	migrationLockTimeout = 500 * time.Millisecond
	migrationTries       = 20
	migrationsAtOnce     = 4
)

// Progress is how far the migration of all tenants is.
type Progress struct {
	Tenant tenants.ID
	// Done counts the tenants at the latest version, of Total.
	Done, Total int
	Err         error
}

// Fanout is what migrating the tenants of one cell needs.
type Fanout struct {
	// Control is a pool of the provisioner's role in the control database.
	Control *pgxpool.Pool
	// CellDSN logs in as cell_owner.
	CellDSN string
	CellID  string
	// Migrations holds the set in its folder "tenant"; nil is the one of this build.
	Migrations fs.FS
}

// MigrateTenants brings every tenant of the cell to the latest version: one alone
// first, whose failure stops everything, then four at a time. It may be killed and
// run again: what is done is not done again. A tenant that fails does not stop the
// others; the error names all that failed. report, if not nil, is called after each.
func (f Fanout) MigrateTenants(ctx context.Context, report func(Progress)) error {
	ids, err := store.New(f.Control).ProvisionedTenants(ctx, store.ProvisionedTenantsParams{CellID: &f.CellID, Step: StepTables})
	if err != nil {
		return fmt.Errorf("listing tenants: %w", err)
	}
	if len(ids) == 0 {
		return nil
	}
	var (
		mu     sync.Mutex
		done   int
		failed []error
	)
	one := func(ctx context.Context, id tenants.ID) error {
		err := f.migratePatiently(ctx, id)
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			done++
		} else {
			err = fmt.Errorf("tenant %s: %w", id, err)
			failed = append(failed, err)
		}
		if report != nil {
			report(Progress{Tenant: id, Done: done, Total: len(ids), Err: err})
		}
		return err
	}
	if err := one(ctx, ids[0]); err != nil {
		return fmt.Errorf("the first tenant failed, no other was touched: %w", err)
	}
	var group errgroup.Group
	group.SetLimit(migrationsAtOnce)
	for _, id := range ids[1:] {
		group.Go(func() error {
			if ctx.Err() == nil {
				_ = one(ctx, id)
			}
			return nil
		})
	}
	_ = group.Wait()
	return errors.Join(append(failed, ctx.Err())...)
}

// migratePatiently tries again while a table is busy, a little later each time.
func (f Fanout) migratePatiently(ctx context.Context, id tenants.ID) error {
	pause := 50 * time.Millisecond
	for try := 1; ; try++ {
		err := f.migrate(ctx, id)
		if err == nil || !pg.IsCode(err, "55P03") || try == migrationTries {
			return err
		}
		wait := time.NewTimer(pause/2 + rand.N(pause)) //nolint:gosec // scattering, no secret
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return ctx.Err()
		}
		pause = min(pause*2, 2*time.Second)
	}
}

// migrate brings one tenant's schema to the latest version, each migration in a
// transaction of its own.
func (f Fanout) migrate(ctx context.Context, tenant tenants.ID) error {
	var set fs.FS = migrations.Tenant
	if f.Migrations != nil {
		set = f.Migrations
	}
	_, err := pg.Migrate(ctx, f.CellDSN, set, "tenant", pg.MigrateOptions{
		Schema:       tenants.SchemaName(tenant),
		VersionTable: versionTable,
		Settings:     map[string]string{"caresphere.tenant_role": tenants.RoleName(tenant)},
		LockTimeout:  migrationLockTimeout,
	})
	return err
}
