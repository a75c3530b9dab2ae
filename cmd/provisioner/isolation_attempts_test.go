package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/isolation"
	"github.com/caresphere/caresphere/internal/testkit/prove"
	"github.com/caresphere/caresphere/tenants"
)

// TestEveryAttemptIsSeenAllowedOnce breaks what each attempt tries: one that was never
// allowed may be refused for a reason that has nothing to do with what it is there for.
func TestEveryAttemptIsSeenAllowedOnce(t *testing.T) {
	y := newYard(t, 4)
	requireProven(t, y.prove(""))
	ctx := context.Background()
	granted, closed, super, victim := y.tenants[0], y.tenants[1], y.tenants[2], y.tenants[3]
	exec := func(sql string) {
		t.Helper()
		y.cellExec(strings.NewReplacer("{granted}", tenants.SchemaName(granted), "{closed}", tenants.SchemaName(closed),
			"{super}", tenants.SchemaName(super), "{victim}", tenants.SchemaName(victim)).Replace(sql))
	}
	failed := func(id tenants.ID) isolation.Tenant {
		t.Helper()
		r := y.prove(y.slug(id)).Tenants[0]
		require.Equal(t, isolation.Failed, r.Verdict, all(r))
		return r
	}
	seen, planted := 0, 0
	says := func(r isolation.Tenant, lines ...string) {
		t.Helper()
		for _, line := range lines {
			planted++
			require.Contains(t, all(r), line)
			seen++
		}
	}

	// The tenant that gets at another's table is the one that is tried.
	exec(`GRANT USAGE ON SCHEMA {victim} TO {granted}; GRANT SELECT ON {victim}.client TO {granted}`)
	says(failed(granted), "sql: "+victim.String()+".client: selecting from another's table was allowed")
	exec(`REVOKE USAGE ON SCHEMA {victim} FROM {granted}; REVOKE SELECT ON {victim}.client FROM {granted}`)

	require.NoError(t, y.fleet.Suspend(ctx, riley, closed, "for the test"))
	y.eventually(30*time.Second, "true", `SELECT (gate_applied = gate_version)::text FROM organization WHERE id = $1`, closed)
	exec(`ALTER ROLE {closed} LOGIN`)
	says(failed(closed), "logging in behind a closed gate was allowed")
	exec(`ALTER ROLE {closed} NOLOGIN`)

	// A superuser may all that is tried as a login. Only what no right lets through is
	// broken beside it.
	exec(`ALTER ROLE {super} SUPERUSER; ALTER TABLE {super}.audit_entry DISABLE TRIGGER audit_entry_append_only`)
	whole := y.prove(y.slug(super))
	exec(`ALTER ROLE {super} NOSUPERUSER NOLOGIN; ALTER TABLE {super}.audit_entry ENABLE ALWAYS TRIGGER audit_entry_append_only`)
	elsewhere := map[string]bool{"logging in while the gate is closed": true, "selecting from each table of each other tenant": true}
	for _, a := range whole.Attempts {
		if a.Layer == isolation.LayerSQL && !elsewhere[a.Refused] {
			says(whole.Tenants[0], ": "+a.Refused+" was allowed")
		}
	}

	// A context function that takes whatever it is given, and a policy that asks for
	// nothing else.
	facility, somebody := tenants.NewID().String(), tenants.NewID().String()
	exec(`SET session_replication_role = replica; INSERT INTO {victim}.client (id, facility_id, given_name_sealed, family_name_sealed, birth_date_sealed, family_index, birth_date_index, created_by, updated_by)
		VALUES (gen_random_uuid(), '` + facility + `', '', '', '', sha256(''), sha256(''), '` + somebody + `', '` + somebody + `'); RESET session_replication_role`)
	exec(`CREATE OR REPLACE FUNCTION cell.context(OUT kind text, OUT actor uuid, OUT member_role text, OUT session uuid, OUT facilities uuid[])
		LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
		DECLARE part text[] := string_to_array(current_setting('caresphere.context', true), '|');
		BEGIN
			kind := coalesce(part[5], 'member');
			member_role := part[7];
			facilities := ARRAY['` + facility + `'::uuid];
		END $$`)
	says(failed(victim), "a context of another backend was allowed", "an expired context was allowed", "a context by no key was allowed",
		"a context with another role was allowed", "words was allowed", "another tenant's context by its own key was allowed",
		"a context by another's key was allowed", "tenant_setting: rows without a context was allowed",
		"client: rows of a facility for a nurse who has none was allowed")
	prove.Plant(t, prove.IsolationAttempts, planted, seen)
}

// TestWholeProofsTryEveryPairWhateverElseIsAskedFor has an even number of rounds, and
// between two proofs of all one of a single tenant, which has a number as well.
func TestWholeProofsTryEveryPairWhateverElseIsAskedFor(t *testing.T) {
	y := newYard(t, 3, "CARESPHERE_ISOLATION_PEERS=1")
	met, rounds := map[tenants.ID]bool{}, map[int64]bool{}
	for range 2 {
		r := y.prove("")
		requireProven(t, r)
		require.EqualValues(t, 2, r.Pairs.Rounds)
		rounds[r.Pairs.Round] = true
		for _, one := range r.Tenants[0].Peers {
			met[one] = true
		}
		y.repair(y.slug(y.tenants[0]), false)
	}
	require.Len(t, rounds, 2)
	require.Len(t, met, 2)
}
