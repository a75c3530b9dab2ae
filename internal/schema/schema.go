// Package schema brings the control database and a cell's database to the
// current version. It owns the order and the version tables; the SQL is in package
// migrations, the job queue's tables included. It runs as the databases' owner
// roles and never as a superuser. Tenants' schemas are the provisioner's.
package schema

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"strings"

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
	return n, checkRiver(ctx, dsn)
}

// Cell migrates what the tenants of a cell share, as cell_owner.
func Cell(ctx context.Context, dsn string) (int, error) {
	n, err := pg.Migrate(ctx, dsn, migrations.Cell, "cell", pg.MigrateOptions{})
	if err != nil {
		return n, fmt.Errorf("migrating the cell database: %w", err)
	}
	return n, nil
}

// checkRiver holds the job queue's tables, which are among our migrations, against
// the version of River that this program was built with.
func checkRiver(ctx context.Context, dsn string) error {
	pool, err := pg.Open(ctx, dsn, pg.Options{ApplicationName: "migrate", MaxConns: 1})
	if err != nil {
		return fmt.Errorf("connecting to the control database: %w", err)
	}
	defer pool.Close()
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), nil)
	if err != nil {
		return fmt.Errorf("reading River's migrations: %w", err)
	}
	found, err := migrator.Validate(ctx, nil)
	if err != nil {
		return fmt.Errorf("reading the version of River's tables: %w", err)
	}
	if !found.OK {
		return fmt.Errorf("the job queue's tables do not fit this version of River: %s", strings.Join(found.Messages, "; "))
	}
	return nil
}

// Hash names the state that Control and Cell lead to: it changes with any
// migration.
func Hash() (string, error) {
	h := sha256.New()
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
