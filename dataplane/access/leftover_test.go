package access_test

import (
	"context"
	"testing"

	"github.com/caresphere/caresphere/dataplane/access"
	"github.com/caresphere/caresphere/dataplane/dptest"
	"github.com/caresphere/caresphere/dataplane/store"
	"github.com/caresphere/caresphere/tenants"
)

// plantHole makes a request run SQL that its client sent: the key of a repeat.
func plantHole(t testing.TB, cell *dptest.Cell, org *dptest.Tenant) {
	t.Helper()
	cell.Exec(t, "CREATE FUNCTION "+org.Role+".hole() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE NEW.key; RETURN NULL; END $$")
	cell.Exec(t, "CREATE TRIGGER hole AFTER INSERT ON "+org.Role+".idempotency_key FOR EACH ROW EXECUTE FUNCTION "+org.Role+".hole()")
}

// slip makes a request about a record, with SQL for the hole.
func slip(ctx context.Context, cell *dptest.Cell, actor tenants.Actor, record tenants.ID, sql string) error {
	return cell.Door.Do(ctx, actor, tenants.PermClientRead, access.Target{Action: "client.read", RecordType: "client", RecordID: record},
		func(ctx context.Context, tx *access.Tx) error {
			// A key is taken once.
			_, err := tx.ClaimIdempotencyKey(ctx, store.ClaimIdempotencyKeyParams{Key: sql + " -- " + record.String(), Operation: "test", RequestHash: []byte{1}, RecordID: record})
			return err
		})
}

// slipLate is slip with SQL that runs with the commit, where plantLate was called, and
// has something happen meanwhile.
func slipLate(ctx context.Context, cell *dptest.Cell, actor tenants.Actor, record tenants.ID, sql string, meanwhile func()) error {
	return cell.Door.Do(ctx, actor, tenants.PermClientRead, access.Target{Action: "client.read", RecordType: "client", RecordID: record},
		func(ctx context.Context, tx *access.Tx) error {
			tx.Note("late", sql)
			meanwhile()
			_, err := tx.ClaimIdempotencyKey(ctx, store.ClaimIdempotencyKeyParams{Key: "SELECT 1 -- " + record.String(), Operation: "test", RequestHash: []byte{1}, RecordID: record})
			return err
		})
}

// plantLate has the database run what an entry's detail says, after the entry and with
// the commit.
func plantLate(t testing.TB, cell *dptest.Cell, org *dptest.Tenant) {
	t.Helper()
	cell.Exec(t, "CREATE FUNCTION "+org.Role+".late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.detail ->> 'late' <> '' THEN EXECUTE NEW.detail ->> 'late'; END IF; RETURN NULL; END $$")
	cell.Exec(t, "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON "+org.Role+".audit_entry DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION "+org.Role+".late()")
}

// TestNothingOfARequestReachesTheNext slips SQL into a nurse's requests that changes
// what it can of the session, and has the owner make the next on the same connection:
// each leaves its own entry, with nothing done for the nurse, in the session as it began.
func TestNothingOfARequestReachesTheNext(t *testing.T) {
	cell := dptest.Start(t, dptest.WithRequests(1))
	org := cell.Tenant(t, "harbor", tenants.Residential)
	nurse := org.Person(t, tenants.RoleNurse, org.North)
	mallory, owner := org.Actor(t, nurse), org.Actor(t, org.Owner)
	plantHole(t, cell, org)
	const asBegun = `DO $do$ BEGIN
		IF current_setting('synchronous_commit') <> 'on' OR current_setting('search_path') <> current_user OR current_setting('statement_timeout') <> '5s'
			OR current_setting('row_security') <> 'on' OR current_setting('transaction_read_only') <> 'off' OR current_setting('transaction_isolation') <> 'read committed'
			OR current_setting('caresphere.kept', true) <> '' THEN
			RAISE EXCEPTION 'not as it began: % % % % %', current_setting('synchronous_commit'), current_setting('search_path'), current_setting('statement_timeout'),
				current_setting('transaction_read_only'), current_setting('caresphere.kept', true);
		END IF; END $do$`
	entries := func(actor tenants.Actor, record tenants.ID, outcome string) int {
		return cell.Count(t, "SELECT count(*) FROM "+org.Role+".audit_entry WHERE actor_id = $1 AND record_id = $2 AND outcome = $3", actor.ID, record.String(), outcome)
	}
	assigned := func() int {
		return cell.Count(t, "SELECT count(*) FROM "+org.Role+".member_facility WHERE identity_id = $1 AND facility_id = $2", nurse.ID, org.South)
	}
	for name, sql := range map[string]string{
		"nothing":                   "SELECT 1",
		"no wait for the disk":      "SELECT set_config('synchronous_commit', 'off', false)",
		"another path":              "SELECT set_config('search_path', 'pg_catalog', false)",
		"no limit":                  "SET statement_timeout = 0",
		"no policies":               "SET row_security = off",
		"reading only":              "SET default_transaction_read_only = on",
		"another isolation":         "SET default_transaction_isolation = 'serializable'",
		"a context kept":            "SELECT set_config('caresphere.kept', current_setting('caresphere.context'), false)",
		"a context for the session": "SELECT set_config('caresphere.context', current_setting('caresphere.context'), false)",
		"no context":                "SELECT set_config('caresphere.context', '', true)",
		"another path for this one": "SELECT set_config('search_path', 'pg_catalog', true)",
		"an ear":                    "LISTEN gate",
		"a cursor":                  "DECLARE kept CURSOR WITH HOLD FOR SELECT current_setting('caresphere.context')",
		"settings of the role":      "ALTER ROLE " + org.Role + " SET synchronous_commit = off",
		"a role that only reads":    "ALTER ROLE " + org.Role + " SET default_transaction_read_only = on",
	} {
		first, second, third := tenants.NewID(), tenants.NewID(), tenants.NewID()
		if err := slip(t.Context(), cell, mallory, first, sql); err != nil {
			t.Errorf("%s: the nurse's request: %v", name, err)
		}
		if err := slip(t.Context(), cell, owner, second, asBegun); err != nil {
			t.Errorf("%s: the owner's request: %v", name, err)
		}
		if entries(mallory, first, "ok") != 1 || entries(owner, second, "ok") != 1 {
			t.Errorf("%s: %d and %d entries", name, entries(mallory, first, "ok"), entries(owner, second, "ok"))
		}
		// A role's settings count for the connections after this one.
		cell.Door.Forget(org.ID)
		if err := slip(t.Context(), cell, owner, third, asBegun); err != nil || entries(owner, third, "ok") != 1 {
			t.Errorf("%s: the owner's request on another connection: %v", name, err)
		}
		if assigned() != 0 {
			t.Fatalf("%s: the nurse has another facility", name)
		}
	}
	for name, sql := range map[string]string{
		"a temporary table": "CREATE TEMP TABLE audit_entry (x int)",
		"an advisory lock":  "SELECT pg_advisory_lock(1)",
		"another role":      "SET ROLE cell_owner",
		"a longer role":     "SET session_replication_role = 'replica'",
	} {
		record := tenants.NewID()
		if err := slip(t.Context(), cell, mallory, record, sql); err == nil || entries(mallory, record, "failed") != 1 {
			t.Errorf("%s: %v, %d entries", name, err, entries(mallory, record, "failed"))
		}
	}
}
