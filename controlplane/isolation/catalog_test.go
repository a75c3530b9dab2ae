package isolation

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/tenants"
)

// TestTheFactsOfOneTenantAreReadByIndex: a proof of all tenants that read all of the
// catalog for each would take the square of their number.
func TestTheFactsOfOneTenantAreReadByIndex(t *testing.T) {
	conn, err := pgx.Connect(t.Context(), testkit.CellDB(t).Superuser(t))
	require.NoError(t, err)
	defer func() { _ = conn.Close(t.Context()) }()
	name := tenants.SchemaName(tenants.NewID())
	require.Empty(t, testkit.Unindexed(t, conn, testkit.CatalogKeys, factsSQL, name, name, ledger))
	// What searches all schemas is seen to read them all.
	require.NotEmpty(t, testkit.Unindexed(t, conn, testkit.CatalogKeys, hiddenSQL))
}
