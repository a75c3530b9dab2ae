package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/census"
	"github.com/caresphere/caresphere/controlplane/placement"
	"github.com/caresphere/caresphere/internal/blob"
	"github.com/caresphere/caresphere/internal/kms"
	"github.com/caresphere/caresphere/internal/testkit/prove"
	"github.com/caresphere/caresphere/tenants"
)

// census accounts for the world's cell with the provisioner's own rights, and for the
// route table that a control plane would make now.
func (w *world) census() census.Report {
	w.t.Helper()
	pool := w.open(w.control.DSN("controlplane"))
	defer pool.Close()
	return w.censusOf(func(ctx context.Context) (tenants.RouteTable, error) { return placement.Table(ctx, pool) })
}

func (w *world) censusOf(table census.Routes) census.Report {
	w.t.Helper()
	objects, err := blob.Open(blob.Config{URL: "file:" + w.objects})
	require.NoError(w.t, err)
	r, err := census.Take(context.Background(), census.Config{Control: w.open(w.control.DSN("provisioner")), Cell: w.open(w.cell.DSN("cell_owner")),
		CellID: "main", Keys: w.keys, Objects: objects, Routes: table, RouteSettle: 50 * time.Millisecond})
	require.NoError(w.t, err)
	return r
}

// says are the findings of a census, a line each.
func says(r census.Report) []string {
	said := make([]string, len(r.Findings))
	for i, f := range r.Findings {
		said[i] = f.String()
	}
	return said
}

// accounted states that everything is accounted for.
func (w *world) accounted(t *testing.T) {
	t.Helper()
	r := w.census()
	things := 0
	for _, n := range r.Things {
		things += n
	}
	assert.Empty(t, r.Findings)
	prove.State(t, prove.Census, things, len(r.Findings))
}

