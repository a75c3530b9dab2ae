package access_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"runtime"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/dataplane/dptest"
	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/tenants"
)

// statement is the name that the driver gives a statement.
func statement(sql string) string {
	sum := sha256.Sum256([]byte(sql))
	return `"stmt_` + hex.EncodeToString(sum[:24]) + `"`
}

const entryTypes = " (uuid, uuid, text, text, text, text, text, text, text, jsonb) AS "

// replaced is SQL that puts another statement under the name of the entry's insert.
func replaced(with string) string {
	name := statement(audit.InsertSQL(false))
	return "DO $do$ BEGIN BEGIN EXECUTE 'DEALLOCATE " + name + "'; EXCEPTION WHEN OTHERS THEN NULL; END; EXECUTE $sql$PREPARE " + name + entryTypes + with + "$sql$; END $do$"
}

// TestStatementsThatSlippedInAreNotRun has a nurse's request replace statements that have
// names by now, and the owner make the next on the same connection: none of the nurse's
// is run in place of ours, be it for the request's own entry or for the owner.
func TestStatementsThatSlippedInAreNotRun(t *testing.T) {
	cell := dptest.Start(t, dptest.WithRequests(1))
	org := cell.Tenant(t, "harbor", tenants.Residential)
	nurse := org.Person(t, tenants.RoleNurse, org.North)
	mallory, owner := org.Actor(t, nurse), org.Actor(t, org.Owner)
	plantHole(t, cell, org)
	plantLate(t, cell, org)
	entries := func(actor tenants.Actor, record tenants.ID, outcome string) int {
		return cell.Count(t, "SELECT count(*) FROM "+org.Role+".audit_entry WHERE actor_id = $1 AND record_id = $2 AND outcome = $3", actor.ID, record.String(), outcome)
	}
	const named = `DO $do$ BEGIN IF NOT EXISTS (SELECT FROM pg_prepared_statements WHERE NOT from_sql AND '"' || name || '"' = '%s') THEN RAISE EXCEPTION 'it has no name'; END IF; END $do$`
	// warm makes a connection whose statements have names.
	warm := func() {
		t.Helper()
		cell.Door.Forget(org.ID)
		for range 3 {
			if err := slip(t.Context(), cell, owner, tenants.NewID(), "SELECT 1"); err != nil {
				t.Fatal(err)
			}
		}
		if err := slip(t.Context(), cell, owner, tenants.NewID(), strings.Replace(named, "%s", statement(audit.InsertSQL(false)), 1)); err != nil {
			t.Fatalf("the entry's insert: %v", err)
		}
	}
	assign := "INSERT INTO member_facility (identity_id, facility_id) VALUES ('" + nurse.ID.String() + "', '" + org.South.String() + "')"
	for name, sql := range map[string]string{
		"an entry's insert without effect": replaced("SELECT 1 WHERE false"),
		"an entry's insert that assigns":   replaced(assign),
		"an entry's insert for another":    replaced("INSERT INTO idempotency_key (key, operation, request_hash, record_id) VALUES ('SELECT 1 -- ' || $1, 'test', '', $1)"),
		"one of another name":              "DO $do$ BEGIN EXECUTE 'PREPARE other AS SELECT 1'; END $do$",
		"all statements gone":              "DEALLOCATE ALL",
		"one gone":                         "DEALLOCATE " + statement(audit.InsertSQL(false)),
	} {
		for way, outcome := range map[string]string{"before the entry": "failed", "in a request that fails": "failed", "with the commit": "ok"} {
			warm()
			first, second := tenants.NewID(), tenants.NewID()
			var err error
			switch way {
			case "before the entry":
				err = slip(t.Context(), cell, mallory, first, sql)
			case "in a request that fails":
				err = slip(t.Context(), cell, mallory, first, "DO $out$ BEGIN EXECUTE $in$"+sql+"$in$; PERFORM 1/0; END $out$")
			default:
				err = slipLate(t.Context(), cell, mallory, first, sql, func() {})
			}
			if (err == nil) != (outcome == "ok") || entries(mallory, first, outcome) != 1 {
				t.Errorf("%s, %s: the nurse's request: %v, %d entries", name, way, err, entries(mallory, first, outcome))
			}
			if err := slip(t.Context(), cell, owner, second, "SELECT 1"); err != nil || entries(owner, second, "ok") != 1 {
				t.Errorf("%s, %s: the owner's request: %v, %d entries", name, way, err, entries(owner, second, "ok"))
			}
			if cell.Count(t, "SELECT count(*) FROM "+org.Role+".member_facility WHERE identity_id = $1 AND facility_id = $2", nurse.ID, org.South) != 0 {
				t.Fatalf("%s, %s: the nurse has another facility", name, way)
			}
		}
	}
}

