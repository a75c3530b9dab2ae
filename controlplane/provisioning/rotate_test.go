package provisioning_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/controlplane/cptest"
	"github.com/caresphere/caresphere/controlplane/provisioning"
	"github.com/caresphere/caresphere/internal/kms"
	"github.com/caresphere/caresphere/internal/phi"
	"github.com/caresphere/caresphere/internal/tenantdb"
	"github.com/caresphere/caresphere/tenants"
)

// impatient is a provisioner like b's whose graces are over at once.
func (b *bundle) impatient(t testing.TB) *provisioning.Provisioner {
	t.Helper()
	c := b.config
	c.RotateGrace, c.Holder = time.Millisecond, "impatient"
	p, err := provisioning.New(c)
	require.NoError(t, err)
	return p
}

// asked plants what an operator's question leaves.
func (b *bundle) asked(t testing.TB, org tenants.ID) tenants.ID {
	t.Helper()
	id := tenants.NewID()
	b.exec(t, `INSERT INTO key_rotation (id, organization_id, cell_id, asked_by) VALUES ($1, $2, 'main', 'operator')`, id, org)
	return id
}

// rotated takes the rotation that is under way to its end.
func rotated(ctx context.Context, p *provisioning.Provisioner, org tenants.ID) error {
	for {
		wait, err := p.RotateKey(ctx, org)
		if err != nil || wait == 0 {
			return err
		}
		if wait > time.Second {
			return fmt.Errorf("its grace lasts %s more", wait)
		}
	}
}

// worker is one as seen from data keys.
func (b *bundle) worker() cptest.Worker {
	return cptest.Worker{KMS: b.keys, Cell: b.cellAdmin, System: func(ctx context.Context, tenant tenants.ID, fn func(pgx.Tx) error) error {
		conn, key, err := b.login(ctx, tenant)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close(ctx) }()
		return as(conn, key, tenantdb.KindSystem, tenants.Actor{TenantID: tenant}, fn)
	}}
}

func TestAKeyIsRotatedAndNothingStaysWrappedByTheOldVersion(t *testing.T) {
	ctx, b := context.Background(), setup(t)
	o, other := b.provisioned(t), b.provisioned(t)
	records, others := b.worker().Seal(t, o.id, 3), b.worker().Seal(t, other.id, 1)
	old, err := tenantdb.LoadCredential(ctx, b.cellAdmin, o.id)
	require.NoError(t, err)
	sealed := bytes.Clone(old.Sealed)
	p := b.impatient(t)
	require.NoError(t, rotated(ctx, p, o.id), "there is nothing to do")

	id := b.asked(t, o.id)
	require.NoError(t, rotated(ctx, p, o.id))
	require.NoError(t, b.worker().Turned(ctx, o.id, 2, records))
	require.NoError(t, rotated(ctx, p, o.id), "once more is nothing")
	require.NoError(t, b.worker().Turned(ctx, o.id, 2, records))
	require.Equal(t, "done 1 2 4", b.text(t, `SELECT concat_ws(' ', state, from_version, to_version, wraps) FROM key_rotation WHERE id = $1`, id))
	require.Equal(t, "key.rotate.begin key.rotate.rotated key.rotate.rewrapped key.rotate.done",
		b.text(t, `SELECT string_agg(action, ' ' ORDER BY seq) FROM audit_entry WHERE record_id = $1`, id.String()))
	require.Equal(t, "system key.rewrap 3", b.cellText(t, `SELECT concat_ws(' ', actor_kind, action, detail->>'data_keys') FROM `+
		tenants.SchemaName(o.id)+`.audit_entry WHERE record_id = $1`, id.String()), "the tenant's own trail says it too")

	// What was sealed stays as it is, to the byte; what wraps it does not, and the old
	// wrap opens nothing any more.
	fresh, err := tenantdb.LoadCredential(ctx, b.cellAdmin, o.id)
	require.NoError(t, err)
	require.Equal(t, sealed, fresh.Sealed)
	_, err = b.keys.Unwrap(ctx, kms.KeyName(o.id), tenantdb.Purpose, fresh.DataKeyID, fresh.WrappedKey)
	require.NoError(t, err)
	_, err = b.keys.Unwrap(ctx, kms.KeyName(o.id), tenantdb.Purpose, old.DataKeyID, old.WrappedKey)
	require.ErrorIs(t, err, kms.ErrVersionRetired)

	// The other tenant's key is as it was, and the next rotation goes one further.
	require.NoError(t, b.worker().Turned(ctx, other.id, 1, others))
	b.asked(t, o.id)
	require.NoError(t, rotated(ctx, p, o.id))
	require.NoError(t, b.worker().Turned(ctx, o.id, 3, records))
}

