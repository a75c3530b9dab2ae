package pg

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

// MigrateOptions say where a set of migrations goes.
type MigrateOptions struct {
	// Schema is where the set's objects and its version table go: it becomes the
	// connection's search_path. Empty means public. The schema must exist.
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
// at any point leaves whole migrations. It returns how many were applied. For many
// schemas, a Migrator keeps its connections.
func Migrate(ctx context.Context, dsn string, fsys fs.FS, dir string, o MigrateOptions) (int, error) {
	m, err := OpenMigrator(ctx, dsn, 1)
	if err != nil {
		return 0, err
	}
	defer m.Close()
	return m.Migrate(ctx, fsys, dir, o)
}

// Migrator migrates many schemas of one database over connections that it keeps.
// Safe for concurrent use.
type Migrator struct{ pool *pgxpool.Pool }

// migratorLife ends a connection that has seen many schemas: its server process
// remembers every table that it ever touched.
const migratorLife = time.Minute

// OpenMigrator returns a Migrator that migrates so many schemas at once. It does not
// connect. The error is ErrInsecure or says what is wrong with the connection string.
func OpenMigrator(ctx context.Context, dsn string, atOnce int32) (*Migrator, error) {
	pool, err := Open(ctx, dsn, Options{
		ApplicationName: "caresphere-migrate", StatementTimeout: -1, MaxConns: atOnce,
		MaxConnLifetime: migratorLife, MaxConnIdleTime: migratorLife / 2, OnAcquire: prepareMigration,
	})
	if err != nil {
		return nil, err
	}
	return &Migrator{pool: pool}, nil
}

// Close closes the connections.
func (m *Migrator) Close() { m.pool.Close() }

// InTx runs fn in a transaction outside any schema: to look at versions.
func (m *Migrator) InTx(ctx context.Context, fn func(pgx.Tx) error) error {
	return InTx(withMigration(ctx, MigrateOptions{}), m.pool, fn)
}

// Migrate is Migrate over a connection of the Migrator's.
func (m *Migrator) Migrate(ctx context.Context, fsys fs.FS, dir string, o MigrateOptions) (int, error) {
	db := stdlib.OpenDBFromPool(m.pool)
	defer func() { _ = db.Close() }()
	return migrate(withMigration(ctx, o), db, fsys, dir, o)
}

// migrationKey is the context's key for the MigrateOptions of a connection's next use.
type migrationKey struct{}

func withMigration(ctx context.Context, o MigrateOptions) context.Context {
	return context.WithValue(ctx, migrationKey{}, o)
}

// prepareMigration sets a connection up for one set of migrations. Whatever the one
// before it had set is gone first.
func prepareMigration(ctx context.Context, c *pgx.Conn) error {
	o, ok := ctx.Value(migrationKey{}).(MigrateOptions)
	if !ok {
		return errors.New("pg: a migrator's connection is for migrations only")
	}
	path := "public"
	if o.Schema != "" {
		path = pgx.Identifier{o.Schema}.Sanitize()
	}
	var b pgx.Batch
	b.Queue("RESET ALL")
	b.Queue("SELECT set_config('search_path', $1, false), set_config('lock_timeout', $2, false)", path, millis(positive(o.LockTimeout, 5*time.Second)))
	for name, value := range o.Settings {
		b.Queue("SELECT set_config($1, $2, false)", name, value)
	}
	if err := c.SendBatch(ctx, &b).Close(); err != nil {
		return fmt.Errorf("preparing a connection for migrations: %w", err)
	}
	return nil
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
