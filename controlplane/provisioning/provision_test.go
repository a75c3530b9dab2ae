package provisioning_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/provisioning"
	"github.com/caresphere/caresphere/internal/kms"
	"github.com/caresphere/caresphere/internal/pg"
	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/tenants"
)

func TestProvisioningMakesATenant(t *testing.T) {
	ctx, b := context.Background(), setup(t)
	o := b.provisioned(t)

	for _, step := range provisioning.Steps() {
		require.Equal(t, "done", b.text(t, `SELECT state FROM provisioning_step WHERE organization_id = $1 AND step = $2`, o.id, step), step)
	}
	require.Equal(t, "open", b.text(t, `SELECT gate_mode FROM organization WHERE id = $1`, o.id))
	require.Equal(t, "true", b.text(t, `SELECT (gate_applied = gate_version)::text FROM organization WHERE id = $1`, o.id))
	require.Equal(t, "1", b.text(t, `SELECT count(*)::text FROM audit_entry WHERE action = 'organization.live' AND organization_id = $1`, o.id))
	findings, err := provisioning.CheckIsolation(ctx, b.config.Cell, o.id)
	require.NoError(t, err)
	require.Empty(t, findings)
	status, err := b.keys.Status(ctx, kms.KeyName(o.id))
	require.NoError(t, err)
	require.Equal(t, kms.StateAlive, status.State)
	_, err = os.Stat(filepath.Join(b.objects, "t", o.id.Hex()))
	require.NoError(t, err)

	conn, key := o.login(t)
	require.NoError(t, as(conn, key, tenantdb.KindLookup, o.actor(o.owner, ""), func(tx pgx.Tx) error {
		var role, slug string
		err := tx.QueryRow(ctx, `SELECT m.role, s.slug FROM member m CROSS JOIN tenant_setting s`).Scan(&role, &slug)
		require.Equal(t, "owner", role)
		return err
	}))

	before := b.text(t, `SELECT string_agg(step || attempt, ',' ORDER BY position) FROM provisioning_step WHERE organization_id = $1`, o.id)
	require.NoError(t, b.p.Provision(ctx, o.id, true), "a second job finds nothing to do")
	require.Equal(t, before, b.text(t, `SELECT string_agg(step || attempt, ',' ORDER BY position) FROM provisioning_step WHERE organization_id = $1`, o.id))
}

func TestNothingIsMadeWithoutAnAgreementInForce(t *testing.T) {
	ctx, b := context.Background(), setup(t)
	for name, end := range map[string]string{
		"terminated": `UPDATE baa SET state = 'terminated', ended_at = now(), ended_reason = 'test' WHERE organization_id = $1`,
		"none":       `UPDATE baa SET state = 'superseded', ended_at = now() WHERE organization_id = $1`,
	} {
		t.Run(name, func(t *testing.T) {
			org, _ := b.organization(t)
			b.exec(t, end, org)
			err := b.p.Provision(ctx, org, false)
			var f *provisioning.Failure
			require.True(t, errors.As(err, &f), "%v", err)
			require.True(t, f.Final)
			require.Equal(t, "provisioning_failed", b.text(t, `SELECT state FROM organization WHERE id = $1`, org))
			require.Contains(t, b.text(t, `SELECT state_reason FROM organization WHERE id = $1`, org), "no business associate agreement in force")
			b.requireNothingMade(t, org)

			// The twin: with an agreement the same organization is provisioned.
			b.agreement(t, org)
			b.exec(t, `UPDATE organization SET state = 'provisioning' WHERE id = $1`, org)
			require.NoError(t, b.p.Provision(ctx, org, true))
			require.Equal(t, "live", b.text(t, `SELECT state FROM organization WHERE id = $1`, org))
		})
	}
}

