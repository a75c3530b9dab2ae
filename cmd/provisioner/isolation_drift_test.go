package main

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	provers "github.com/caresphere/caresphere/controlplane/isolation"
	"github.com/caresphere/caresphere/internal/isolation"
	"github.com/caresphere/caresphere/internal/kms"
	"github.com/caresphere/caresphere/internal/testkit/prove"
	"github.com/caresphere/caresphere/tenants"
)

// drift is a fault that is planted, and what must be said of it.
type drift struct {
	name, sql string
	says      string
	// shows is what a repair shows of it, if that is not the same.
	shows string
	// superuser says that a repair can only show the statements.
	superuser bool
	// healed says that closing the gate undoes it: a repair finds nothing left.
	healed bool
}

// TestDriftIsFoundQuarantinedAndMended plants faults in the catalog. In a usual run
// several stand at once and each has to be named; in the nightly one, each alone.
func TestDriftIsFoundQuarantinedAndMended(t *testing.T) {
	y := newYard(t, 2)
	victim, other := y.tenants[0], y.tenants[1]
	drifts := []drift{
		{name: "a policy dropped", sql: `DROP POLICY client_select ON {t}.client`, says: "policy client_select is missing"},
		{name: "a policy changed", sql: `ALTER POLICY client_select ON {t}.client USING (true)`, says: "policy client_select differs"},
		{name: "a policy added", sql: `CREATE POLICY more ON {t}.client FOR SELECT USING (true)`, says: "policy more is not declared"},
		{name: "row security disabled", sql: `ALTER TABLE {t}.client DISABLE ROW LEVEL SECURITY`, says: "row security differs"},
		{name: "row security not forced", sql: `ALTER TABLE {t}.client NO FORCE ROW LEVEL SECURITY`, says: "row security of the owner differs"},
		{name: "a right for everybody", sql: `GRANT SELECT ON {t}.client TO PUBLIC; GRANT USAGE ON SCHEMA {t} TO PUBLIC`, says: "right of PUBLIC: SELECT is not declared"},
		{name: "a right for another tenant", sql: `GRANT USAGE ON SCHEMA {t} TO {o}; GRANT SELECT ON {t}.client TO {o}`, says: "is not declared"},
		{name: "a right on a column", sql: `GRANT UPDATE (created_by) ON {t}.client TO {t}`, says: "UPDATE (created_by) is not declared"},
		{name: "a right taken away", sql: `REVOKE SELECT ON {t}.client FROM {t}`, says: "SELECT is missing"},
		{name: "a right on a function", sql: `GRANT EXECUTE ON FUNCTION cell.client_touch() TO {t}`, says: "has a right on function cell.client_touch()"},
		{name: "a table's owner", sql: `ALTER TABLE {t}.client OWNER TO cell_worker`, says: "owner differs"},
		{name: "a function added", sql: `SET ROLE cell_owner; CREATE FUNCTION {t}.client_touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; RESET ROLE`, says: "function is not declared"},
		{name: "another function of a trigger", sql: `CREATE OR REPLACE TRIGGER client_touch BEFORE UPDATE ON {t}.client FOR EACH ROW EXECUTE FUNCTION cell.facility_touch()`, says: "trigger client_touch differs"},
		{name: "a trigger disabled", sql: `ALTER TABLE {t}.audit_entry DISABLE TRIGGER audit_entry_append_only`, says: "firing of trigger audit_entry_append_only differs"},
		{name: "a trigger dropped", sql: `DROP TRIGGER shift_note_append ON {t}.shift_note`, says: "trigger shift_note_append is missing"},
		{name: "a default", sql: `ALTER TABLE {t}.client ALTER created_by SET DEFAULT gen_random_uuid()`, says: "default of created_by differs"},
		{name: "a constraint", sql: `ALTER TABLE {t}.member DROP CONSTRAINT member_role`, says: "constraint member_role is missing"},
		{name: "an index", sql: `DROP INDEX {t}.client_record_number`, says: "index client_record_number is missing"},
		{name: "default privileges in the schema", sql: `ALTER DEFAULT PRIVILEGES FOR ROLE cell_owner IN SCHEMA {t} GRANT SELECT ON TABLES TO PUBLIC`, says: "default right of PUBLIC"},
		{name: "a table added", sql: `CREATE TABLE {t}.extra AS SELECT 1 AS a; ALTER TABLE {t}.extra OWNER TO cell_owner`, says: "extra: kind is not declared"},
		{name: "a view added", sql: `SET ROLE cell_owner; CREATE VIEW {t}.peek AS SELECT id FROM {t}.client; RESET ROLE`, says: "peek: kind is not declared"},
		{name: "a membership", sql: `GRANT {o} TO {t}`, says: "member of"},
		{name: "a member", sql: `GRANT {t} TO {o}`, says: "has the member"},
		{name: "a role's setting", sql: `ALTER ROLE {t} SET search_path = public`, says: "setting search_path differs"},
		{name: "inheriting", sql: `ALTER ROLE {t} INHERIT CREATEDB`, says: "inherits differs"},
		{name: "BYPASSRLS", sql: `ALTER ROLE {t} BYPASSRLS`, says: "bypasses row security differs", superuser: true},
		{name: "SUPERUSER", sql: `ALTER ROLE {t} SUPERUSER`, says: "superuser differs", superuser: true},
		{name: "a foreign key not checked", sql: `ALTER TABLE {t}.shift_note DISABLE TRIGGER ALL`, says: "is not checked by", superuser: true},
	}
	// Those that touch one object stand beside each other in the list, and so in
	// different rounds.
	inRounds(t, drifts, 3, func(t *testing.T, some []drift) {
		for _, d := range some {
			y.cellExec(strings.NewReplacer("{t}", tenants.SchemaName(victim), "{o}", tenants.SchemaName(other)).Replace(d.sql))
		}
		y.quarantineAndMend(t, victim, other, some...)
	})
}

