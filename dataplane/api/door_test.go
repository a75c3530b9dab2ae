package api_test

import (
	"context"
	"encoding/hex"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caresphere/caresphere/dataplane/dptest"
	"github.com/caresphere/caresphere/internal/kms/driver"
	"github.com/caresphere/caresphere/tenants"
)

func keyName(id tenants.ID) string { return driver.KeyName(id) }

// TestNoRecordNoAction plants a trigger that refuses audit entries: neither a
// change nor a read comes through, nor does a denial show itself as anything but 503.
func TestNoRecordNoAction(t *testing.T) {
	cell := dptest.Start(t)
	p := furnish(t, cell, "harbor")
	staff := p.Person(t, tenants.RoleStaff, p.North)
	expect(t, staff, 200, "")
	clients := "SELECT count(*) FROM " + p.Role + ".client"
	before := cell.Count(t, clients)
	cell.Exec(t, `CREATE FUNCTION `+p.Role+`.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'the trail is full'; END $$`)
	cell.Exec(t, "CREATE TRIGGER planted BEFORE INSERT ON "+p.Role+".audit_entry FOR EACH ROW EXECUTE FUNCTION "+p.Role+".refuse()")
	for name, ask := range map[string]func() dptest.Answer{
		"create": func() dptest.Answer { return p.Owner.Do(t, "POST", "/clients", newClient(p.North, "Unrecorded")) },
		"read":   func() dptest.Answer { return p.Owner.Do(t, "GET", p.at(""), nil) },
		"list":   func() dptest.Answer { return p.Owner.Do(t, "GET", "/clients", nil) },
		"search": func() dptest.Answer { return p.Owner.Do(t, "POST", "/clients/search", m{"family": "Alvarez"}) },
		"denial": func() dptest.Answer { return staff.Do(t, "POST", "/clients", newClient(p.North, "Denied")) },
		"export": func() dptest.Answer { return p.Owner.Do(t, "GET", "/audit/export", nil) },
	} {
		a := ask()
		if a.Status != http.StatusServiceUnavailable || strings.Contains(string(a.Body), "Alvarez") {
			t.Errorf("%s without a trail answers %d: %s", name, a.Status, a.Body)
		}
	}
	if n := cell.Count(t, clients); n != before {
		t.Errorf("%d clients were made without a trail", n-before)
	}
	cell.Exec(t, "DROP TRIGGER planted ON "+p.Role+".audit_entry")
	p.Owner.Do(t, "GET", p.at(""), nil).Into(t, http.StatusOK, nil)
}

// TestEachActionLeavesOneEntry counts the trail around single requests.
func TestEachActionLeavesOneEntry(t *testing.T) {
	cell := dptest.Start(t)
	p := furnish(t, cell, "harbor")
	staff := p.Person(t, tenants.RoleStaff, p.North)
	expect(t, staff, 200, "")
	for _, c := range []struct {
		who             *dptest.Person
		method, path    string
		body            any
		action, outcome string
	}{
		{staff, "GET", p.at(""), nil, "client.read", "ok"},
		{staff, "GET", "/clients", nil, "client.list", "ok"},
		{staff, "POST", "/clients", newClient(p.North, "X"), "client.create", "denied"},
		{staff, "GET", "/clients/" + p.elsewhere.String(), nil, "client.read", "denied"},
		{p.Owner, "PATCH", p.at(""), m{"version": 99, "phone": "1"}, "client.update", "failed"},
		{p.Owner, "POST", "/clients", newClient(p.North, "X"), "client.create", "ok"},
	} {
		last := cell.Count(t, "SELECT max(seq)::int FROM "+p.Role+".audit_entry")
		c.who.Do(t, c.method, c.path, c.body)
		var action, outcome, actor, ip string
		var detail string
		rows, err := cell.Super.Query(context.Background(), "SELECT action, outcome, actor_id::text, ip, detail::text FROM "+p.Role+".audit_entry WHERE seq > $1", last)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		if _, err := pgx.ForEachRow(rows, []any{&action, &outcome, &actor, &ip, &detail}, func() error { n++; return nil }); err != nil {
			t.Fatal(err)
		}
		if n != 1 || action != c.action || outcome != c.outcome || actor != c.who.ID.String() || ip != "203.0.113.7" {
			t.Errorf("%s %s left %d entries, the last %s %s by %s from %s", c.method, c.path, n, action, outcome, actor, ip)
		}
		if strings.Contains(detail, "Alvarez") {
			t.Errorf("PHI in the trail: %s", detail)
		}
	}
}

