package provisioning

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/tenants"
)

// TestALookAtOneTenantReadsNoWholeCatalog: among ten thousand tenants the catalog has
// more than a million rows, and every step of provisioning looks.
func TestALookAtOneTenantReadsNoWholeCatalog(t *testing.T) {
	conn, err := pgx.Connect(t.Context(), testkit.CellDB(t).Superuser(t))
	require.NoError(t, err)
	defer func() { _ = conn.Close(t.Context()) }()
	name := tenants.SchemaName(tenants.NewID())
	require.Empty(t, testkit.Unindexed(t, conn, testkit.CatalogKeys, isolationSQL, name, name, versionTable))

	// The same by the schema, or by a condition that is tried on each row, is found.
	for _, sql := range []string{
		`SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace($1)`,
		`SELECT c.relname FROM pg_namespace n, pg_class c WHERE n.nspname = $1 AND c.oid IN (SELECT d.objid FROM pg_depend d
			WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid AND d.classid = 'pg_class'::regclass)`,
	} {
		found := testkit.Unindexed(t, conn, testkit.CatalogKeys, sql, name)
		require.Len(t, found, 1)
		require.True(t, strings.Contains(found[0], "pg_class"), found)
	}
}
