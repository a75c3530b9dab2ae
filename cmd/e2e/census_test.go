package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/devstack"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/internal/testkit/prove"
	"github.com/caresphere/caresphere/tenants"
)

// censusReport is what `caresphere census --json` prints.
type censusReport struct {
	Things   map[string]int
	Skipped  []string `json:"not_looked_at"`
	Findings []struct{ Kind, Name, Organization, Problem string }
}

// census takes one as an operator does. Other tests sign up meanwhile: settle keeps
// theirs out.
func (w *world) census(t *testing.T, settle string) (r censusReport) {
	t.Helper()
	out := w.runCensus(t, []string{"CARESPHERE_KRATOS_ADMIN_URL=" + w.URL(devstack.PortKratosAdmin), "CARESPHERE_TLS_CA=" + w.Layout().CA()}, "--json", "--settle", settle)
	require.NoError(t, json.Unmarshal([]byte(out), &r), "%s", out)
	return r
}

// runCensus runs the command in the provisioner's own environment, whatever keys and
// objects it has, and what is given besides. It returns what was printed.
func (w *world) runCensus(t *testing.T, env []string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(within(t, 2*time.Minute), testkit.Binary(t, "caresphere"), append([]string{"census"}, args...)...)
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", w.PID(t, devstack.Provisioner)))
	require.NoError(t, err)
	cmd.Env = append(strings.Split(strings.TrimRight(string(environ), "\x00"), "\x00"), env...)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	_ = cmd.Run() // findings end it with 1: they are looked at
	require.NotEmpty(t, out.String(), "%s", complaint.String())
	return out.String()
}

// says returns what a census finds of an identity.
func (r censusReport) says(id string) string {
	for _, f := range r.Findings {
		if f.Kind == "identity" && f.Name == id {
			return f.Problem
		}
	}
	return ""
}

// TestACensusAccountsForIdentities plants an identity of nobody and an account that
// cannot sign in, beside people of whom neither is true.
func TestACensusAccountsForIdentities(t *testing.T) {
	t.Parallel()
	w := here(t)
	l := w.other(t)
	control := w.database(t, devstack.ControlDatabase)
	before := w.census(t, "15m")
	require.GreaterOrEqual(t, before.Things["identity"], 2, "an owner and a nurse")
	require.Positive(t, before.Things["route"], "the control plane's own table is looked at")
	require.Empty(t, before.Skipped)
	without := w.runCensus(t, []string{"CARESPHERE_CONTROLPLANE_URL="})
	require.Contains(t, without, "NOT LOOKED AT identity: CARESPHERE_KRATOS_ADMIN_URL is not set\nNOT LOOKED AT route: CARESPHERE_CONTROLPLANE_URL is not set\n")
	wrong := 0
	for _, f := range before.Findings {
		if f.Kind == "identity" || f.Kind == "route" {
			t.Errorf("%s %s: %s", f.Kind, f.Name, f.Problem)
			wrong++
		}
	}
	prove.State(t, prove.Census, before.Things["identity"]+before.Things["route"], wrong)

	made := w.wire(t, w.URL(devstack.PortKratosAdmin)).do(t, http.MethodPost, "/admin/identities",
		m{"schema_id": "person", "traits": m{"email": "nobody-" + word() + "@example.com", "name": "Nobody"}})
	require.Equal(t, http.StatusCreated, made.status, made.body)
	var stray struct{ ID string }
	require.NoError(t, json.Unmarshal([]byte(made.body), &stray))
	lost := tenants.NewID().String()
	_, err := control.Exec(within(t, 10*time.Second), `INSERT INTO account (identity_id, organization_id, email, name) VALUES ($1, $2, $3, 'A Ghost')`, lost, l.ID, "ghost-"+word()+"@example.com")
	require.NoError(t, err)
	after := w.census(t, "0s")
	noticed := 0
	if after.says(stray.ID) == "belongs to no account" {
		noticed++
	}
	if after.says(lost) == "is missing" {
		noticed++
	}
	prove.Plant(t, prove.Census, 2, noticed)
	require.Empty(t, w.census(t, "15m").says(stray.ID), "a sign-up may be under way")

	_, err = control.Exec(within(t, 10*time.Second), `DELETE FROM account WHERE identity_id = $1`, lost)
	require.NoError(t, err)
	gone := w.wire(t, w.URL(devstack.PortKratosAdmin)).do(t, http.MethodDelete, "/admin/identities/"+stray.ID, nil)
	require.Equal(t, http.StatusNoContent, gone.status, gone.body)
	require.Empty(t, w.census(t, "0s").says(stray.ID))
}