func (b *bundle) requireNothingMade(t *testing.T, org tenants.ID) {
	t.Helper()
	require.Equal(t, "0", b.cellText(t, `SELECT count(*)::text FROM pg_namespace WHERE nspname = $1`, tenants.SchemaName(org)))
	require.Equal(t, "0", b.cellText(t, `SELECT count(*)::text FROM pg_roles WHERE rolname = $1`, tenants.RoleName(org)))
	status, err := b.keys.Status(context.Background(), kms.KeyName(org))
	require.NoError(t, err)
	require.Equal(t, kms.StateAbsent, status.State)
	_, err = os.Stat(filepath.Join(b.objects, "t", org.Hex()))
	require.ErrorIs(t, err, os.ErrNotExist)
	require.Equal(t, "closed", b.text(t, `SELECT gate_mode FROM organization WHERE id = $1`, org))
}

func TestAnAgreementThatEndsMidwayStopsTheSteps(t *testing.T) {
	ctx, b := context.Background(), setup(t)
	org, _ := b.organization(t)
	b.probes.refuse = 404
	// The agreement ends when the last step before the probe is recorded.
	b.exec(t, `CREATE FUNCTION end_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		UPDATE baa SET state = 'terminated', ended_at = now() WHERE organization_id = NEW.organization_id AND state = 'executed'; RETURN NULL; END $$`)
	b.exec(t, `ALTER FUNCTION end_it() SECURITY DEFINER`)
	b.exec(t, `CREATE TRIGGER end_it AFTER UPDATE ON provisioning_step FOR EACH ROW WHEN (NEW.step = 'route' AND NEW.state = 'done') EXECUTE FUNCTION end_it()`)
	err := b.p.Provision(ctx, org, false)
	require.ErrorContains(t, err, "no business associate agreement in force")
	require.Equal(t, "closed", b.text(t, `SELECT gate_mode FROM organization WHERE id = $1`, org), "the failure decides the gate anew")
	require.NoError(t, b.p.ApplyGate(ctx, org))
	_, _, err = b.login(ctx, org)
	require.ErrorIs(t, err, kms.ErrKeyDisabled)
}

func TestAFailureIsReadableAndARetryResumes(t *testing.T) {
	ctx, b := context.Background(), setup(t)
	org, _ := b.organization(t)
	// The object store's directory refuses: a file stands where it would go.
	require.NoError(t, os.WriteFile(filepath.Join(b.objects, "t"), nil, 0o600))
	err := b.p.Provision(ctx, org, false)
	var f *provisioning.Failure
	require.True(t, errors.As(err, &f), "%v", err)
	require.Equal(t, "provisioning", b.text(t, `SELECT state FROM organization WHERE id = $1`, org), "another try is to come")
	reason := b.text(t, `SELECT reason FROM provisioning_step WHERE organization_id = $1 AND state = 'failed' AND step = 'storage'`, org)
	require.NotEmpty(t, reason)
	require.NotContains(t, reason, b.objects, "a reason names no machine's paths")
	require.Error(t, b.p.Provision(ctx, org, true))
	require.Equal(t, "provisioning_failed", b.text(t, `SELECT state FROM organization WHERE id = $1`, org))
	require.Equal(t, "1", b.text(t, `SELECT count(*)::text FROM audit_entry WHERE action = 'organization.provisioning_failed' AND outcome = 'failed' AND organization_id = $1`, org))

	require.NoError(t, os.Remove(filepath.Join(b.objects, "t")))
	b.exec(t, `UPDATE organization SET state = 'provisioning' WHERE id = $1`, org)
	require.NoError(t, b.p.Provision(ctx, org, false))
	require.Equal(t, "live", b.text(t, `SELECT state FROM organization WHERE id = $1`, org))
	require.Equal(t, "1", b.text(t, `SELECT attempt::text FROM provisioning_step WHERE organization_id = $1 AND step = 'schema'`, org), "what was done is not done again")
}

