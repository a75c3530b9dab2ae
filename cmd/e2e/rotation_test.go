package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/client"
	"github.com/caresphere/caresphere/internal/devstack"
	"github.com/caresphere/caresphere/internal/kms/driver"
	"github.com/caresphere/caresphere/tenants"
)

// TestAKeyRotatesByCommandWhileRequestsAreServed rotates a tenant's key in Vault as an
// operator does, and destroys its old version, while the tenant's nurse reads and
// writes; the workers forget what they hold, so that every key is unwrapped anew.
func TestAKeyRotatesByCommandWhileRequestsAreServed(t *testing.T) {
	t.Parallel()
	w := full(t)
	l, idle := w.tenant(t, "rotating"), w.other(t)
	r := admit(t, l, "Haddad")
	id, err := tenants.ParseID(l.ID)
	require.NoError(t, err)
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte(w.operator(t).Token()+"\n"), 0o600))
	status := func(slug string) client.TenantKey {
		out, complaint, exit := w.caresphere(t, "key", "status", slug, "--json", "--token-file", token)
		require.Zero(t, exit, "%s%s", out, complaint)
		var keys []client.TenantKey
		require.NoError(t, json.Unmarshal([]byte(out), &keys), "%s", out)
		require.Len(t, keys, 1)
		return keys[0]
	}
	require.Equal(t, 1, status(l.Slug).Version)

	stop, ended := make(chan struct{}), make(chan error, 1)
	ctx := within(t, 3*time.Minute)
	served := 0
	go func() {
		n := l.Nurse.Tenant(l.Slug)
		for {
			select {
			case <-stop:
				ended <- nil
				return
			default:
			}
			note, err := n.CreateNote(ctx, r.client.ID, client.Note{Shift: "day", Body: "Rested."}, "meanwhile-"+word())
			if err == nil {
				_, err = n.NoteByID(ctx, note.ID)
			}
			if err == nil {
				_, err = n.ClientByID(ctx, r.client.ID)
			}
			if err != nil {
				ended <- fmt.Errorf("request %d: %w", served, err)
				return
			}
			served += 3
		}
	}()
	out, complaint, exit := w.caresphere(t, "key", "rotate", l.Slug, "--wait", "--json", "--token-file", token)
	require.Zero(t, exit, "%s%s", out, complaint)
	var made client.KeyRotation
	require.NoError(t, json.Unmarshal([]byte(out), &made), "%s", out)
	require.Equal(t, "grace 1 2", fmt.Sprint(made.State, " ", made.FromVersion, " ", made.ToVersion))
	require.GreaterOrEqual(t, made.Wraps, 3, "the credential's, a field's and an index's")
	_, complaint, exit = w.caresphere(t, "key", "rotate", l.Slug, "--token-file", token)
	require.Equal(t, 1, exit, "one at a time")
	require.Contains(t, complaint, "under way")
	w.forget(t, l)
	// What a day would do.
	_, err = w.database(t, devstack.ControlDatabase).Exec(within(t, 10*time.Second), `UPDATE key_rotation SET retire_after = now() WHERE id = $1`, made.ID)
	require.NoError(t, err)
	until(t, time.Minute, "the old version is destroyed", func() (bool, string) {
		k := status(l.Slug)
		return k.RotationState == "done" && k.Version == 2, fmt.Sprintf("%+v", k)
	})
	w.forget(t, l)
	readable(t, l, r)
	close(stop)
	require.NoError(t, <-ended)
	require.Positive(t, served)

	var info struct {
		Data struct {
			Latest int `json:"latest_version"`
			Min    int `json:"min_decryption_version"`
			Kept   int `json:"min_available_version"`
		} `json:"data"`
	}
	a := w.vault(t, "GET", "/v1/cell/"+devstack.CellID+"/keys/"+driver.KeyName(id), nil)
	require.NoError(t, json.Unmarshal([]byte(a.body), &info), "%s", a.body)
	require.Equal(t, "2 2 2", fmt.Sprint(info.Data.Latest, " ", info.Data.Min, " ", info.Data.Kept), "the old version is gone from Vault")
	require.Equal(t, 1, status(idle.Slug).Version, "and the other tenant's key is as it was")
}
