package audit_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/audit/audittest"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/tenants"
)

var ctx = context.Background()

func TestInsertInATenant(t *testing.T) {
	n := audittest.NewTenant(t, audittest.Cell(t))
	c := n.Connect(t)
	nurse := n.Member(tenants.RoleNurse)
	facility := tenants.NewID()
	ev := audit.Event{ID: tenants.NewID(), Action: "client.read", RecordType: "client", RecordID: tenants.NewID().String(),
		FacilityID: facility, Detail: map[string]string{"b": "2", "a": "1"}}
	before := time.Now()
	n.Record(t, c, nurse, ev)

	super := audittest.Connect(t, "super", n.Database)
	got, err := audit.ScanEntry(n.Log(), super.QueryRow(ctx, "SELECT "+audit.EntryColumns(n.Log(), "e")+" FROM "+n.Log().Table("audit_entry")+" e"))
	require.NoError(t, err)
	require.Equal(t, ev.ID, got.ID)
	require.Equal(t, nurse.ID, got.ActorID)
	require.Equal(t, tenants.ActorMember, got.ActorKind)
	require.Equal(t, "nurse", got.Role)
	require.Equal(t, nurse.SessionID, got.SessionID)
	require.Equal(t, n.Role, got.DBRole)
	require.Equal(t, facility, got.FacilityID)
	require.Equal(t, ev.Detail, got.Detail)
	require.Equal(t, audit.OutcomeOK, got.Outcome)
	require.WithinDuration(t, before, got.At, 10*time.Second)
}

func TestInsertInTheControlDatabase(t *testing.T) {
	db := audittest.Control(t)
	c := audittest.Connect(t, "controlplane", db)
	operator := tenants.Actor{Kind: tenants.ActorOperator, ID: tenants.NewID(), IP: "192.0.2.1", Device: "x", RequestID: "r"}
	ev := audit.Event{Action: "baa.countersign", RecordType: "baa", RecordID: tenants.NewID().String(), OrganizationID: tenants.NewID(), Outcome: audit.OutcomeDenied}
	require.NoError(t, pg.InTx(ctx, c, func(tx pgx.Tx) error { return audit.Insert(ctx, tx, operator, ev) }))
	got, err := audit.ScanEntry(audit.ControlLog(), c.QueryRow(ctx, "SELECT "+audit.EntryColumns(audit.ControlLog(), "e")+" FROM audit_entry e"))
	require.NoError(t, err)
	require.Equal(t, operator.ID, got.ActorID)
	require.Equal(t, ev.OrganizationID, got.OrganizationID)
	require.Equal(t, audit.OutcomeDenied, got.Outcome)
	require.Equal(t, "controlplane", got.DBRole)
}

func TestTheEntryGoesWithItsTransaction(t *testing.T) {
	n := audittest.NewTenant(t, audittest.Cell(t))
	c := n.Connect(t)
	a := n.Member(tenants.RoleOwner)
	gone := context.Canceled
	err := n.InTx(ctx, c, a, func(tx pgx.Tx) error {
		require.NoError(t, audit.Insert(ctx, tx, a, audit.Event{Action: "client.create"}))
		return gone
	})
	require.ErrorIs(t, err, gone)
	n.Record(t, c, a, audit.Event{Action: "client.update"})
	super := audittest.Connect(t, "super", n.Database)
	var actions []string
	require.NoError(t, super.QueryRow(ctx, "SELECT array_agg(action) FROM "+n.Log().Table("audit_entry")).Scan(&actions))
	require.Equal(t, []string{"client.update"}, actions)
}

// A tenant's login may write the columns of InsertSQL and nothing else; the
// inserts around each refusal show that the login works.
func TestForgedColumnsAreRefused(t *testing.T) {
	n := audittest.NewTenant(t, audittest.Cell(t))
	c := n.Connect(t)
	a := n.Member(tenants.RoleOwner)
	const allowed = "id, action, record_type, record_id, outcome, ip, device, request_id, detail"
	const values = "gen_random_uuid(), 'client.read', '', '', 'ok', '', '', '', '{}'"
	insert := func(extra, value string) error {
		return n.InTx(ctx, c, a, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "INSERT INTO audit_entry ("+allowed+extra+") OVERRIDING SYSTEM VALUE VALUES ("+values+value+")")
			return err
		})
	}
	for _, forged := range []struct{ column, value string }{
		{"seq", "1"}, {"xid", "'1'"}, {"at", "now() - interval '1 year'"}, {"db_role", "'cell_owner'"},
		{"actor_kind", "'system'"}, {"actor_id", "gen_random_uuid()"}, {"role", "'nurse'"}, {"session_id", "gen_random_uuid()"},
	} {
		require.NoError(t, insert("", ""))
		err := insert(", "+forged.column, ", "+forged.value)
		require.True(t, pg.IsCode(err, "42501"), "%s: %v", forged.column, err)
	}
	require.NoError(t, insert("", ""))
}