func TestTheOldVersionServesThroughTheGrace(t *testing.T) {
	ctx, b := context.Background(), setup(t)
	o := b.provisioned(t)
	records := b.worker().Seal(t, o.id, 2)
	key, late := kms.KeyName(o.id), tenants.NewID()
	// A worker that got its data key just before.
	made, err := b.keys.NewDataKey(ctx, key, "field", late)
	require.NoError(t, err)
	id := b.asked(t, o.id)
	wait, err := b.p.RotateKey(ctx, o.id)
	require.NoError(t, err)
	require.InDelta(t, provisioning.DefaultRotateGrace.Seconds(), wait.Seconds(), 60)
	wait, err = b.p.RotateKey(ctx, o.id)
	require.NoError(t, err)
	require.Positive(t, wait, "it waits for its grace however often it is asked")
	require.Equal(t, "grace", b.text(t, `SELECT state FROM key_rotation WHERE id = $1`, id))
	_, err = b.keys.Unwrap(ctx, key, "field", late, made.Wrapped)
	require.NoError(t, err, "in the grace the old version unwraps")

	// It stores it late, and its wrap is renewed before the old version is destroyed.
	require.NoError(t, b.worker().Add(ctx, o.id, phi.StoredKey{ID: late, Purpose: "field", Wrapped: made.Wrapped, Version: made.Version}))
	b.exec(t, `UPDATE key_rotation SET retire_after = now() WHERE id = $1`, id)
	require.NoError(t, rotated(ctx, b.p, o.id))
	require.NoError(t, b.worker().Turned(ctx, o.id, 2, records))
	stored, err := b.worker().ByID(ctx, o.id, late)
	require.NoError(t, err)
	plain, err := b.keys.Unwrap(ctx, key, "field", late, stored.Wrapped)
	require.NoError(t, err)
	require.Equal(t, made.Plain, plain)
}

func TestReadsAndWritesGoOnWhileAKeyRotates(t *testing.T) {
	ctx, b := context.Background(), setup(t)
	o := b.provisioned(t)
	records := b.worker().Seal(t, o.id, 3)
	p := b.impatient(t)
	stop, failed := make(chan struct{}), make(chan error, 1)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				failed <- nil
				return
			default:
			}
			// Each round is a worker that remembers nothing, on a day of its own.
			c, err := phi.NewCipher(b.keys, b.worker(), phi.Options{Now: func() time.Time { return time.Now().Add(time.Duration(n) * 24 * time.Hour) }})
			if err == nil {
				_, err = c.Open(ctx, records[n%len(records)].Place, records[n%len(records)].Sealed)
			}
			if err == nil {
				_, err = c.Seal(ctx, records[0].Place, phi.NewText("x"))
			}
			c.Close()
			if err != nil {
				failed <- fmt.Errorf("round %d: %w", n, err)
				return
			}
		}
	}()
	keys := func() (n int) {
		require.NoError(t, b.cellAdmin.QueryRow(ctx, `SELECT count(*) FROM `+tenants.SchemaName(o.id)+`.data_key`).Scan(&n))
		return n
	}
	const rotations = 3
	for range rotations {
		// The grace outlasts what the worker does with a wrap that it was given.
		id := b.asked(t, o.id)
		_, err := b.p.RotateKey(ctx, o.id)
		require.NoError(t, err)
		// Two rounds later the one that the rotation fell into is over.
		there := keys()
		require.Eventually(t, func() bool { return keys() >= there+2 }, 60*time.Second, 5*time.Millisecond, "the worker goes on")
		b.exec(t, `UPDATE key_rotation SET retire_after = now() WHERE id = $1`, id)
		require.NoError(t, rotated(ctx, p, o.id))
	}
	close(stop)
	require.NoError(t, <-failed)
	require.NoError(t, b.worker().Turned(ctx, o.id, 1+rotations, records))
}

func TestAClosedGateKeepsItsKey(t *testing.T) {
	ctx, b := context.Background(), setup(t)
	o := b.provisioned(t)
	records := b.worker().Seal(t, o.id, 1)
	p := b.impatient(t)
	id := b.asked(t, o.id)
	set := func(state, gate string) {
		b.exec(t, `UPDATE organization SET state = $2, gate_mode = $3, gate_version = gate_version + 1 WHERE id = $1`, o.id, state, gate)
		require.NoError(t, b.p.ApplyGate(ctx, o.id))
	}
	for _, state := range []string{"suspended", "quarantined", "live"} {
		set(state, "closed")
		err := rotated(ctx, p, o.id)
		require.True(t, tenants.IsKind(err, tenants.KindGateClosed), "%s: %v", state, err)
	}
	require.Contains(t, b.text(t, `SELECT reason FROM key_rotation WHERE id = $1`, id), "gate is closed")
	s, err := b.keys.Status(ctx, kms.KeyName(o.id))
	require.NoError(t, err)
	require.Equal(t, 1, s.Version)
	set("live", "open")
	require.NoError(t, rotated(ctx, p, o.id))
	require.NoError(t, b.worker().Turned(ctx, o.id, 2, records))
	require.Empty(t, b.text(t, `SELECT reason FROM key_rotation WHERE id = $1`, id))

	// A key that was destroyed ends its rotation for good.
	id = b.asked(t, o.id)
	require.NoError(t, b.keys.Shred(ctx, kms.KeyName(o.id)))
	var f *provisioning.Failure
	require.ErrorAs(t, rotated(ctx, p, o.id), &f)
	require.True(t, f.Final)
	require.Equal(t, "failed the key of this organization was destroyed", b.text(t, `SELECT concat_ws(' ', state, reason) FROM key_rotation WHERE id = $1`, id))
	require.Equal(t, "failed", b.text(t, `SELECT outcome FROM audit_entry WHERE action = 'key.rotate.failed' AND record_id = $1`, id.String()))
	require.NoError(t, rotated(ctx, p, o.id))
}

