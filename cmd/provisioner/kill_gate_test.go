package main

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/audit"
	"github.com/caresphere/caresphere/internal/audit/sealer"
	"github.com/caresphere/caresphere/internal/kms"
	"github.com/caresphere/caresphere/internal/testkit"
	"github.com/caresphere/caresphere/internal/testkit/prove"
	"github.com/caresphere/caresphere/tenants"
)

// follows says what of an organization's role and key does not follow its gate.
func (y *yard) follows(id tenants.ID, open bool) error {
	ctx := context.Background()
	var applied, login bool
	if err := y.admin.QueryRow(ctx, `SELECT gate_applied = gate_version FROM organization WHERE id = $1`, id).Scan(&applied); err != nil {
		return err
	}
	if err := y.cellAdmin.QueryRow(ctx, `SELECT rolcanlogin FROM pg_roles WHERE rolname = $1`, tenants.RoleName(id)).Scan(&login); err != nil {
		return err
	}
	s, err := y.keys.Status(ctx, kms.KeyName(id))
	if err != nil {
		return err
	}
	if alive := s.State == kms.StateAlive; !applied || login != open || alive != open {
		return fmt.Errorf("applied %v, login %v, key %s, where open is %v", applied, login, s.State, open)
	}
	if got := y.asTenant(ctx, id, `SELECT 1`) == nil; got != open {
		return fmt.Errorf("its role is let in: %v, where open is %v", got, open)
	}
	return nil
}

// TestKilledWhileAGateMovesItFollows kills the provisioner in each write with which
// it closes and opens a gate, and at any moment.
func TestKilledWhileAGateMovesItFollows(t *testing.T) {
	t.Parallel()
	y := newYard(t, 2, killable...)
	victim, other := y.tenants[0], y.tenants[1]
	ctx := context.Background()
	y.prove("") // so that none is due
	writes := map[string]*testkit.Writes{
		"control": testkit.CountWrites(t, y.control, "public.organization"),
		"cell":    testkit.CountWrites(t, y.cell, "cell"),
	}
	move := func(open bool) {
		if open {
			require.NoError(t, y.fleet.Resume(ctx, riley, victim, "for the test"))
		} else {
			require.NoError(t, y.fleet.Suspend(ctx, riley, victim, "for the test"))
		}
	}
	settled := func(open bool) (wrong int) {
		if err := eventually(func() error { return y.follows(victim, open) }); err != nil {
			t.Error(err)
			wrong++
		}
		if err := y.asTenant(ctx, other, `SELECT 1`); err != nil {
			t.Errorf("the other tenant: %v", err)
			wrong++
		}
		return wrong
	}
	// Each direction has its own writes, and those of the decision itself are not the
	// provisioner's.
	p := y.running
	p.kill(t)
	own := map[bool]asked{}
	for _, open := range []bool{false, true} {
		own[open] = asks(writes, func() { move(open) })
	}
	p = y.start()
	require.Zero(t, settled(true))
	reached, wrong := 0, 0
	for range prove.Size(1, 20) {
		kills := map[bool]*killing{}
		for _, open := range []bool{false, true} {
			kills[open] = newKilling(3, own[open].without(places(t, writes, func() {
				move(open)
				require.Zero(t, settled(open))
			})))
		}
		for more := true; more; {
			more = false
			for _, open := range []bool{false, true} {
				if at, left := kills[open].next(); left {
					more = true
					kills[open].came(y.kill(t, p, at, func() { move(open) }, func() bool { return y.follows(victim, open) == nil }))
					p = y.start()
				} else {
					move(open)
				}
				wrong += settled(open)
			}
		}
		for _, open := range []bool{false, true} {
			kills[open].whole(t)
			reached += kills[open].met
		}
	}
	prove.State(t, prove.KilledGate, reached, wrong)
	y.accounted(t)

	// The twins: a role that may log in, and a key that serves, where the gate is closed.
	move(false)
	require.Zero(t, settled(false))
	p.kill(t)
	noticed := 0
	y.cellExec(`ALTER ROLE ` + tenants.RoleName(victim) + ` LOGIN`)
	if y.follows(victim, false) != nil {
		noticed++
	}
	y.cellExec(`ALTER ROLE ` + tenants.RoleName(victim) + ` NOLOGIN`)
	require.NoError(t, y.keys.Enable(ctx, kms.KeyName(victim)))
	if y.follows(victim, false) != nil {
		noticed++
	}
	prove.Plant(t, prove.KilledGate, 2, noticed)
}