func TestOneLeaseAtATimeAndTheStaleOneIsFenced(t *testing.T) {
	ctx, b := context.Background(), setup(t)
	org, _ := b.organization(t)
	b.exec(t, `INSERT INTO provisioning_lease (organization_id, fence, holder, until) VALUES ($1, 7, 'other', now() + interval '1 minute')`, org)
	require.ErrorIs(t, b.p.Provision(ctx, org, false), provisioning.ErrBusy)
	b.requireNothingMade(t, org)

	// While the steps run another process takes the lease: nothing is written after.
	b.exec(t, `UPDATE provisioning_lease SET until = now() - interval '1 minute' WHERE organization_id = $1`, org)
	b.exec(t, `CREATE FUNCTION steal() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
		UPDATE provisioning_lease SET fence = fence + 1, holder = 'thief', until = now() + interval '1 minute'
		WHERE organization_id = NEW.organization_id; RETURN NULL; END $$`)
	b.exec(t, `CREATE TRIGGER steal AFTER UPDATE ON provisioning_step FOR EACH ROW WHEN (NEW.step = 'tables' AND NEW.state = 'done') EXECUTE FUNCTION steal()`)
	require.ErrorIs(t, b.p.Provision(ctx, org, true), provisioning.ErrFenced)
	require.Equal(t, "provisioning", b.text(t, `SELECT state FROM organization WHERE id = $1`, org))
	require.Equal(t, "waiting", b.text(t, `SELECT state FROM provisioning_step WHERE organization_id = $1 AND step = 'isolation'`, org))
	require.Equal(t, "thief", b.text(t, `SELECT holder FROM provisioning_lease WHERE organization_id = $1`, org), "the stale one does not end the other's lease")

	// The cell refuses an older fence too: here, one that is older by the time of the key.
	b.exec(t, `DROP TRIGGER steal ON provisioning_step`)
	b.exec(t, `UPDATE provisioning_lease SET until = now() - interval '1 minute' WHERE organization_id = $1`, org)
	c, keys := b.config, &heldKeys{KMS: b.keys}
	keys.ensure = func() {
		_, err := b.cellAdmin.Exec(ctx, `UPDATE cell.tenant_fence SET fence = fence + 100 WHERE tenant_id = $1`, org)
		require.NoError(t, err)
	}
	c.Keys = keys
	overtaken, err := provisioning.New(c)
	require.NoError(t, err)
	require.ErrorIs(t, overtaken.Provision(ctx, org, true), provisioning.ErrFenced)
	require.Equal(t, "0", b.cellText(t, `SELECT count(*)::text FROM cell.tenant_credential WHERE tenant_id = $1`, org))

	require.NoError(t, b.p.Provision(ctx, org, true))
	require.Equal(t, "live", b.text(t, `SELECT state FROM organization WHERE id = $1`, org))
}

func TestOnlyTheProbeLeadsToLive(t *testing.T) {
	ctx, b := context.Background(), setup(t)
	org := b.stoppedAtTheProbe(t)
	require.Equal(t, "provisioning", b.text(t, `SELECT state FROM organization WHERE id = $1`, org))
	require.Equal(t, "probe", b.text(t, `SELECT gate_mode FROM organization WHERE id = $1`, org))
	require.NoError(t, b.p.Provision(ctx, org, false))
	require.Equal(t, "live", b.text(t, `SELECT state FROM organization WHERE id = $1`, org))
}