func TestOldKeysAreAskedForBySchedule(t *testing.T) {
	ctx, b := context.Background(), setup(t)
	young, old, closed := b.provisioned(t), b.provisioned(t), b.provisioned(t)
	for _, o := range []*tenant{old, closed} {
		b.exec(t, `UPDATE provisioning_step SET finished_at = now() - interval '2 years' WHERE organization_id = $1 AND step = 'key'`, o.id)
	}
	b.exec(t, `UPDATE organization SET gate_mode = 'closed' WHERE id = $1`, closed.id)
	for _, want := range []int{1, 0} {
		n, err := b.p.AskDueRotations(ctx)
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
	require.Equal(t, old.id.String()+" schedule", b.text(t, `SELECT string_agg(organization_id || ' ' || asked_by, ',') FROM key_rotation`))
	require.NoError(t, rotated(ctx, b.impatient(t), old.id))
	n, err := b.p.AskDueRotations(ctx)
	require.NoError(t, err)
	require.Zero(t, n, "a key that was just rotated is young")
	s, err := b.keys.Status(ctx, kms.KeyName(young.id))
	require.NoError(t, err)
	require.Equal(t, 1, s.Version)
	b.exec(t, `UPDATE key_rotation SET rotated_at = rotated_at - interval '2 years', asked_at = asked_at - interval '2 years'`)
	n, err = b.p.AskDueRotations(ctx)
	require.NoError(t, err)
	require.Equal(t, 1, n, "and is due again when it is old")
}

// flaky is a KMS that does not answer while it is away.
type flaky struct {
	provisioning.Rewrapper
	away bool
}

func (f *flaky) Rewrap(ctx context.Context, key, purpose string, id tenants.ID, wrapped []byte) ([]byte, int, error) {
	if f.away {
		return nil, 0, fmt.Errorf("planted: %w", kms.ErrUnavailable)
	}
	return f.Rewrapper.Rewrap(ctx, key, purpose, id, wrapped)
}

// TestNothingIsDestroyedBeforeAllIsRewrapped lets the KMS be away in the middle, and
// damages a wrap: the old version serves until it is made good.
func TestNothingIsDestroyedBeforeAllIsRewrapped(t *testing.T) {
	ctx, b := context.Background(), setup(t)
	o := b.provisioned(t)
	records := b.worker().Seal(t, o.id, 2)
	kept := &flaky{Rewrapper: b.keys}
	b.config.Rewrapper = kept
	p := b.impatient(t)
	id := b.asked(t, o.id)
	stopped := func(reason string) {
		t.Helper()
		require.Equal(t, "rewrapping "+reason, b.text(t, `SELECT concat_ws(' ', state, reason) FROM key_rotation WHERE id = $1`, id))
		s, err := b.keys.Status(ctx, kms.KeyName(o.id))
		require.NoError(t, err)
		require.Equal(t, kms.Status{State: kms.StateAlive, Version: 2, MinVersion: 1}, s, "it is rotated once, however often it is tried")
	}
	kept.away = true
	for range 2 {
		require.ErrorIs(t, rotated(ctx, p, o.id), kms.ErrUnavailable)
		stopped("the key service does not answer; it is tried again")
	}
	kept.away = false

	flip := func() {
		_, err := b.cellAdmin.Exec(ctx, `UPDATE `+tenants.SchemaName(o.id)+`.data_key SET wrapped = set_byte(wrapped, 40, get_byte(wrapped, 40) # 1)
			WHERE id = (SELECT max(id::text)::uuid FROM `+tenants.SchemaName(o.id)+`.data_key)`)
		require.NoError(t, err)
	}
	flip()
	for range 2 {
		require.ErrorIs(t, rotated(ctx, p, o.id), kms.ErrIntegrity)
		stopped("a wrapped key of this organization failed its check: a person has to look")
	}
	flip()
	require.NoError(t, rotated(ctx, p, o.id))
	require.NoError(t, b.worker().Turned(ctx, o.id, 2, records))
}
