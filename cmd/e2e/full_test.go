package e2e_test

import (
	"encoding/json"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/demo"
	"github.com/caresphere/caresphere/internal/devstack"
	"github.com/caresphere/caresphere/internal/kms"
	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/tenants"
)

func TestTheDemonstrationHoldsOnVaultS3AndStripe(t *testing.T) {
	t.Parallel()
	w := full(t)
	r, err := demo.Run(within(t, 3*time.Minute), w.options())
	require.NoError(t, err)
	for _, s := range r.Steps {
		require.True(t, s.OK, "%s: %s", s.Name, s.Detail)
	}
	require.True(t, r.OK)
}

// vault speaks to Vault as its administrator.
func (w *world) vault(t *testing.T, method, path string, body any) reply {
	t.Helper()
	var keys struct {
		Unseal string `json:"unseal_key"`
		Root   string `json:"root_token"`
	}
	content, err := os.ReadFile(w.Layout().Path("vault", "init.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(content, &keys))
	if path == "/v1/sys/unseal" {
		body = m{"key": keys.Unseal}
	}
	return w.wire(t, w.URL(devstack.PortVault)).with("X-Vault-Token", keys.Root).do(t, method, path, body)
}

// forget has the workers forget what they hold of a tenant, as after its keys'
// lifetime: the hint is one that they get whenever its credential was renewed, and they
// look whether it was.
func (w *world) forget(t *testing.T, l *demo.Live) {
	t.Helper()
	id, err := tenants.ParseID(l.ID)
	require.NoError(t, err)
	db := w.database(t, devstack.CellDatabase)
	_, err = db.Exec(within(t, 10*time.Second), "UPDATE cell.tenant_credential SET updated_at = clock_timestamp() WHERE tenant_id = $1", id)
	require.NoError(t, err)
	_, err = db.Exec(within(t, 10*time.Second), "SELECT pg_notify($1, $2)", tenantdb.GateChannel, tenantdb.HintTag(tenantdb.GateChannel, id))
	require.NoError(t, err)
}

// Alone: what else needs the Vault of the stack would see it sealed.
func TestASealedVaultFailsClosedAndComesBack(t *testing.T) {
	w := full(t)
	l, cached := w.tenant(t, "sealed"), w.other(t)
	r, held := admit(t, l, "Fofana"), admit(t, cached, "Gruber")
	pids := map[string]int{}
	for _, p := range workers {
		pids[p] = w.PID(t, p)
	}
	direct := func(p devstack.Port) reply {
		return w.asRouter(t, p).as(l.Nurse.Client).with("Caresphere-Placement-Epoch", itoa(w.route(t, l).Epoch)).
			do(t, http.MethodGet, "/t/"+l.Slug+"/v1/clients/"+r.client.ID, nil)
	}
	ports := []devstack.Port{devstack.PortWorkerA, devstack.PortWorkerB}
	warm := func() {
		readable(t, cached, held)
		for _, p := range ports {
			nurse := w.asRouter(t, p).as(cached.Nurse.Client).with("Caresphere-Placement-Epoch", itoa(w.route(t, cached).Epoch))
			a := nurse.do(t, http.MethodGet, "/t/"+cached.Slug+"/v1/notes/"+held.note.ID, nil)
			require.Equal(t, http.StatusOK, a.status, a.body)
			// The search needs the blind index's key, which is another one.
			a = nurse.do(t, http.MethodPost, "/t/"+cached.Slug+"/v1/clients/search", m{"family": "Gruber"})
			require.Equal(t, http.StatusOK, a.status, a.body)
			require.Equal(t, http.StatusOK, direct(p).status)
		}
	}
	warm()

	require.Equal(t, http.StatusNoContent, w.vault(t, http.MethodPut, "/v1/sys/seal", nil).status)
	sealed := true
	unseal := func() {
		if sealed {
			require.Equal(t, http.StatusOK, w.vault(t, http.MethodPut, "/v1/sys/unseal", nil).status)
			sealed = false
		}
	}
	t.Cleanup(unseal)
	w.forget(t, l)
	for i, p := range ports {
		until(t, 20*time.Second, workers[i]+" refuses while it cannot get the keys", func() (bool, string) {
			a := direct(p)
			return a.status == http.StatusServiceUnavailable && a.problem() == string(tenants.KindUnavailable) && a.head.Get("Retry-After") != "",
				strconv.Itoa(a.status) + " " + a.body
		})
	}
	through := w.wire(t, w.Origin()).as(l.Nurse.Client)
	for path, body := range map[string]any{"/clients": nil, "/clients/" + r.client.ID: nil, "/clients/search": m{"family": "Fofana"}} {
		method := http.MethodGet
		if body != nil {
			method = http.MethodPost
		}
		a := through.do(t, method, "/t/"+l.Slug+"/v1"+path, body)
		require.Equal(t, http.StatusServiceUnavailable, a.status, "%s: %s", path, a.body)
		require.NotContains(t, a.body, "Fofana")
	}
	// Whose keys are held already is served on: within their lifetime.
	readable(t, cached, held)

	unseal()
	w.served(t, l)
	until(t, 30*time.Second, "the tenant's records are read again", func() (bool, string) {
		a := direct(devstack.PortWorkerA)
		b := direct(devstack.PortWorkerB)
		return a.status == http.StatusOK && b.status == http.StatusOK, a.body + b.body
	})
	readable(t, l, r)
	for p, pid := range pids {
		require.Equal(t, pid, w.PID(t, p), "%s was not started anew", p)
	}
}

// TestAKeyThatSomebodyOpenedIsClosedAgain empties, as an administrator of Vault could, the
// policy that refuses a suspended tenant's key. A provisioner that starts writes it anew;
// one that runs looks every ten minutes.
func TestAKeyThatSomebodyOpenedIsClosedAgain(t *testing.T) {
	w := full(t)
	l, alive := w.tenant(t, "reopened"), w.other(t)
	place := func(l *demo.Live) (key, path string) {
		id, err := tenants.ParseID(l.ID)
		require.NoError(t, err)
		key = kms.KeyName(id)
		return key, "/v1/sys/policies/acl/cell-" + devstack.CellID + "-closed-" + key[len(key)-1:]
	}
	refuses := func(l *demo.Live) bool {
		key, path := place(l)
		return strings.Contains(w.vault(t, http.MethodGet, path, nil).body, key)
	}
	w.move(t, l, "suspend")
	until(t, 30*time.Second, "the suspended tenant's key is closed", func() (bool, string) { return refuses(l), "it is not" })
	_, path := place(l)
	require.Equal(t, http.StatusNoContent, w.vault(t, http.MethodPut, path, m{"policy": "# emptied"}).status)
	require.False(t, refuses(l), "the planted fault shows")
	w.Kill(t, devstack.Provisioner)
	until(t, 30*time.Second, "it is closed again", func() (bool, string) { return refuses(l), "it is not" })
	require.False(t, refuses(alive), "a live tenant's key is not")
	until(t, 10*time.Second, "an error is logged", func() (bool, string) {
		return strings.Contains(w.Log(t, devstack.Provisioner), "KEYS THAT ARE RECORDED AS CLOSED"), "none is"
	})
	w.ready(t)
}