// TestAReadAmongOthersRunsNoStatementThatSlippedIn is the same for reads that are a
// transaction of one statement: one of the owner's waits for the one connection while a
// nurse's request changes the statements in it.
func TestAReadAmongOthersRunsNoStatementThatSlippedIn(t *testing.T) {
	cell := dptest.Start(t, dptest.WithRequests(1))
	org := cell.Tenant(t, "harbor", tenants.Residential)
	mallory, owner := org.Actor(t, org.Person(t, tenants.RoleNurse, org.North)), org.Actor(t, org.Owner)
	plantHole(t, cell, org)
	plantLate(t, cell, org)
	for _, sql := range []string{"SELECT 1", "DO $do$ BEGIN EXECUTE 'PREPARE other AS SELECT 1'; END $do$", "DEALLOCATE ALL"} {
		// What is read has a name by now.
		for range 4 {
			if err := look(t.Context(), cell, owner, tenants.NewID()); err != nil {
				t.Fatal(err)
			}
		}
		record, ended := tenants.NewID(), make(chan error, 1)
		err := slipLate(t.Context(), cell, mallory, tenants.NewID(), sql, func() {
			reads := func(want int) {
				for cell.Door.Reads(org.ID) != want {
					runtime.Gosched()
				}
			}
			// The first to wait would read alone; it goes before its turn.
			ctx, cancel := context.WithCancel(t.Context())
			gone := make(chan error, 1)
			go func() { gone <- look(ctx, cell, owner, tenants.NewID()) }()
			reads(1)
			go func() { ended <- look(t.Context(), cell, owner, record) }()
			reads(2)
			cancel()
			if <-gone == nil {
				t.Error("it was not to be answered")
			}
			reads(1)
		})
		if err != nil {
			t.Errorf("%s: the nurse's request: %v", sql, err)
		}
		if err := <-ended; err != nil {
			t.Errorf("%s: the read: %v", sql, err)
		}
		if n := cell.Count(t, "SELECT count(*) FROM "+org.Role+".audit_entry WHERE actor_id = $1 AND record_id = $2 AND outcome = 'ok'", owner.ID, record.String()); n != 1 {
			t.Errorf("%s: %d entries", sql, n)
		}
	}
}

// TestANamedStatementCanBeReplaced shows what the test above is about: in a session that
// nobody looks at, SQL that slips in is run in place of a statement of ours, and the look
// at it says so.
func TestANamedStatementCanBeReplaced(t *testing.T) {
	cell := dptest.Start(t)
	org := cell.Tenant(t, "harbor", tenants.Residential)
	owner := org.Actor(t, org.Owner)
	conn := org.Connect(t)
	insert := audit.InsertSQL(false)
	if _, err := conn.Prepare(t.Context(), insert, insert); err != nil {
		t.Fatal(err)
	}
	entry := func() int64 {
		if _, err := conn.Exec(t.Context(), "SELECT set_config('caresphere.context', $1, false)", pgx.QueryExecModeExec, org.Context(conn, org.Owner, tenants.RoleOwner)); err != nil {
			t.Fatal(err)
		}
		tag, err := conn.Exec(t.Context(), insert, audit.InsertArgs(false, owner, audit.Event{Action: "client.read", RecordType: "client"})...)
		if err != nil {
			t.Fatal(err)
		}
		return tag.RowsAffected()
	}
	looked := func(known int) error {
		_, err := conn.Exec(t.Context(), "SELECT cell.own_statements($1)", pgx.QueryExecModeExec, known)
		return err
	}
	if n := entry(); n != 1 {
		t.Fatalf("%d entries", n)
	}
	if err := looked(1); err != nil {
		t.Errorf("with our statement: %v", err)
	}
	for known := range 3 {
		if known != 1 && !pg.IsCode(looked(known), tenantdb.CodeForeignStatement) {
			t.Errorf("one statement is taken for %d", known)
		}
	}
	if _, err := conn.Exec(t.Context(), replaced("SELECT 1 WHERE false")); err != nil {
		t.Fatal(err)
	}
	if n := entry(); n != 0 {
		t.Errorf("%d entries by a statement that was replaced", n)
	}
	if !pg.IsCode(looked(1), tenantdb.CodeForeignStatement) {
		t.Error("nobody sees that it was replaced")
	}
}