// TestSQLCannotWidenANursesScope runs statements of an attacker who has the nurse's
// own transaction: the signed context decides what they see, and no statement of
// theirs changes it.
func TestSQLCannotWidenANursesScope(t *testing.T) {
	cell := dptest.Start(t)
	p, foreign := furnish(t, cell, "harbor"), furnish(t, cell, "meadow")
	nurse := p.Person(t, tenants.RoleNurse, p.North)
	ctx := context.Background()
	conn := p.Connect(t)
	own := p.Context(conn, nurse, tenants.RoleNurse, p.North)
	forged := strings.Replace(own, p.North.String(), p.South.String(), 1)
	promoted := strings.Replace(own, "|nurse|", "|owner|", 1)
	seen := func(prepare ...string) (n int, err error) {
		tx, err := conn.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback(ctx) }()
		if _, err := tx.Exec(ctx, "SELECT set_config('caresphere.context', $1, true)", own); err != nil {
			t.Fatal(err)
		}
		for _, sql := range prepare {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return 0, err
			}
		}
		err = tx.QueryRow(ctx, "SELECT count(*) FROM client WHERE facility_id = $1", p.South).Scan(&n)
		return n, err
	}
	var north int
	tx, _ := conn.Begin(ctx)
	if _, err := tx.Exec(ctx, "SELECT set_config('caresphere.context', $1, true)", own); err != nil {
		t.Fatal(err)
	}
	if err := tx.QueryRow(ctx, "SELECT count(*) FROM client").Scan(&north); err != nil || north == 0 {
		t.Fatalf("the nurse sees %d of her own: %v", north, err)
	}
	_ = tx.Rollback(ctx)
	for name, sql := range map[string]string{
		"nothing":               "SELECT 1",
		"forged facilities":     "SELECT set_config('caresphere.context', '" + forged + "', true)",
		"forged role":           "SELECT set_config('caresphere.context', '" + promoted + "', true)",
		"empty context":         "SELECT set_config('caresphere.context', '', true)",
		"row security off":      "SET LOCAL row_security = off",
		"another role":          "SELECT set_config('role', '" + foreign.Role + "', true)",
		"own assignment":        "INSERT INTO member_facility (identity_id, facility_id) VALUES ('" + nurse.ID.String() + "', '" + p.South.String() + "')",
		"own grant":             "INSERT INTO facility_grant (id, identity_id, facility_id, reason) VALUES (gen_random_uuid(), '" + nurse.ID.String() + "', '" + p.South.String() + "', 'x')",
		"own promotion":         "UPDATE member SET role = 'owner'",
		"read the key":          "SELECT * FROM cell.context_key",
		"moving a client over":  "UPDATE client SET facility_id = '" + p.South.String() + "'",
		"drop the policy":       "DROP POLICY client_select ON client",
		"disable the policy":    "ALTER TABLE client DISABLE ROW LEVEL SECURITY",
		"another tenant":        "SELECT count(*) FROM " + foreign.Role + ".client",
		"delete":                "DELETE FROM client",
		"rewrite a note":        "UPDATE shift_note SET body_sealed = ''",
		"write somebody's note": "INSERT INTO shift_note (id, client_id, facility_id, shift, body_sealed, author) SELECT gen_random_uuid(), id, facility_id, 'day', '', '" + p.Owner.ID.String() + "' FROM client",
		"tamper with the trail": "UPDATE audit_entry SET outcome = 'ok'",
	} {
		n, err := seen(sql)
		if n != 0 {
			t.Errorf("%s: the nurse sees %d clients of the other facility", name, n)
		}
		switch name {
		case "nothing", "empty context", "own promotion":
		default:
			if err == nil {
				t.Errorf("%s was not refused", name)
			}
		}
	}
	if n := cell.Count(t, "SELECT count(*) FROM "+p.Role+".member WHERE role = 'owner'"); n != 1 {
		t.Errorf("there are %d owners", n)
	}
}

