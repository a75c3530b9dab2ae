package schema_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/schema"
	"github.com/caresphere/caresphere/internal/testkit"
)

// The job queue's tables are written in our own migrations: they must be what the
// version of River in go.mod expects, and one that is missing must be told.
func TestControlHoldsRiversTables(t *testing.T) {
	ctx := t.Context()
	db := testkit.ControlDB(t)
	owner := db.DSN("platform_owner")

	again, err := schema.Control(ctx, owner)
	require.NoError(t, err)
	require.Zero(t, again, "migrating twice must apply nothing")

	super, err := pg.Connect(ctx, db.Superuser(t), pg.Options{ApplicationName: "test"})
	require.NoError(t, err)
	defer func() { _ = super.Close(ctx) }()
	_, err = super.Exec(ctx, "DELETE FROM river_migration WHERE version = (SELECT max(version) FROM river_migration)")
	require.NoError(t, err)
	_, err = schema.Control(ctx, owner)
	require.ErrorContains(t, err, "do not fit this version of River")
}
