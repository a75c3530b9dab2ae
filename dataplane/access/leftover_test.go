package access_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"github.com/caresphere/caresphere/dataplane/access"
	"github.com/caresphere/caresphere/dataplane/dptest"
	"github.com/caresphere/caresphere/dataplane/store"
	"github.com/caresphere/caresphere/internal/audit"
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

// statement is the name that the driver gives a statement which has one.
func statement(sql string) string {
	sum := sha256.Sum256([]byte(sql))
	return `"stmtcache_` + hex.EncodeToString(sum[:24]) + `"`
}

const entryTypes = " (uuid, uuid, text, text, text, text, text, text, text, jsonb) AS "

// replaced is SQL that puts another statement under the name of the entry's insert.
func replaced(with string) string {
	name := statement(audit.InsertSQL(false))
	return "DO $do$ BEGIN BEGIN EXECUTE 'DEALLOCATE " + name + "'; EXCEPTION WHEN OTHERS THEN NULL; END; EXECUTE $sql$PREPARE " + name + entryTypes + with + "$sql$; END $do$"
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
	assign := "INSERT INTO member_facility (identity_id, facility_id) VALUES ('" + nurse.ID.String() + "', '" + org.South.String() + "')"
	for name, sql := range map[string]string{
		"nothing":                          "SELECT 1",
		"an entry's insert without effect": replaced("SELECT 1 WHERE false"),
		"an entry's insert that assigns":   replaced(assign),
		"all statements gone":              "DEALLOCATE ALL",
		"no wait for the disk":             "SELECT set_config('synchronous_commit', 'off', false)",
		"another path":                     "SELECT set_config('search_path', 'pg_catalog', false)",
		"no limit":                         "SET statement_timeout = 0",
		"no policies":                      "SET row_security = off",
		"reading only":                     "SET default_transaction_read_only = on",
		"another isolation":                "SET default_transaction_isolation = 'serializable'",
		"a context kept":                   "SELECT set_config('caresphere.kept', current_setting('caresphere.context'), false)",
		"a context for the session":        "SELECT set_config('caresphere.context', current_setting('caresphere.context'), false)",
		"no context":                       "SELECT set_config('caresphere.context', '', true)",
		"another path for this one":        "SELECT set_config('search_path', 'pg_catalog', true)",
		"an ear":                           "LISTEN gate",
		"a cursor":                         "DECLARE kept CURSOR WITH HOLD FOR SELECT current_setting('caresphere.context')",
		"settings of the role":             "ALTER ROLE " + org.Role + " SET synchronous_commit = off",
		"a role that only reads":           "ALTER ROLE " + org.Role + " SET default_transaction_read_only = on",
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

// TestANamedStatementCanBeReplaced shows what the test above is about: where statements
// have names, SQL that slips in has a session run its own in place of ours.
func TestANamedStatementCanBeReplaced(t *testing.T) {
	cell := dptest.Start(t)
	org := cell.Tenant(t, "harbor", tenants.Residential)
	owner := org.Actor(t, org.Owner)
	conn := org.Connect(t)
	entry := func() int64 {
		if _, err := conn.Exec(t.Context(), "SELECT set_config('caresphere.context', $1, false)", org.Context(conn, org.Owner, tenants.RoleOwner)); err != nil {
			t.Fatal(err)
		}
		tag, err := conn.Exec(t.Context(), audit.InsertSQL(false), audit.InsertArgs(false, owner, audit.Event{Action: "client.read", RecordType: "client"})...)
		if err != nil {
			t.Fatal(err)
		}
		return tag.RowsAffected()
	}
	if n := entry(); n != 1 {
		t.Fatalf("%d entries", n)
	}
	if _, err := conn.Exec(t.Context(), replaced("SELECT 1 WHERE false")); err != nil {
		t.Fatal(err)
	}
	if n := entry(); n != 0 {
		t.Errorf("%d entries by a statement that was replaced", n)
	}
}