func TestAnEntryNeedsAValidContext(t *testing.T) {
	n := audittest.NewTenant(t, audittest.Cell(t))
	other := audittest.NewTenant(t, n.Database)
	c := n.Connect(t)
	a := n.Member(tenants.RoleOwner)
	write := func(signed string) error {
		return pg.InTx(ctx, c, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "SELECT set_config('caresphere.context', $1, true)", signed); err != nil {
				return err
			}
			return audit.Insert(ctx, tx, a, audit.Event{Action: "client.read"})
		})
	}
	good := n.Context(c, a)
	require.NoError(t, write(good))
	require.Error(t, write(""))
	require.True(t, pg.IsCode(write(strings.Replace(good, a.ID.String(), tenants.NewID().String(), 1)), "CS001"))
	require.True(t, pg.IsCode(write(other.Context(c, a)), "CS001"))
	require.NoError(t, write(n.Context(c, a)))
}

func TestNobodyChangesTheTrail(t *testing.T) {
	n := audittest.NewTenant(t, audittest.Cell(t))
	c := n.Connect(t)
	a := n.Member(tenants.RoleOwner)
	n.Record(t, c, a, audit.Event{Action: "client.read"})
	changes := func(table string) []string {
		return []string{"UPDATE " + table + " SET " + map[string]string{"audit_entry": "action = 'x'", "audit_epoch": "reason = 'x'",
			"audit_leaf": "hash = hash", "audit_hash": "hash = hash", "audit_checkpoint": "note = 'x'", "audit_anchor": "checkpoint = 'x'"}[table],
			"DELETE FROM " + table, "TRUNCATE " + table + " CASCADE"}
	}
	tenantTables := []string{"audit_entry", "audit_epoch", "audit_leaf", "audit_hash", "audit_checkpoint"}
	refuse := func(role, database, schema string, tables []string, codes ...string) {
		conn := audittest.Connect(t, role, database)
		audittest.Exec(t, conn, "SET search_path = "+schema)
		for _, table := range tables {
			for _, sql := range changes(table) {
				_, err := conn.Exec(ctx, sql)
				refused := false
				for _, code := range codes {
					refused = refused || pg.IsCode(err, code)
				}
				require.True(t, refused, "%s as %s: %v", sql, role, err)
			}
		}
	}
	// The login lacks the privilege; owner, sealer and superuser meet the trigger.
	refuse(n.Role, n.Database, n.Role, tenantTables, "42501")
	refuse("cell_owner", n.Database, n.Role, tenantTables, "CS002")
	refuse("cell_sealer", n.Database, n.Role, tenantTables, "42501", "CS002")
	refuse("super", n.Database, n.Role, tenantTables, "CS002")
	super := audittest.Connect(t, "super", n.Database)
	audittest.Exec(t, super, "SET session_replication_role = replica")
	_, err := super.Exec(ctx, "DELETE FROM "+n.Log().Table("audit_entry"))
	require.True(t, pg.IsCode(err, "CS002"), "%v", err)
	n.Record(t, c, a, audit.Event{Action: "client.read"})

	control := audittest.Control(t)
	tables := slices.Concat(tenantTables, []string{"audit_anchor"})
	refuse("controlplane", control, "public", tables, "42501")
	refuse("provisioner", control, "public", tables, "42501", "CS002")
	refuse("platform_owner", control, "public", tables, "CS002")
	refuse("super", control, "public", tables, "CS002")
}

func TestWhoMayReadTheTrail(t *testing.T) {
	cell := audittest.Cell(t)
	n, other := audittest.NewTenant(t, cell), audittest.NewTenant(t, cell)
	c := n.Connect(t)
	n.Record(t, c, n.Member(tenants.RoleNurse), audit.Event{Action: "client.read"})
	count := func(a tenants.Actor) (rows int) {
		require.NoError(t, n.InTx(ctx, c, a, func(tx pgx.Tx) error {
			return tx.QueryRow(ctx, "SELECT count(*) FROM audit_entry").Scan(&rows)
		}))
		return rows
	}
	for role, rows := range map[tenants.Role]int{tenants.RoleOwner: 1, tenants.RoleAuditor: 1, tenants.RoleNurse: 0, tenants.RoleProvider: 0} {
		require.Equal(t, rows, count(n.Member(role)), role)
	}
	require.Equal(t, 1, count(tenants.Actor{Kind: tenants.ActorSystem, TenantID: n.ID}))
	foreign := other.Connect(t)
	_, err := foreign.Exec(ctx, "SELECT seq FROM "+n.Log().Table("audit_entry"))
	require.True(t, pg.IsCode(err, "42501"), "%v", err)
}

func TestTheClientCannotMakeTheInsertFail(t *testing.T) {
	n := audittest.NewTenant(t, audittest.Cell(t))
	c := n.Connect(t)
	a := n.Member(tenants.RoleOwner)
	a.IP, a.Device, a.RequestID = strings.Repeat("9", 500), "\x00\xff\r\n"+strings.Repeat("é", 5000), "\x1b[31m"+strings.Repeat("x", 999)
	n.Record(t, c, a, audit.Event{Action: "client.read", Detail: map[string]string{"k\x00": "v\x00\xff"}})
	for _, wrong := range []audit.Event{{Action: "Client Read"}, {Action: "a", RecordType: "Jane Doe"}, {Action: "a", RecordID: "Jane Doe"}, {Action: "a", Outcome: "maybe"}} {
		require.Error(t, n.InTx(ctx, c, a, func(tx pgx.Tx) error { return audit.Insert(ctx, tx, a, wrong) }))
	}
}
