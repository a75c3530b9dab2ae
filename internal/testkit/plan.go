package testkit

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// Unindexed plans the statement as if each of the tables named in by had millions of
// rows, and returns their scans that no condition on one of their columns there narrows:
// each would read all rows. The columns are those that lead an index. Nothing is run; the
// connection is a superuser's.
func Unindexed(t testing.TB, conn *pgx.Conn, by map[string][]string, sql string, args ...any) (found []string) {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	// The planner takes the rows of a page from the catalog and the pages from the file,
	// which for an empty table has none.
	_, err = tx.Exec(t.Context(), `CREATE TABLE planned (n int PRIMARY KEY DEFAULT 1 CHECK (n > 0)); CREATE POLICY planned ON planned;
		CREATE TRIGGER planned BEFORE UPDATE ON planned FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()`)
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `UPDATE pg_class SET relpages = 1, reltuples = 1e6 WHERE oid = ANY($1::text[]::regclass[])
		OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = ANY($1::text[]::regclass[]))`, slices.Collect(maps.Keys(by)))
	require.NoError(t, err)
	var text string
	require.NoError(t, tx.QueryRow(t.Context(), `EXPLAIN (FORMAT JSON) `+sql, args...).Scan(&text))
	var plans []struct{ Plan planNode }
	require.NoError(t, json.Unmarshal([]byte(text), &plans))
	seen := 0
	for _, p := range plans {
		p.Plan.walk(func(n planNode) {
			columns, named := by[n.Table]
			if !named {
				return
			}
			seen++
			cond := ""
			if strings.Contains(n.Type, "Index") || strings.Contains(n.Type, "Bitmap") {
				n.walk(func(n planNode) { cond += n.Cond + " " })
			}
			for _, c := range columns {
				if strings.Contains(cond, c+" = ") {
					return
				}
			}
			found = append(found, fmt.Sprintf("%s of %s by %q", n.Type, n.Table, cond))
		})
	}
	require.NotZero(t, seen, "the plan reads none of these tables")
	return found
}

type planNode struct {
	Type  string     `json:"Node Type"`
	Table string     `json:"Relation Name"`
	Cond  string     `json:"Index Cond"`
	Plans []planNode `json:"Plans"`
}

func (n planNode) walk(visit func(planNode)) {
	visit(n)
	for _, p := range n.Plans {
		p.walk(visit)
	}
}

// CatalogKeys are the columns by which PostgreSQL's catalogs can be read without reading
// all of them, those of each that grow with the number of schemas. One is left out,
// pg_shdepend: how it is read follows from what the server's other databases hold.
var CatalogKeys = map[string][]string{
	"pg_class": {"oid"}, "pg_proc": {"oid"}, "pg_type": {"oid"}, "pg_depend": {"refclassid", "classid"},
	"pg_attribute": {"attrelid"}, "pg_constraint": {"oid", "conrelid"}, "pg_index": {"indrelid", "indexrelid"}, "pg_trigger": {"tgrelid"},
	"pg_policy": {"polrelid"}, "pg_attrdef": {"adrelid"}, "pg_rewrite": {"ev_class"}, "pg_namespace": {"oid", "nspname"}, "pg_authid": {"oid", "rolname"},
}
