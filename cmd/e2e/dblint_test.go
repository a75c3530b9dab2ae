//go:build dblint

package e2e_test

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/dataplane/dptest"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/tenants"
)

// dblint runs the linter of schemas, the command that `make lint-sql` gives in
// CARESPHERE_DBLINT, against a database.
func dblint(t *testing.T, dsn string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	command := strings.Fields(os.Getenv("CARESPHERE_DBLINT"))
	require.NotEmpty(t, command, "make lint-sql runs this test")
	cmd := exec.CommandContext(ctx, command[0], append(command[1:], "dblint", "--config-path=.ci/dblint.jsonc", "--colors=off",
		"--error-on-warnings", "--diagnostic-level=warn", "--max-diagnostics=none", "--connection-string="+dsn)...)
	cmd.Dir = "../.."
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestSchemasPassTheLinter(t *testing.T) {
	cell := dptest.Start(t)
	cell.Tenant(t, "linted", tenants.Residential)
	for name, dsn := range map[string]string{"control": testkit.ControlDB(t).Superuser(t), "cell": cell.DB.Superuser(t)} {
		out, err := dblint(t, dsn)
		require.NoError(t, err, "%s: %s", name, out)
	}
	// Each fault by itself is found.
	for fault, plant := range map[string]string{
		"policyExistsRlsDisabled":   `CREATE TABLE public.planted (id int PRIMARY KEY); CREATE POLICY p ON public.planted USING (true)`,
		"functionSearchPathMutable": `CREATE FUNCTION public.planted() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'`,
		"duplicateIndex":            `CREATE TABLE public.planted (id int PRIMARY KEY, a int); CREATE INDEX a1 ON public.planted (a); CREATE INDEX a2 ON public.planted (a)`,
	} {
		db := testkit.ControlDB(t)
		conn, err := pgx.Connect(t.Context(), db.Superuser(t))
		require.NoError(t, err)
		_, err = conn.Exec(t.Context(), plant)
		require.NoError(t, err)
		require.NoError(t, conn.Close(t.Context()))
		out, err := dblint(t, db.Superuser(t))
		require.Error(t, err, fault)
		require.Contains(t, out, fault)
	}
}