func TestACensusNamesWhatIsNotAccountedFor(t *testing.T) {
	y := newYard(t, 2)
	y.accounted(t)
	ctx, victim := context.Background(), y.tenants[0]
	nobody, pending := tenants.NewID(), tenants.NewID()
	y.exec(`INSERT INTO organization (id, slug, legal_name, care_setting, state) VALUES ($1, 'early-bird', 'Early Bird', 'clinic', 'pending')`, pending)
	key := kms.KeyName
	keyFile := func(id tenants.ID) string {
		return filepath.Join(strings.TrimPrefix(y.keyring, "keyring:"), "keys", key(id)+".json")
	}
	away := func(path string) (plant, undo func()) {
		return func() { require.NoError(t, os.Rename(path, path+".away")) }, func() { require.NoError(t, os.Rename(path+".away", path)) }
	}
	sql := func(plant, undo string) [2]func() {
		fill := strings.NewReplacer("{v}", tenants.SchemaName(victim), "{n}", tenants.SchemaName(nobody), "{p}", tenants.SchemaName(pending),
			"{vid}", victim.String(), "{nid}", nobody.String(), "{db}", y.cell.Name)
		return [2]func(){func() { y.cellExec(fill.Replace(plant)) }, func() { y.cellExec(fill.Replace(undo)) }}
	}
	pair := func(plant, undo func()) [2]func() { return [2]func(){plant, undo} }
	planted := 0
	for wanted, fault := range map[string][2]func(){
		"schema " + nobody.Hex() + ": belongs to no organization": sql(`CREATE SCHEMA {n}`, `DROP SCHEMA {n}`),
		"role " + nobody.Hex() + ": belongs to no organization":   sql(`CREATE ROLE {n}; GRANT CONNECT ON DATABASE {db} TO {n}`, `REVOKE CONNECT ON DATABASE {db} FROM {n}; DROP ROLE {n}`),
		"credential " + nobody.Hex() + ": belongs to no organization": sql(`INSERT INTO cell.tenant_credential (tenant_id, role_name, key_name, certificate, wrapped_key, data_key_id, sealed, not_after)
			VALUES ('{nid}', '{n}', 'k', '', '', gen_random_uuid(), '', now())`, `DELETE FROM cell.tenant_credential WHERE tenant_id = '{nid}'`),
		"context key " + nobody.Hex() + ": belongs to no organization": sql(`INSERT INTO cell.context_key SELECT '{n}', inner_block, outer_block FROM cell.context_key WHERE role_name = '{v}'`,
			`DELETE FROM cell.context_key WHERE role_name = '{n}'`),
		"key " + key(nobody) + ": belongs to no organization": pair(func() { require.NoError(t, y.keys.Ensure(ctx, key(nobody))) },
			func() { require.NoError(t, os.Remove(keyFile(nobody))) }),
		"prefix " + nobody.Hex() + ": belongs to no organization": pair(func() {
			dir := filepath.Join(y.objects, "t", nobody.Hex())
			require.NoError(t, os.MkdirAll(dir, 0o700))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "left"), []byte("x"), 0o600))
		}, func() { require.NoError(t, os.RemoveAll(filepath.Join(y.objects, "t", nobody.Hex()))) }),
		"schema " + pending.Hex() + " of early-bird: exists for an organization that may not have it yet": sql(`CREATE SCHEMA {p}`, `DROP SCHEMA {p}`),
		"schema " + victim.Hex() + " of " + y.slug(victim) + ": is missing":                               sql(`ALTER SCHEMA {v} RENAME TO gone`, `ALTER SCHEMA gone RENAME TO {v}`),
		"credential " + victim.Hex() + " of " + y.slug(victim) + ": is missing": sql(`CREATE TABLE kept AS SELECT * FROM cell.tenant_credential WHERE tenant_id = '{vid}'; DELETE FROM cell.tenant_credential WHERE tenant_id = '{vid}'`,
			`INSERT INTO cell.tenant_credential SELECT * FROM kept; DROP TABLE kept`),
		"context key " + victim.Hex() + " of " + y.slug(victim) + ": is missing": sql(`CREATE TABLE kept AS SELECT * FROM cell.context_key WHERE role_name = '{v}'; DELETE FROM cell.context_key WHERE role_name = '{v}'`,
			`INSERT INTO cell.context_key SELECT * FROM kept; DROP TABLE kept`),
		"key " + key(victim) + " of " + y.slug(victim) + ": is missing":     pair(away(keyFile(victim))),
		"prefix " + victim.Hex() + " of " + y.slug(victim) + ": is missing": pair(away(filepath.Join(y.objects, "t", victim.Hex()))),
	} {
		fault[0]()
		said := says(y.census())
		fault[1]()
		// A prefix that was moved aside is also one that nobody knows.
		said = noAway(said)
		if assert.Equal(t, []string{wanted}, said) {
			planted++
		}
	}
	prove.Plant(t, prove.Census, 12, planted)
	y.accounted(t)
}

func noAway(said []string) (kept []string) {
	for _, s := range said {
		if !strings.Contains(s, ".away") {
			kept = append(kept, s)
		}
	}
	return kept
}

// TestTheScheduleCounts lets the provisioner find by itself what belongs to nobody, and
// see it go.
func TestTheScheduleCounts(t *testing.T) {
	y := newYard(t, 1, "CARESPHERE_CENSUS_EVERY=300ms")
	findings := func() string {
		for _, line := range strings.Split(y.metrics(), "\n") {
			if n, ok := strings.CutPrefix(line, "caresphere_census_findings "); ok {
				return n
			}
		}
		return "none yet"
	}
	require.Eventually(t, func() bool { return findings() == "0" }, 30*time.Second, 50*time.Millisecond)
	dir := filepath.Join(y.objects, "t", tenants.NewID().Hex())
	require.NoError(t, os.MkdirAll(dir, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "left"), []byte("x"), 0o600))
	require.Eventually(t, func() bool { return findings() == "1" }, 30*time.Second, 50*time.Millisecond)
	require.NoError(t, os.RemoveAll(dir))
	require.Eventually(t, func() bool { return findings() == "0" }, 30*time.Second, 50*time.Millisecond)
}
