// Package schema brings the control database and a cell's database to the
// current version: our migrations, River's tables and the grants on them. It
// owns the order and the version tables; the SQL is in package migrations. It
// runs as the databases' owner roles and never as a superuser. Tenants' schemas
// are the provisioner's.
package schema

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/migrations"
)

// Control migrates the control database as its owner, platform_owner. It returns
// how many migrations were applied; repeating it applies none.
func Control(ctx context.Context, dsn string) (int, error) {
	n, err := pg.Migrate(ctx, dsn, migrations.Control, "control", pg.MigrateOptions{})
	if err != nil {
		return n, fmt.Errorf("migrating the control database: %w", err)
	}
	m, err := river(ctx, dsn)
	return n + m, err
}

// Cell migrates what the tenants of a cell share, as cell_owner.
func Cell(ctx context.Context, dsn string) (int, error) {
	n, err := pg.Migrate(ctx, dsn, migrations.Cell, "cell", pg.MigrateOptions{})
	if err != nil {
		return n, fmt.Errorf("migrating the cell database: %w", err)
	}
	return n, nil
}

// The control plane inserts jobs in the transaction of what caused them; the
// provisioner works them off.
const riverGrants = `
GRANT SELECT, INSERT, UPDATE ON river_job TO controlplane;
GRANT USAGE ON SEQUENCE river_job_id_seq TO controlplane, provisioner;
GRANT SELECT, INSERT, UPDATE, DELETE ON river_job, river_leader, river_queue TO provisioner;
GRANT SELECT ON river_migration TO controlplane, provisioner;`

func river(ctx context.Context, dsn string) (int, error) {
	pool, err := pgxpool.New(ctx, dsn)
	if err != nil {
		return 0, fmt.Errorf("connecting to the control database: %w", err)
	}
	defer pool.Close()
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), nil)
	if err != nil {
		return 0, fmt.Errorf("reading River's migrations: %w", err)
	}
	done, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	if err != nil {
		return 0, fmt.Errorf("migrating River's tables: %w", err)
	}
	if _, err := pool.Exec(ctx, riverGrants); err != nil {
		return len(done.Versions), fmt.Errorf("granting River's tables: %w", err)
	}
	return len(done.Versions), nil
}

// Hash names the state that Control and Cell lead to: it changes with any
// migration and with the grants.
func Hash() (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n", riverGrants)
	for _, set := range []fs.FS{migrations.Control, migrations.Cell} {
		err := fs.WalkDir(set, ".", func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			content, err := fs.ReadFile(set, path)
			fmt.Fprintf(h, "%s %d\n", path, len(content))
			h.Write(content)
			return err
		})
		if err != nil {
			return "", fmt.Errorf("reading the migrations: %w", err)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8]), nil
}