func TestAGrantReachesAndExpires(t *testing.T) {
	cell := dptest.Start(t)
	p := furnish(t, cell, "harbor")
	nurse := p.Person(t, tenants.RoleNurse, p.North)
	south := "/clients/" + p.elsewhere.String()
	status := func() int { return nurse.Do(t, "GET", south, nil).Status }
	if s := status(); s != 404 {
		t.Fatalf("without a grant: %d", s)
	}
	grant := p.Owner.Do(t, "POST", "/members/"+nurse.ID.String()+"/grants", m{"facility_id": p.South, "reason": "covers"}).ID(t)
	if s := status(); s != 200 {
		t.Fatalf("with a grant: %d", s)
	}
	p.Owner.Do(t, "DELETE", "/grants/"+grant.String(), nil).Into(t, http.StatusNoContent, nil)
	if s := status(); s != 404 {
		t.Fatalf("after its revocation: %d", s)
	}
	p.Owner.Do(t, "POST", "/members/"+nurse.ID.String()+"/grants",
		m{"facility_id": p.South, "reason": "covers", "expires_at": time.Now().Add(1500 * time.Millisecond)}).ID(t)
	if s := status(); s != 200 {
		t.Fatalf("with a grant that will expire: %d", s)
	}
	eventually(t, func() bool { return status() == 404 })
	// An assignment that is taken away counts with the next request.
	p.Owner.Do(t, "PUT", "/members/"+nurse.ID.String()+"/facilities", m{"facilities": []any{p.South}}).Into(t, http.StatusOK, nil)
	if s := status(); s != 200 {
		t.Fatalf("assigned: %d", s)
	}
	if s := nurse.Do(t, "GET", p.at(""), nil).Status; s != 404 {
		t.Fatalf("no longer assigned: %d", s)
	}
}

// TestPHILiesSealed looks for planted markers in every column of the tenant's schema.
func TestPHILiesSealed(t *testing.T) {
	cell := dptest.Start(t)
	org := cell.Tenant(t, "harbor", tenants.Residential)
	o := org.Owner
	const marker = "Zyxmarker"
	c := o.Do(t, "POST", "/clients", m{"facility_id": org.North, "name": m{"given": marker + "g", "family": marker + "f"}, "birth_date": "1931-12-24",
		"sex": marker + "s", "gender": marker + "e", "record_number": marker + "r", "phone": marker + "p", "address": marker + "a"}).ID(t)
	at := "/clients/" + c.String()
	o.Do(t, "POST", at+"/contacts", m{"relationship": "child", "name": marker + "c", "phone": marker + "q", "email": marker + "@example.com"}, "Idempotency-Key", "k1").ID(t)
	o.Do(t, "POST", at+"/allergies", m{"severity": "mild", "substance": marker + "u", "reaction": marker + "x"}).ID(t)
	o.Do(t, "POST", at+"/notes", m{"shift": "day", "body": marker + "n"}).ID(t)
	o.Do(t, "POST", at+"/transfer", m{"facility_id": org.South, "reason": marker + "t"}).Into(t, http.StatusOK, nil)
	o.Do(t, "POST", "/clients/search", m{"family": marker + "f"}).Into(t, http.StatusOK, nil)
	rows, err := cell.Super.Query(context.Background(), "SELECT table_name::text FROM information_schema.tables WHERE table_schema = $1", org.Role)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(tables) < 15 {
		t.Fatal(len(tables), err)
	}
	looked := 0
	for _, table := range tables {
		rows, err := cell.Super.Query(context.Background(), "SELECT t::text FROM "+org.Role+"."+table+" t")
		if err != nil {
			t.Fatal(err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range lines {
			looked++
			l = strings.ToLower(l)
			for _, plain := range []string{marker, "1931-12-24"} {
				plain = strings.ToLower(plain)
				if strings.Contains(l, plain) || strings.Contains(l, hex.EncodeToString([]byte(plain))) {
					t.Errorf("%s holds a marker in plain text: %s", table, l)
				}
			}
		}
	}
	if looked < 20 {
		t.Fatalf("only %d rows were looked at", looked)
	}
	var got struct{ Name struct{ Family string } }
	o.Do(t, "GET", at, nil).Into(t, http.StatusOK, &got)
	if got.Name.Family != marker+"f" {
		t.Errorf("the client reads %q", got.Name.Family)
	}
	// A sealed value moved to another row does not open there.
	other := o.Do(t, "POST", "/clients", newClient(org.South, "Other")).ID(t)
	cell.Exec(t, "ALTER TABLE "+org.Role+".client DISABLE TRIGGER client_touch")
	cell.Exec(t, "UPDATE "+org.Role+".client SET given_name_sealed = (SELECT given_name_sealed FROM "+org.Role+".client WHERE id = $1) WHERE id = $2", c, other)
	if a := o.Do(t, "GET", "/clients/"+other.String(), nil); a.Status != 500 || a.Problem(t).Kind() != tenants.KindIntegrity {
		t.Errorf("a swapped value answers %d: %s", a.Status, a.Body)
	}
}
