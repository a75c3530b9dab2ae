package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/client"
	"github.com/caresphere/caresphere/internal/devstack"
	"github.com/caresphere/caresphere/internal/isolation"
	"github.com/caresphere/caresphere/internal/testkit/prove"
	"github.com/caresphere/caresphere/tenants"
)

// No other test runs beside this one: a gate that closes in the middle of a proof
// of all tenants would be in it.
func TestTheRunningStackIsProvenByCommand(t *testing.T) {
	w := here(t)
	w.other(t)
	drifting := w.tenant(t, "drifting")
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte(w.operator(t).Token()+"\n"), 0o600))
	public := w.Layout().Path("keys", "isolation.pub")

	file := filepath.Join(t.TempDir(), "isolation.json")
	out, complaint, exit := w.caresphere(t, "isolation", "prove", "--all", "--token-file", token, "--out", file)
	require.Zero(t, exit, "%s%s", out, complaint)
	require.NotContains(t, out, "FOUND")
	out, complaint, exit = w.caresphere(t, "isolation", "verify", file, "--key", public)
	require.Zero(t, exit, "%s%s", out, complaint)
	tried, unproven := judged(t, file)
	require.GreaterOrEqual(t, tried, 2)
	prove.State(t, prove.IsolationStack, tried, unproven)

	// The twin: one policy less.
	id, err := tenants.ParseID(drifting.ID)
	require.NoError(t, err)
	db := w.database(t, devstack.CellDatabase)
	_, err = db.Exec(within(t, 10*time.Second), "DROP POLICY client_select ON "+tenants.SchemaName(id)+".client")
	require.NoError(t, err)
	out, complaint, exit = w.caresphere(t, "isolation", "prove", "--all", "--json", "--token-file", token)
	require.Equal(t, 1, exit, "%s%s", out, complaint)
	require.Contains(t, out, "policy client_select is missing")
	// What it prints is the signed report itself.
	require.NoError(t, os.WriteFile(file, []byte(out), 0o600))
	out, complaint, exit = w.caresphere(t, "isolation", "verify", file, "--key", public)
	require.Zero(t, exit, "%s%s", out, complaint)
	_, unproven = judged(t, file)
	require.Equal(t, 1, unproven, "the others are as proven as before")
	until(t, 10*time.Second, "the tenant that drifted is refused", func() (bool, string) {
		err := drifting.Nurse.Tenant(drifting.Slug).Do(within(t, 5*time.Second), http.MethodGet, "/clients", nil, nil)
		return client.StatusOf(err) == http.StatusNotFound, fmt.Sprint(err)
	})
	w.served(t, w.other(t))
	prove.Plant(t, prove.IsolationStack, 1, unproven)
	out, complaint, exit = w.caresphere(t, "isolation", "repair", "--tenant", drifting.Slug, "--apply", "--token-file", token)
	require.Zero(t, exit, "%s%s", out, complaint)
}

// judged counts the tenants of a signed report, and those that are not proven.
func judged(t *testing.T, file string) (tried, unproven int) {
	t.Helper()
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	var signed struct{ Report isolation.Report }
	require.NoError(t, json.Unmarshal(content, &signed))
	for _, one := range signed.Report.Tenants {
		tried++
		if one.Verdict != isolation.Proven {
			unproven++
		}
	}
	return tried, unproven
}
