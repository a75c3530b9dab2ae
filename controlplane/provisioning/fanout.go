package provisioning

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caresphere/caresphere/controlplane/store"
	"github.com/caresphere/caresphere/internal/pause"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/migrations"
	"github.com/caresphere/caresphere/tenants"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"
)

const (
	// migrationLockTimeout keeps a migration behind a long reader from queueing the
	// tenant's other requests behind itself.
	migrationLockTimeout = 500 * time.Millisecond
	migrationTries       = 20
	// MigrationsAtOnce is how many tenants are migrated at the same time.
	MigrationsAtOnce = 4
)

// Progress is how far the migration of all tenants is.
type Progress struct {
	// Tenant is who was migrated just now; NilID in the first report, of those that
	// had nothing to do.
	Tenant tenants.ID
	// Done counts the tenants at the latest version, of Total.
	Done, Total int
	Err         error
}

// Fanout is what migrating the tenants of one cell needs.
type Fanout struct {
	// Control is a pool of the provisioner's role in the control database.
	Control *pgxpool.Pool
	// Cell migrates as cell_owner, four at once.
	Cell   *pg.Migrator
	CellID string
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
	total := len(ids)
	if ids, err = f.behind(ctx, ids); err != nil {
		return err
	}
	var (
		mu     sync.Mutex
		done   = total - len(ids)
		failed []error
	)
	if done > 0 && report != nil {
		report(Progress{Done: done, Total: total})
	}
	if len(ids) == 0 {
		return nil
	}
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
			report(Progress{Tenant: id, Done: done, Total: total, Err: err})
		}
		return err
	}
	if err := one(ctx, ids[0]); err != nil {
		return fmt.Errorf("the first tenant failed, no other was touched: %w", err)
	}
	var group errgroup.Group
	group.SetLimit(MigrationsAtOnce)
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

// askedAtOnce is about how many tenants one statement asks.
const askedAtOnce = 50

// behind returns the tenants that do not have every migration of the set. Asking each
// by itself takes a connection of its own: with ten thousand, minutes for nothing to do.
func (f Fanout) behind(ctx context.Context, ids []tenants.ID) ([]tenants.ID, error) {
	want, err := pg.Versions(f.set(), "tenant")
	if err != nil {
		return nil, err
	}
	var out []tenants.ID
	for part := range slices.Chunk(ids, askedAtOnce) {
		var sql strings.Builder
		for i, id := range part {
			if i > 0 {
				sql.WriteString(" UNION ALL ")
			}
			fmt.Fprintf(&sql, "SELECT %d WHERE NOT $1::bigint[] <@ ARRAY(SELECT version_id FROM %s WHERE is_applied)",
				i, pgx.Identifier{tenants.SchemaName(id), versionTable}.Sanitize())
		}
		var at []int
		if err := f.Cell.InTx(ctx, func(tx pgx.Tx) error {
			rows, err := tx.Query(ctx, sql.String(), pgx.QueryExecModeExec, want)
			if err != nil {
				return err
			}
			at, err = pgx.CollectRows(rows, pgx.RowTo[int])
			return err
		}); err != nil {
			return nil, fmt.Errorf("asking tenants' versions: %w", err)
		}
		for _, i := range at {
			out = append(out, part[i])
		}
	}
	return out, nil
}

// set is what is migrated to.
func (f Fanout) set() fs.FS {
	if f.Migrations != nil {
		return f.Migrations
	}
	return migrations.Tenant
}

// migratePatiently tries again while a table is busy, a little later each time.
func (f Fanout) migratePatiently(ctx context.Context, id tenants.ID) error {
	wait := 50 * time.Millisecond
	for try := 1; ; try++ {
		err := f.migrate(ctx, id)
		if err == nil || !pg.IsCode(err, "55P03") || try == migrationTries {
			return err
		}
		if err := pause.For(ctx, wait/2+rand.N(wait)); err != nil { //nolint:gosec // scattering, no secret
			return err
		}
		wait = min(wait*2, 2*time.Second)
	}
}

// migrate brings one tenant's schema to the latest version, each migration in a
// transaction of its own.
func (f Fanout) migrate(ctx context.Context, tenant tenants.ID) error {
	_, err := f.Cell.Migrate(ctx, f.set(), "tenant", pg.MigrateOptions{
		Schema:       tenants.SchemaName(tenant),
		VersionTable: versionTable,
		Settings:     map[string]string{"caresphere.tenant_role": tenants.RoleName(tenant)},
		LockTimeout:  migrationLockTimeout,
	})
	return err
}
