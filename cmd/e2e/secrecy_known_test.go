package e2e_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/demo"
	"github.com/caresphere/caresphere/internal/devstack"
	"github.com/caresphere/caresphere/internal/phi"
)

// known are words that the programs themselves wrote, by where each must be found: the
// requests that each program answered last, and of the tenant what is no PHI.
func (w *world) known(t *testing.T, l *demo.Live, last reply) map[string]map[string]string {
	t.Helper()
	layout, words := w.Layout(), map[string]map[string]string{}
	id := func(a reply) string {
		t.Helper()
		require.Less(t, a.status, 300, a.body)
		require.NotEmpty(t, a.head.Get("X-Request-Id"))
		return a.head.Get("X-Request-Id")
	}
	words[id(last)] = map[string]string{"the last request of the load": layout.Log(devstack.Router), "the spans of it": layout.Traces(devstack.Router)}
	console := w.wire(t, w.Origin()).as(l.Owner.Client).do(t, http.MethodGet, "/api/v1/me", nil)
	words[id(console)] = map[string]string{"a request to the control plane": layout.Log(devstack.ControlPlane)}
	epoch := itoa(w.route(t, l).Epoch)
	for i, p := range []devstack.Port{devstack.PortWorkerA, devstack.PortWorkerB} {
		a := w.asRouter(t, p).as(l.Nurse.Client).with("Caresphere-Placement-Epoch", epoch).do(t, http.MethodGet, "/t/"+l.Slug+"/v1/clients", nil)
		words[id(a)] = map[string]string{"a request to a worker": layout.Log(workers[i])}
	}
	// The provisioner answers no requests: it says once that it works.
	words[`"msg":"working"`] = map[string]string{"the provisioner's first word": layout.Log(devstack.Provisioner)}
	words[l.ID] = map[string]string{"the organization in a job": devstack.ControlDatabase + ".river_job"}
	words[l.Nurse.Email] = map[string]string{"the recipient of a mail": devstack.ControlDatabase + ".mail"}
	return words
}

// inClear are the columns of bytes in a tenant's schema that hold no sealed PHI.
var inClear = []string{
	"data_key.wrapped", "idempotency_key.request_hash", "probe.sealed",
	"client.family_index", "client.birth_date_index", "client.record_number_index",
}

// unsealed names the columns of the tenant's schema that could hold a sealed value and
// hold none as long as one of the plain ones: what was planted did not get there.
func unsealed(t *testing.T, db pgx.Tx, schema string, plain ...string) (names []string) {
	t.Helper()
	ctx := within(t, 30*time.Second)
	rows, err := db.Query(ctx, `SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
		WHERE c.relnamespace = $1::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
			AND (a.atttypid = 'bytea'::regtype OR a.attname ~ 'seal') AND c.relname !~ '^audit_'`, schema)
	require.NoError(t, err)
	columns, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct{ Table, Column string }])
	require.NoError(t, err)
	var long []int
	for _, p := range plain {
		long = append(long, len(p)+phi.Overhead)
	}
	for _, c := range columns {
		name := c.Table + "." + c.Column
		if slices.Contains(inClear, name) {
			continue
		}
		var there bool
		require.NoError(t, db.QueryRow(ctx, "SELECT EXISTS (SELECT FROM "+schema+"."+c.Table+" WHERE octet_length("+c.Column+"::bytea) = ANY ($1))", long).Scan(&there), name)
		if !there {
			names = append(names, name)
		}
	}
	require.GreaterOrEqual(t, len(columns)-len(inClear)-len(names), 15, "columns with what was planted")
	return names
}

// requireEverySealed checks that what was planted reached every sealed column: a field
// that the description does not mark, or that nobody fills, would be searched for in vain.
func (w *world) requireEverySealed(t *testing.T, l *demo.Live, plain ...string) {
	t.Helper()
	schema := schemaOf(t, l)
	tx, err := w.database(t, devstack.CellDatabase).Begin(within(t, time.Minute))
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	require.Empty(t, unsealed(t, tx, schema, plain...))
	// Its twins: a field that nobody plants, under the usual name and under another.
	_, err = tx.Exec(within(t, 10*time.Second), strings.ReplaceAll(`ALTER TABLE {s}.client ADD middle_name_sealed bytea; ALTER TABLE {s}.shift_note ADD photo bytea`,
		"{s}", schema))
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"client.middle_name_sealed", "shift_note.photo"}, unsealed(t, tx, schema, plain...))
}