// trail is the tenant's log as the sealer sees it.
func (y *yard) trail(id tenants.ID) sealer.Log {
	y.t.Helper()
	return sealer.Log{Pool: y.open(y.cell.DSN("cell_sealer")), Log: audit.TenantLog(id, tenants.SchemaName(id)), Signer: y.auditKey, Verifier: y.auditPub,
		Anchor: sealer.PostgresAnchor{Pool: y.open(y.control.DSN("provisioner"))}}
}

// whole says what of the tenant's trail is not sealed, anchored and sound.
func (y *yard) whole(l sealer.Log, id tenants.ID, entries int) error {
	ctx := context.Background()
	r, err := l.Check(ctx)
	if err != nil {
		return err
	}
	if len(r.Findings) > 0 {
		return fmt.Errorf("found %v", r.Findings)
	}
	var sealed, anchored, there int64
	if err := y.cellAdmin.QueryRow(ctx, `SELECT coalesce(max(tree_size), 0), (SELECT count(*) FROM `+l.Log.Table("audit_entry")+`) FROM `+l.Log.Table("audit_checkpoint")).Scan(&sealed, &there); err != nil {
		return err
	}
	if err := y.admin.QueryRow(ctx, `SELECT coalesce(max(tree_size), 0) FROM audit_anchor WHERE log LIKE '%' || $1`, id.String()).Scan(&anchored); err != nil {
		return err
	}
	if there != int64(entries) || sealed != there || anchored != there {
		return fmt.Errorf("%d entries of %d, %d sealed, %d anchored", there, entries, sealed, anchored)
	}
	return nil
}

// TestKilledWhileSealingTheTrailIsWhole kills the provisioner while it writes leaves,
// hashes, checkpoint and anchor of a tenant's trail.
func TestKilledWhileSealingTheTrailIsWhole(t *testing.T) {
	t.Parallel()
	y := newYard(t, 1, killable...)
	id := y.tenants[0]
	ctx := context.Background()
	y.prove("") // so that none is due
	schema, trail := tenants.SchemaName(id), y.trail(id)
	writes := map[string]*testkit.Writes{
		"control": testkit.CountWrites(t, y.control, "public.audit_anchor"),
		"cell":    testkit.CountWrites(t, y.cell, schema+".audit_leaf", schema+".audit_hash", schema+".audit_checkpoint"),
	}
	entries := y.written(id)
	write := func(n int) {
		for range n {
			require.NoError(t, y.inTenant(ctx, id, func(tx pgx.Tx) error {
				if err := audit.Insert(ctx, tx, tenants.Actor{Kind: tenants.ActorSystem, TenantID: id}, audit.Event{Action: "session.end", RecordType: "session"}); err != nil {
					return err
				}
				return audit.Notify(ctx, tx, trail.Log)
			}))
		}
		entries += n
	}
	settled := func() int {
		if err := eventually(func() error { return y.whole(trail, id, entries) }); err != nil {
			t.Error(err)
			return 1
		}
		return 0
	}
	p := y.running
	reached, wrong := 0, 0
	for range prove.Size(1, 6) {
		kills := newKilling(4, places(t, writes, func() {
			write(3)
			require.Zero(t, settled())
		}))
		for at, more := kills.next(); more; at, more = kills.next() {
			want := entries + 3
			kills.came(y.kill(t, p, at, func() { write(3) }, func() bool { return y.whole(trail, id, want) == nil }))
			p = y.start()
			wrong += settled()
		}
		kills.whole(t)
		reached += kills.met
	}
	prove.State(t, prove.KilledSealing, reached, wrong)
	// The twin: an entry that the kill would have cost.
	noticed := 0
	if y.whole(trail, id, entries+1) != nil {
		noticed++
	}
	prove.Plant(t, prove.KilledSealing, 1, noticed)
}

// written is how many entries the tenant's trail has.
func (y *yard) written(id tenants.ID) (n int) {
	y.t.Helper()
	require.NoError(y.t, y.cellAdmin.QueryRow(context.Background(), `SELECT count(*) FROM `+tenants.SchemaName(id)+`.audit_entry`).Scan(&n))
	return n
}
