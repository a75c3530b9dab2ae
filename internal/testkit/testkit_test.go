package testkit_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/testkit"
)

func query(t *testing.T, dsn, sql string) (string, error) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), dsn)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close(context.Background()) }()
	var text string
	return text, conn.QueryRow(context.Background(), sql).Scan(&text)
}

func TestDatabasesAreMigratedAndSeparate(t *testing.T) {
	one, two := testkit.ControlDB(t), testkit.ControlDB(t)
	require.NotEqual(t, one.Name, two.Name)
	got, err := query(t, one.DSN("controlplane"), "SELECT count(*)::text FROM organization")
	require.NoError(t, err)
	require.Equal(t, "0", got)
	_, err = query(t, one.DSN("controlplane"), "SELECT count(*)::text FROM provisioning_lease")
	require.ErrorContains(t, err, "permission denied", "a role gets its own tables only")
	_, err = query(t, one.DSN("cell_worker"), "SELECT 'in'")
	require.Error(t, err, "a cell's role does not enter the control database")
	_, err = query(t, one.DSN("provisioner"), "SELECT count(*)::text FROM river_job")
	require.NoError(t, err)

	cell := testkit.CellDB(t)
	got, err = query(t, cell.DSN("cell_worker"), "SELECT count(*)::text FROM cell.tenant_credential")
	require.NoError(t, err)
	require.Equal(t, "0", got)
	_, err = query(t, cell.DSN("cell_worker"), "SELECT count(*)::text FROM cell.context_key")
	require.ErrorContains(t, err, "permission denied")
}