// TestStepsWhoseRecordIsLostAreTakenAgain: what nobody is recorded to have begun is not
// looked at first, so what acts has to find by itself that it is there.
func TestStepsWhoseRecordIsLostAreTakenAgain(t *testing.T) {
	ctx, b := context.Background(), setup(t)
	org := b.stoppedAtTheProbe(t)
	b.exec(t, `DELETE FROM provisioning_step WHERE organization_id = $1`, org)
	require.NoError(t, b.p.Provision(ctx, org, false))

	require.Equal(t, "live", b.text(t, `SELECT state FROM organization WHERE id = $1`, org))
	require.Equal(t, "1", b.text(t, `SELECT count(*)::text FROM audit_entry WHERE action = 'organization.live' AND organization_id = $1`, org))
	schema := tenants.SchemaName(org)
	require.Equal(t, "1 1 1", b.cellText(t, `SELECT concat_ws(' ', (SELECT count(*) FROM `+schema+`.member), (SELECT count(*) FROM `+schema+`.tenant_setting),
		(SELECT count(*) FROM `+schema+`.audit_entry WHERE action = 'member.create'))`))
	findings, err := provisioning.CheckIsolation(ctx, b.config.Cell, org)
	require.NoError(t, err)
	require.Empty(t, findings)
	status, err := b.keys.Status(ctx, kms.KeyName(org))
	require.NoError(t, err)
	require.Equal(t, 1, status.Version)
	require.Equal(t, kms.StateAlive, status.State)
}

func TestGateClosesAndOpens(t *testing.T) {
	ctx, b := context.Background(), setup(t)
	o := b.provisioned(t)
	conn, _ := o.login(t)
	listener, err := pg.Connect(ctx, b.cell.DSN("cell_worker"), pg.Options{})
	require.NoError(t, err)
	defer func() { _ = listener.Close(ctx) }()
	_, err = listener.Exec(ctx, "LISTEN "+tenantdb.GateChannel)
	require.NoError(t, err)

	decide := func(state string) {
		b.exec(t, `UPDATE organization SET state = $2 WHERE id = $1`, o.id, state)
		require.NoError(t, pg.InTx(ctx, b.config.Control, func(tx pgx.Tx) error { return b.config.Gatekeeper.Decide(ctx, tx, o.id) }))
	}
	decide("suspended")
	require.NoError(t, b.p.ApplyGate(ctx, o.id))
	require.NoError(t, b.p.ApplyGate(ctx, o.id), "twice is the same")
	wait, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	n, err := listener.WaitForNotification(wait)
	require.NoError(t, err)
	require.Equal(t, tenantdb.HintTag(tenantdb.GateChannel, o.id), n.Payload)
	require.NotContains(t, n.Payload, o.id.Hex(), "others may listen: they learn no tenant's id")
	require.Error(t, conn.Ping(ctx), "a session that was open is ended")
	_, _, err = b.login(ctx, o.id)
	require.ErrorIs(t, err, kms.ErrKeyDisabled)
	cert, err := b.config.Authority.Issue(o.id, time.Now())
	require.NoError(t, err)
	_, err = pg.Connect(ctx, b.cell.DSN("cell_worker"), pg.Options{User: tenants.RoleName(o.id), Certificate: &cert})
	require.True(t, pg.IsCode(err, "28000"), "a good certificate does not let the role in: %v", err)

	decide("live")
	require.NoError(t, b.p.ApplyGate(ctx, o.id))
	o.login(t)
}

func TestCredentialsAreRenewedAtHalfLife(t *testing.T) {
	ctx, b := context.Background(), setup(t)
	o := b.provisioned(t)
	n, err := b.p.RenewCredentials(ctx)
	require.NoError(t, err)
	require.Zero(t, n, "a fresh one stays")
	old, err := tenantdb.LoadCredential(ctx, b.config.Cell, o.id)
	require.NoError(t, err)

	later := b.config
	later.Now = func() time.Time { return time.Now().Add(tenantdb.CertificateLife/2 + time.Hour) }
	p, err := provisioning.New(later)
	require.NoError(t, err)
	n, err = p.RenewCredentials(ctx)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	fresh, err := tenantdb.LoadCredential(ctx, b.config.Cell, o.id)
	require.NoError(t, err)
	require.True(t, fresh.NotAfter.After(old.NotAfter))
	_, before, err := tenantdb.OpenCredential(ctx, b.keys, old)
	require.NoError(t, err)
	_, after, err := tenantdb.OpenCredential(ctx, b.keys, fresh)
	require.NoError(t, err)
	require.True(t, before == after, "workers with the old one go on signing")
}
