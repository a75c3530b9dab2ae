package pg

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

// MigrateOptions say where a set of migrations goes.
type MigrateOptions struct {
	// Schema is where the set's objects and its version table go: it becomes the
	// session's search_path. Empty means public. The schema must exist.
	Schema string
	// Settings are set for the session, for migrations that read them with
	// current_setting, as the name of the role that gets the grants.
	Settings map[string]string
	// VersionTable is the table that records what was applied; each set has its
	// own. It defaults to schema_version.
	VersionTable string
	// LockTimeout ends the wait for a lock, so that a migration behind a long
	// reader does not queue all other readers behind itself. It defaults to 5 s.
	LockTimeout time.Duration
}

// Migrate applies those migrations of dir in fsys that the database does not have
// yet, in order, each in a transaction of its own with its version record: a kill
// at any point leaves whole migrations. It returns how many were applied.
func Migrate(ctx context.Context, dsn string, fsys fs.FS, dir string, o MigrateOptions) (int, error) {
	cfg, err := connConfig(dsn, Options{
		ApplicationName:  "caresphere-migrate",
		SearchPath:       o.Schema,
		Params:           o.Settings,
		StatementTimeout: -1,
		LockTimeout:      positive(o.LockTimeout, 5*time.Second),
	})
	if err != nil {
		return 0, err
	}
	db := stdlib.OpenDB(*cfg)
	defer func() { _ = db.Close() }()
	db.SetMaxOpenConns(1)
	return migrate(ctx, db, fsys, dir, o)
}

func migrate(ctx context.Context, db *sql.DB, fsys fs.FS, dir string, o MigrateOptions) (int, error) {
	set, err := fs.Sub(fsys, dir)
	if err != nil {
		return 0, fmt.Errorf("opening migrations %q: %w", dir, err)
	}
	table, schema := o.VersionTable, o.Schema
	if table == "" {
		table = "schema_version"
	}
	if schema == "" {
		schema = "public"
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, set,
		goose.WithTableName(schema+"."+table), goose.WithDisableGlobalRegistry(true),
		goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return 0, fmt.Errorf("reading migrations %q: %w", dir, err)
	}
	results, err := provider.Up(ctx)
	if err != nil {
		return len(results), fmt.Errorf("applying migrations %q: %w", dir, err)
	}
	return len(results), nil
}

// LatestVersion returns the number of the last migration of dir in fsys.
func LatestVersion(fsys fs.FS, dir string) (int64, error) {
	all, err := Versions(fsys, dir)
	if err != nil || len(all) == 0 {
		return 0, err
	}
	return slices.Max(all), nil
}

// Versions returns the numbers of the migrations of dir in fsys.
func Versions(fsys fs.FS, dir string) ([]int64, error) {
	entries, err := fs.ReadDir(fsys, dir)
	if err != nil {
		return nil, fmt.Errorf("reading migrations %q: %w", dir, err)
	}
	all := []int64{}
	for _, e := range entries {
		if n, err := goose.NumericComponent(e.Name()); err == nil {
			all = append(all, n)
		}
	}
	return all, nil
}