// inRounds plants the faults in so many rounds, or in a nightly run each in its own.
func inRounds(t *testing.T, drifts []drift, usual int, plant func(t *testing.T, some []drift)) {
	rounds := prove.Size(usual, len(drifts))
	for round := range rounds {
		var some []drift
		var names []string
		for i := round; i < len(drifts); i += rounds {
			some, names = append(some, drifts[i]), append(names, drifts[i].name)
		}
		t.Run(strings.Join(names, ", "), func(t *testing.T) { plant(t, some) })
	}
}

// quarantineAndMend goes the whole way of a tenant that fails, beside one that does not.
func (y *yard) quarantineAndMend(t *testing.T, victim, other tenants.ID, some ...drift) {
	t.Helper()
	ctx, slug := context.Background(), y.slug(victim)
	r := y.prove(slug)
	require.False(t, r.OK)
	require.Equal(t, isolation.Failed, r.Tenants[0].Verdict, all(r.Tenants[0]))
	superuser, healed := false, 0
	for _, d := range some {
		require.Contains(t, all(r.Tenants[0]), d.says, d.name)
		superuser = superuser || d.superuser
		if d.healed {
			healed++
		}
	}
	require.Equal(t, "quarantined closed", y.text(`SELECT state || ' ' || gate_mode FROM organization WHERE id = $1`, victim))
	require.Equal(t, "live open", y.text(`SELECT state || ' ' || gate_mode FROM organization WHERE id = $1`, other))
	require.True(t, tenants.IsKind(y.fleet.Resume(ctx, riley, victim, "too early"), tenants.KindConflict))

	if healed > 0 {
		// Once it is closed everywhere. A superuser's role is not the provisioner's to close.
		y.eventually(30*time.Second, "true", `SELECT (gate_applied = gate_version)::text FROM organization WHERE id = $1`, victim)
	}
	shown := y.repair(slug, false)
	require.False(t, shown.Applied)
	require.Equal(t, healed == len(some), len(shown.Differences) == 0)
	for _, d := range some {
		if !d.healed {
			require.Contains(t, differences(shown), d.shown(), d.name)
		}
	}
	done := y.repair(slug, true)
	require.True(t, done.Applied)
	if superuser {
		require.NotEmpty(t, done.Refused)
		for _, sql := range done.Refused {
			y.cellExec(sql)
		}
		done = y.repair(slug, true)
	}
	require.Equal(t, isolation.Proven, done.Proof.Verdict, all(*done.Proof))
	require.Empty(t, done.Refused)
	require.Empty(t, done.Left)
	require.Equal(t, "quarantined", y.text(`SELECT state FROM organization WHERE id = $1`, victim), "only a person releases")
	require.NoError(t, y.fleet.Resume(ctx, riley, victim, "mended and proven"))
	y.eventually(30*time.Second, "true", `SELECT (gate_applied = gate_version AND gate_mode = 'open')::text FROM organization WHERE id = $1`, victim)
	requireProven(t, y.prove(""))
	prove.Plant(t, prove.IsolationDeclared, len(some), len(some))
}

// differences are what a repair or its plan found before anything was done.
func differences(r provers.Repair) string {
	var b strings.Builder
	for _, f := range r.Differences {
		b.WriteString(f.String() + "\n")
	}
	return b.String()
}

func (d drift) shown() string {
	if d.shows != "" {
		return d.shows
	}
	return d.says
}

