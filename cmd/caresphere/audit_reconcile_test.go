package main

import (
	"bytes"
	"context"
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/audit/audittest"
	"github.com/caresphere/caresphere/internal/audit/reconcile"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/tenants"
)

func runReconcileCmd(t *testing.T, args ...string) (string, int) {
	t.Helper()
	c := rootCmd()
	var out bytes.Buffer
	c.SetOut(&out)
	c.SetErr(&out)
	c.SetArgs(append([]string{"audit", "reconcile"}, args...))
	err := c.ExecuteContext(context.Background())
	return out.String(), exitCode(err)
}

func TestAuditReconcile(t *testing.T) {
	cell := audittest.Cell(t)
	n := audittest.NewTenant(t, cell)
	super := audittest.Connect(t, audittest.Super, cell)
	var dir string
	require.NoError(t, super.QueryRow(context.Background(), "SHOW log_directory").Scan(&dir))
	t.Setenv("CARESPHERE_CELL_SEALER_DSN", testkit.Postgres(t).DSN(cell, "cell_sealer"))

	// Restricted to the tenant, what other tests do to the shared server stays out.
	report := func() reconcile.Report {
		out, code := runReconcileCmd(t, "--record", dir, "--tenant", n.ID.String(), "--since", "1h", "--json")
		var r reconcile.Report
		require.NoError(t, json.Unmarshal([]byte(out), &r), out)
		require.Equal(t, r.OK, code == 0)
		return r
	}
	mine := func(r reconcile.Report) (found []reconcile.Unmatched) {
		for _, u := range r.Unmatched {
			if u.Database == cell {
				found = append(found, u)
			}
		}
		return found
	}
	require.Empty(t, mine(report()))
	audittest.Exec(t, super, "SELECT 1 FROM "+n.Role+".client WHERE family_index = 'Doe'")
	require.Eventually(t, func() bool { return len(mine(report())) == 1 }, 20*time.Second, 50*time.Millisecond)
	u := mine(report())[0]
	require.Equal(t, []tenants.ID{n.ID}, u.Tenants)
	out, code := runReconcileCmd(t, "--record", dir, "--tenant", n.ID.String(), "--since", "1h")
	require.Equal(t, 1, code)
	require.Contains(t, out, "UNMATCHED")
	require.Contains(t, out, "family_index = ?")
	require.NotContains(t, out, "Doe")
	require.Contains(t, out, n.ID.String())
}

func TestAuditReconcileUsage(t *testing.T) {
	t.Setenv("CARESPHERE_STATE", filepath.Join(t.TempDir(), "none"))
	for name, args := range map[string][]string{
		"no stack": {"--all"}, "a time that is none": {"--from", "yesterday"}, "an end that is none": {"--to", "now"},
		"a negative time": {"--since", "-1h"}, "an argument": {"sunrise-gardens"},
		"both": {"--all", "--tenant", "x"}, "since and from": {"--since", "1h", "--from", "2026-01-01T00:00:00Z"}, "a slug without a stack": {"--tenant", "sunrise-gardens"},
	} {
		_, code := runReconcileCmd(t, args...)
		require.Equal(t, 2, code, name)
	}
}
