package reconcile

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

//go:embed catalog.sql
var catalogSQL string

//go:embed posture.sql
var postureSQL string

// readCatalog reads what the cell's database knows now, as its sealer.
func readCatalog(ctx context.Context, db *pgxpool.Pool) (*catalog, error) {
	c := &catalog{schemas: map[string]bool{}, clinical: map[string]bool{}, trail: map[string]bool{}, all: map[string]bool{}, others: map[string]bool{},
		functions: map[string]bool{}, ours: map[string]bool{}, keywords: map[string]bool{}}
	into := map[string]map[string]bool{"schema": c.schemas, "clinical": c.clinical, "trail": c.trail, "table": c.all, "other": c.others,
		"function": c.functions, "ours": c.ours, "keyword": c.keywords}
	rows, err := db.Query(ctx, catalogSQL)
	if err != nil {
		return nil, fmt.Errorf("reading the catalog: %w", err)
	}
	var what, name string
	if _, err := pgx.ForEachRow(rows, []any{&what, &name}, func() error {
		into[what][name] = true
		return nil
	}); err != nil {
		return nil, fmt.Errorf("reading the catalog: %w", err)
	}
	if err := db.QueryRow(ctx, "SELECT current_database()").Scan(&c.database); err != nil {
		return nil, fmt.Errorf("reading the database's name: %w", err)
	}
	c.declared, err = declaredStatements()
	return c, err
}

// readPosture returns in what way the record is not kept as it must be.
func readPosture(ctx context.Context, db *pgxpool.Pool) ([]string, error) {
	rows, err := db.Query(ctx, postureSQL)
	if err != nil {
		return nil, fmt.Errorf("reading what is recorded: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("reading what is recorded: %w", err)
	}
	return found, nil
}