func TestDriftBesideTheCatalogIsFoundAndMended(t *testing.T) {
	y := newYard(t, 2)
	ctx, victim, other := context.Background(), y.tenants[0], y.tenants[1]
	t.Run("the key disabled", func(t *testing.T) {
		require.NoError(t, y.keys.Disable(ctx, kms.KeyName(victim)))
		y.quarantineAndMend(t, victim, other, drift{says: "its state does not follow the gate", healed: true})
	})
	t.Run("login while the gate is closed, the prefix gone", func(t *testing.T) {
		require.NoError(t, y.fleet.Suspend(ctx, riley, victim, "for the test"))
		y.eventually(30*time.Second, "true", `SELECT (gate_applied = gate_version)::text FROM organization WHERE id = $1`, victim)
		y.cellExec(`ALTER ROLE ` + tenants.RoleName(victim) + ` LOGIN`)
		require.NoError(t, os.RemoveAll(filepath.Join(y.objects, "t", victim.Hex())))
		y.quarantineAndMend(t, victim, other, drift{says: "login does not follow the gate"}, drift{says: "prefix is missing"})
	})
	t.Run("the key gone", func(t *testing.T) {
		away := y.moveKey(t, victim)
		r := y.prove(y.slug(victim))
		require.Equal(t, isolation.Failed, r.Tenants[0].Verdict, all(r.Tenants[0]))
		require.Contains(t, differences(y.repair(y.slug(victim), false)), "key: key: its state does not follow the gate")
		done := y.repair(y.slug(victim), true)
		require.NotEqual(t, isolation.Proven, done.Proof.Verdict)
		require.NotEmpty(t, done.Left, "a new key would open nothing: a person has to restore the old one")
		away()
		done = y.repair(y.slug(victim), true)
		require.Equal(t, isolation.Proven, done.Proof.Verdict, all(*done.Proof))
		require.NoError(t, y.fleet.Resume(ctx, riley, victim, "key restored"))
	})
}

// moveKey takes the tenant's key out of the keyring, as a lost file would be, and
// returns how to put it back.
func (y *yard) moveKey(t *testing.T, id tenants.ID) func() {
	t.Helper()
	dir := strings.TrimPrefix(y.keyring, "keyring:")
	var path string
	require.NoError(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.Contains(filepath.Base(p), kms.KeyName(id)) && !strings.HasSuffix(p, ".lock") {
			path = p
		}
		return err
	}))
	require.NotEmpty(t, path)
	require.NoError(t, os.Rename(path, path+".away"))
	return func() { require.NoError(t, os.Rename(path+".away", path)) }
}

// TestWhatTenantsShareCountsAgainstEach plants faults that concern every tenant of the
// cell: in a usual run at once, in the nightly one each alone.
func TestWhatTenantsShareCountsAgainstEach(t *testing.T) {
	y := newYard(t, 2)
	drifts := []drift{
		{name: "a shared function's body", sql: `CREATE OR REPLACE FUNCTION cell.refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS 'BEGIN RETURN NULL; END'`, says: "function differs"},
		{name: "the context keys for everybody", sql: `GRANT SELECT ON cell.context_key TO PUBLIC`, says: "the context keys was allowed",
			shows: "context_key: right of PUBLIC: SELECT is not declared"},
		{name: "default privileges", sql: `ALTER DEFAULT PRIVILEGES FOR ROLE cell_owner GRANT SELECT ON TABLES TO PUBLIC`, says: "right of PUBLIC on new TABLES by cell_owner: SELECT"},
		{name: "default privileges of functions", sql: `ALTER DEFAULT PRIVILEGES FOR ROLE cell_owner GRANT EXECUTE ON FUNCTIONS TO PUBLIC`, says: "right of PUBLIC on new FUNCTIONS by cell_owner: EXECUTE"},
	}
	inRounds(t, drifts, 1, func(t *testing.T, some []drift) {
		for _, d := range some {
			y.cellExec(d.sql)
		}
		r := y.prove("")
		for _, one := range r.Tenants {
			require.Equal(t, isolation.Failed, one.Verdict)
			for _, d := range some {
				require.Contains(t, all(one), d.says)
			}
		}
		require.NotEmpty(t, r.Shared)
		shown := differences(y.repair(y.slug(y.tenants[0]), false))
		for _, d := range some {
			require.Contains(t, shown, d.shown())
		}
		for _, id := range y.tenants {
			require.Equal(t, "quarantined", y.text(`SELECT state FROM organization WHERE id = $1`, id))
			done := y.repair(y.slug(id), true)
			require.Equal(t, isolation.Proven, done.Proof.Verdict, all(*done.Proof))
			require.NoError(t, y.fleet.Resume(context.Background(), riley, id, "mended"))
			y.eventually(30*time.Second, "true", `SELECT (gate_applied = gate_version)::text FROM organization WHERE id = $1`, id)
		}
		requireProven(t, y.prove(""))
		prove.Plant(t, prove.IsolationDeclared, len(some), len(some))
	})
}
